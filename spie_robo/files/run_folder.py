"""The folder of a training run: whose it is, its checkpoints, and where a resumed run goes on.

::

    OUT/checkpoints/epoch_00003/   whole or absent: staged under another name, then renamed
        complete.json              settings and position; written last, so that it marks a whole one
        ...                        what the run keeps beside it
    OUT/logs/                      for people; the lock of the run lies here

The two newest checkpoints are kept. A run that was cut off before its first one left only these two
folders, and may begin again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from safetensors import SafetensorError

from spie_robo.errors import ConfigError, TrainingError
from spie_robo.files.permissions import share_weights

FOLDER = "checkpoints"
LOGS = "logs"
MARKER = "complete.json"
_KEPT = 2
_THREADS = "torch_threads"
_MOST_THREADS = 1024


@final
@dataclass(frozen=True)
class RunFolder:
    """A run's folder, and how its checkpoints are called.

    Attributes:
        out: The folder.
        unit: What is counted: ``"epoch"`` or ``"step"``.
        digits: Digits of the count in a checkpoint's name.
    """

    out: Path
    unit: str
    digits: int

    def checkpoints(self) -> list[Path]:
        """The whole checkpoints, oldest first."""
        pattern = f"{self.unit}_{'?' * self.digits}/{MARKER}"
        return sorted(path.parent for path in (self.out / FOLDER).glob(pattern))

    def claim(self, resume: bool, product: str, own: Sequence[str] = ()) -> None:
        """Refuse a folder that is not this run's to write.

        Args:
            resume: Whether a run that is there is to go on.
            product: Name of the file that says that a finished result is there.
            own: Further names that a run leaves before its first checkpoint.

        Raises:
            ConfigError: If ``out`` is a file, or holds another run or other files; or holds none
                to resume.
        """
        out, found = self.out, self.checkpoints()
        if out.exists() and not out.is_dir():
            raise ConfigError(f"--out {out}: expected a folder, this is a file.")
        if found and not resume:
            raise ConfigError(
                f"{out} holds a run ({found[-1].name}). Go on with --resume, or choose another "
                "folder."
            )
        if found:
            _use_threads(found[-1])
            return
        strange = sorted({path.name for path in out.glob("*")} - {FOLDER, LOGS, *own})
        if strange and resume:
            raise ConfigError(
                f"{out} holds no whole checkpoint to resume from. Choose another folder."
            )
        if product in strange:
            raise ConfigError(f"{out} holds a finished result already. Choose another folder.")
        if strange:
            raise ConfigError(
                f"--out {out}: expected a new or an empty folder, found {strange[0]!r} in it."
            )

    def save(self, count: int, marker: Mapping[str, Any], write: Callable[[Path], None]) -> Path:
        """Write a checkpoint, whole or not at all, and drop old ones.

        Args:
            count: Epochs or steps done.
            marker: What ``complete.json`` says, in plain values.
            write: Writes everything else into the folder that it is given.

        Raises:
            TrainingError: If the disk refuses; earlier checkpoints are kept.
        """
        folder = self.out / FOLDER / f"{self.unit}_{count:0{self.digits}d}"
        staged = folder.with_suffix(".partial")
        try:
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir(parents=True)
            write(staged)
            share_weights(staged)
            known = {**marker, _THREADS: torch.get_num_threads()}
            (staged / MARKER).write_text(json.dumps(known, indent=2) + "\n")
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(staged, folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(staged, ignore_errors=True)
            raise TrainingError(
                f"{folder}: the checkpoint cannot be written: {error}. Make room, or check the "
                "permissions, then go on with --resume; earlier checkpoints are kept."
            ) from error
        self._drop_old()
        return folder

    def _drop_old(self) -> None:
        """Delete all but the newest checkpoints, and what a kill left of some."""
        kept = set(self.checkpoints()[-_KEPT:])
        for folder in (self.out / FOLDER).glob(f"{self.unit}_{'?' * self.digits}"):
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)


def _use_threads(checkpoint: Path) -> None:
    """Go on with as many threads as the run began with: last bits of sums depend on them."""
    with suppress(OSError, ValueError, TypeError, KeyError):  # told by who reads the checkpoint
        count = json.loads((checkpoint / MARKER).read_text())[_THREADS]
        if isinstance(count, int) and 1 <= count <= _MOST_THREADS:
            torch.set_num_threads(count)


def require_same_settings(
    folder: Path,
    recorded: Mapping[str, Any],
    settings: Mapping[str, Any],
    may_change: Sequence[str],
) -> None:
    """Refuse to resume a checkpoint under other settings.

    Args:
        folder: The checkpoint.
        recorded: Settings that it was written with.
        settings: Those of now, in plain values.
        may_change: Names of those that change no result.

    Raises:
        ConfigError: Naming each that differs.
    """
    changed = [
        f"{name} was {recorded.get(name)!r}, is {value!r}"
        for name, value in settings.items()
        if name not in may_change and recorded.get(name) != value
    ]
    if changed:
        raise ConfigError(
            f"{folder.parent.parent} was trained with other settings: {'; '.join(changed)}. "
            "Resume with those, or choose another folder."
        )
