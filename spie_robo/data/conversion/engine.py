"""Define the block of steps that engines edit, and the interface of the engines.

``Block (rows of a few steps) -> EditEngine -> (Block, Edits) in the same order``

A block is the unit of work of every engine. The episode's length and the batch size alone decide
its bounds, and :meth:`EditTask.edit` depends on nothing but the block: the result is the same
wherever and whenever it runs.
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
"""Results of each camera, one a step."""


@dataclass(frozen=True)
class Block:
    """A few steps of one episode.

    Attributes:
        episode: Index of the episode.
        start: First step.
        rows: Arrays of shape (steps, ...).
        last: Whether the block ends the episode.
        edited: Whether its frames are edited; raw copies of an episode are not.
    """

    episode: int
    start: int
    rows: Mapping[str, NDArray[Any]]
    last: bool
    edited: bool = True

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(next(iter(self.rows.values())))

    def __str__(self) -> str:
        """Return episode and steps, for messages."""
        return f"episode {self.episode}, steps {self.start} to {self.start + self.steps - 1}"


@dataclass(frozen=True)
class EditTask:
    """The settings that all blocks of a conversion share.

    Attributes:
        metadata: Metadata of the source, with its cameras.
        cameras: Cameras to edit.
        batch_size: Frames in one call of the editor.
        seed: Seed of the run.
        threads: Number of torch's threads in the engine; None keeps the number there.
    """

    metadata: StoreMetadata
    cameras: tuple[str, ...]
    batch_size: int = 8
    seed: int = 0
    threads: int | None = None

    def inputs(self, block: Block) -> Block:
        """Return the block with only the arrays that its edits depend on."""
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
        """Return the most calls of the editor for a block, with ``retries``."""
        batches = -(-block.steps * len(self.cameras) // self.batch_size)
        return batches * (1 + retries)

    def edit(self, guarded: GuardedEditor, block: Block) -> Edits:
        """Edit and judge the frames of a block.

        Raises:
            EditorError: If the editor fails.
        """
        size, cameras = self.batch_size, self.cameras
        frames = [f for camera in cameras for f in camera_frames(self.metadata, block.rows, camera)]
        steps = len(frames) // max(1, len(cameras))
        if not block.edited:
            kept = [GuardedEdit(f.rgb, False, None, seed=-1, attempts=0) for f in frames]
            return {c: kept[n * steps : (n + 1) * steps] for n, c in enumerate(cameras)}
        seed = episode_seed(self.seed, block.episode)
        edits: list[GuardedEdit] = []
        for start in range(0, len(frames), size):
            batch = frames[start : start + size]
            edits += guarded.edit(batch, [seed] * len(batch))
        return {c: edits[n * steps : (n + 1) * steps] for n, c in enumerate(cameras)}


class EditEngine(Protocol):
    """Edit blocks, in this process or on Ray's workers."""

    @property
    def description(self) -> EditorDescription:
        """Description of editor, guard and their use."""
        ...

    def edit(self, task: EditTask, blocks: Iterable[Block]) -> Iterator[tuple[Block, Edits]]:
        """Yield every block with its edits, in order, holding only a few blocks in memory.

        Raises:
            EditorError: If the editor fails; earlier blocks are yielded first.
        """
        ...
