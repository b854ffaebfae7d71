"""Editors and a guard that are quick, and some that come to harm; they import little.

Ray's workers load them: what a worker imports is what a trial waits for.
"""

from __future__ import annotations

import os
import signal
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.types import Deviation, EditResult, GuardVerdict

PIECE = 32 * 2**20
MOST = 3 * 2**30
"""What the greedy editor takes at most."""


class Swap:
    """A fake editor: red and blue change places, and one pixel holds the seed."""

    id = "swap@1"

    def edit(self, frames: Any, references: Any = None, instruction: Any = None, seeds: Any = None):
        """One edit a frame."""
        results = []
        for frame, seed in zip(frames, seeds, strict=True):
            rgb = frame.rgb[..., ::-1].copy()
            rgb[0, 0] = seed % 256
            results.append(EditResult(rgb, seed, "swap", self.id, 1))
        return results


class Even:
    """A fake guard, which accepts about half."""

    id = "even@1"

    def judge(self, frame: Any, edit: EditResult) -> GuardVerdict:
        """By the parity of a pixel."""
        accepted = int(edit.rgb[0, 1, 0]) % 2 == 0
        return GuardVerdict(accepted, (Deviation("moved_px", 0.5, 2.0),), "", "simulator")

    def judge_batch(self, frames: Any, edits: Any) -> list[GuardVerdict]:
        """One verdict an edit."""
        return [self.judge(f, e) for f, e in zip(frames, edits, strict=True)]


def sign(rgb: NDArray[np.uint8]) -> int:
    """What tells a picture from all others: its checksum."""
    return zlib.crc32(rgb.tobytes())


class Watched(Swap):
    """Writes down who edits what: a line a call, with the process and the first frame's sign."""

    def __init__(self, folder: Path, pace: float) -> None:
        """Take ``pace`` seconds a call, so that there is a middle to die in."""
        self.folder, self.pace = folder, pace

    def edit(self, frames: Any, references: Any = None, instruction: Any = None, seeds: Any = None):
        """Edits of the right kind."""
        with (self.folder / "calls").open("a") as file:
            file.write(f"{os.getpid()} {sign(frames[0].rgb)}\n")
        self.harm([sign(frame.rgb) for frame in frames])
        time.sleep(self.pace)
        return super().edit(frames, references, instruction, seeds)

    def harm(self, signs: list[int]) -> None:
        """Nothing happens."""


class Deadly(Watched):
    """Kills its own process over one frame, each time."""

    def __init__(self, folder: Path, pace: float, victim: int) -> None:
        """Die over the frame of this sign."""
        super().__init__(folder, pace)
        self.victim = victim

    def harm(self, signs: list[int]) -> None:
        """Die."""
        if self.victim in signs:
            os.kill(os.getpid(), signal.SIGKILL)


class Greedy(Deadly):
    """Fills the memory when it first sees one frame, until somebody kills it for that."""

    def harm(self, signs: list[int]) -> None:
        """Take memory, and give up when nobody minds."""
        taken = self.folder / "greedy"
        if self.victim not in signs or taken.exists():
            return
        taken.write_text(str(os.getpid()))
        held: list[NDArray[np.uint8]] = []
        while len(held) * PIECE < MOST:
            held.append(np.ones(PIECE, np.uint8))  # written to, so that it is really there
            time.sleep(0.01)
        time.sleep(2.0)
        (self.folder / "gave_up").touch()


def load(kind: type[Watched], folder: Path, *arguments: Any) -> GuardedEditor:
    """What a worker loads; it leaves its process id in ``folder/workers``."""
    (folder / "workers" / str(os.getpid())).touch()
    return GuardedEditor(kind(folder, *arguments), Even())
