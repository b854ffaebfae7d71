"""What editing a recorded block needs, and what makes the edits: here or on many workers.

``Block (rows of a few steps) -> EditEngine -> (Block, Edits) in the same order``

A block is the unit of work of every engine, cut by the episode's length and the batch size alone,
and :meth:`EditTask.edit` turns it into edits by itself: where and when that happens cannot show in
the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from spie_robo.data.episode_seed import episode_seed
from spie_robo.data.frames import camera_frames
from spie_robo.data.store import fields
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.editing.description import EditorDescription
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.types import GuardedEdit

Rows: TypeAlias = dict[str, NDArray[Any]]
Edits: TypeAlias = dict[str, list[GuardedEdit]]
"""Of each camera: one result a step."""


@dataclass(frozen=True)
class Block:
    """A few steps of one episode.

    Attributes:
        episode: Its index.
        start: First step.
        rows: Arrays of shape (steps, ...).
        last: Whether the episode ends with it.
    """

    episode: int
    start: int
    rows: Mapping[str, NDArray[Any]]
    last: bool

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(next(iter(self.rows.values())))

    def __str__(self) -> str:
        """Where it is, for people."""
        return f"episode {self.episode}, steps {self.start} to {self.start + self.steps - 1}"


@dataclass(frozen=True)
class EditTask:
    """What is the same for every block of a conversion.

    Attributes:
        metadata: What is known about the source's cameras.
        cameras: Cameras to edit.
        batch_size: Frames in one call of the editor.
        seed: Seed of the run.
        threads: torch's threads, wherever the edits are made; None: as many as are used there.
    """

    metadata: StoreMetadata
    cameras: tuple[str, ...]
    batch_size: int = 8
    seed: int = 0
    threads: int | None = None

    def inputs(self, block: Block) -> Block:
        """The block with only those arrays that its edits depend on."""
        keys = {
            key(camera)
            for camera in self.cameras
            for key in (
                fields.rgb_key,
                fields.raw_key,
                fields.depth_key,
                fields.segmentation_key,
                fields.extrinsics_key,
            )
        }
        keys -= {fields.rgb_key(c) for c in self.cameras if fields.raw_key(c) in block.rows}
        return replace(block, rows={k: rows for k, rows in block.rows.items() if k in keys})

    def calls(self, block: Block, retries: int) -> int:
        """How often the editor is called for a block at most, ``retries`` included."""
        batches = -(-block.steps * len(self.cameras) // self.batch_size)
        return batches * (1 + retries)

    def edit(self, guarded: GuardedEditor, block: Block) -> Edits:
        """Edit and judge the frames of a block.

        Raises:
            EditorError: If the editor fails.
        """
        size, cameras = self.batch_size, self.cameras
        frames = [f for camera in cameras for f in camera_frames(self.metadata, block.rows, camera)]
        seed = episode_seed(self.seed, block.episode)
        edits: list[GuardedEdit] = []
        for start in range(0, len(frames), size):
            batch = frames[start : start + size]
            edits += guarded.edit(batch, [seed] * len(batch))
        steps = len(frames) // max(1, len(cameras))
        return {c: edits[n * steps : (n + 1) * steps] for n, c in enumerate(cameras)}


class EditEngine(Protocol):
    """Edits blocks, in this process or on Ray's workers."""

    @property
    def description(self) -> EditorDescription:
        """Its editor and guard, and how they are used."""
        ...

    def edit(self, task: EditTask, blocks: Iterable[Block]) -> Iterator[tuple[Block, Edits]]:
        """Every block with its edits, in order; few blocks are held at a time.

        Raises:
            EditorError: If the editor fails, once the blocks before have been given.
        """
        ...
