"""Writes what happens in a wrapped env to an episode store, one episode at a time.

A row needs the observation before an action and the reward after it, so the recorder keeps the
last moment until the next step. The episodes of a vector env overlap, and a store takes them one
after another: until its end an episode waits in a
:class:`~spie_robo.data.store.row_spool.RowSpool`, a few megabytes of it in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.errors import StoreError
from spie_robo.settings.ranges import one_of
from spie_robo.simulators.views import to_numpy
from spie_robo.wrappers.cameras import Camera, without_arrays
from spie_robo.wrappers.moments import EditedMoment

if TYPE_CHECKING:
    from spie_robo.data import EpisodeWriter
    from spie_robo.data.store.row_spool import RowSpool
    from spie_robo.data.store.success import SuccessColumn

Unfinished: TypeAlias = Literal["store", "drop"]
"""Treatment of an episode that is reset or closed before the env ended it."""

logger = logging.getLogger(__name__)

RecordOption: TypeAlias = "str | Path | EpisodeWriter | None"
"""Path of a store, made if there is none and appended to if there is; or an open writer."""


@final
@dataclass(frozen=True, eq=False)
class _Moment:
    """A moment that no action has been taken in yet.

    Attributes:
        rest: All that the agent saw besides the cameras' images.
        edited: The images, and how they came to be.
    """

    rest: Mapping[str, Any]
    edited: EditedMoment


@final
class EpisodeRecorder:
    """Collects the rows of one env's episode, and commits them when it is over.

    A wrapper around the env, such as ``TimeLimit``, may end an episode unnoticed: its next
    sign is a reset. :meth:`finish` then stores the episode as truncated, or drops it if that was
    asked for. A warning reports what is dropped, with the number of its steps.
    """

    def __init__(
        self,
        recording: Recording,
        cameras: tuple[Camera, ...],
        unfinished: Unfinished = "store",
    ) -> None:
        """Record into ``recording``, which the envs of a vector env share."""
        from spie_robo.data.store.success import SuccessColumn

        self._recording = recording
        self._cameras = cameras
        self._unfinished = unfinished
        self._success = SuccessColumn()
        self._steps = 0
        self._rows: RowSpool = recording.spool()
        self._before: _Moment | None = None
        self._seed: int | None = None

    def begin(self, observation: Any, edited: EditedMoment, seed: int | None) -> None:
        """Start an episode.

        Args:
            observation: What the agent sees, with the edited images.
            edited: How these came to be.
            seed: The reset seed; None if there was none.
        """
        self.finish()
        self._seed = seed
        self._before = self._moment(observation, edited)

    def step(
        self,
        action: Any,
        reward: Any,
        over: bool,
        observation: Any,
        edited: EditedMoment,
        info: Mapping[str, Any],
    ) -> None:
        """Add a row, and commit the episode if it is over.

        Args:
            action: What was done in the last observation.
            reward: What that earned: a number, or an array or tensor of one.
            over: Whether the episode ended with it.
            observation: What the agent sees now.
            edited: How that came to be.
            info: The info of this step, for ``success``.

        Raises:
            StoreError: If the row does not fit the store or the rows before it, or the disk is
                full.
        """
        if self._before is None:  # dropped, or stepped on after its end
            return
        row = self._row(self._before, action, reward, info)
        if not self._rows:  # found out now, and not when the episode is lost with it
            self._recording.require_fits(row)
        self._rows.append(self._success.split(row))
        self._steps += 1
        self._before = None if over else self._moment(observation, edited)
        if over:
            self._commit()

    def finish(self) -> None:
        """End the episode in progress, which something around the env ended.

        Raises:
            StoreError: If it does not fit the store, or the disk is full.
        """
        if self._rows and self._unfinished == "store":
            self._commit()
        self.drop("it was reset or closed before its end")

    def close_store(self) -> None:
        """Close the store, if it was opened for this recording."""
        self._recording.close()

    def drop(self, why: str = "a step of it is missing") -> None:
        """Forget the episode in progress.

        Args:
            why: For the log.
        """
        if self._rows:
            logger.warning(
                "%s: an episode of %d steps is dropped: %s.",
                self._recording.path,
                self._steps,
                why,
            )
        self._forget()

    def _commit(self) -> None:
        try:
            self._recording.add_episode(self._rows, self._success, self._seed)
        finally:
            self._forget()

    def _forget(self) -> None:
        self._rows.clear()
        self._success.clear()
        self._before, self._steps = None, 0

    def _moment(self, observation: Any, edited: EditedMoment) -> _Moment:
        # Copied, because an env may write its next observation and depth into the same buffers.
        kept = replace(edited, geometry=deepcopy(dict(edited.geometry)))
        return _Moment(_on_the_host(without_arrays(observation, self._cameras)), kept)

    def _row(
        self, before: _Moment, action: Any, reward: Any, next_info: Mapping[str, Any]
    ) -> dict[str, NDArray[Any]]:
        from spie_robo.data.store.fields import step_row

        edited = before.edited
        self._recording.describe_cameras(edited)
        # Under the names that the cameras have here, which need not be their observation keys.
        images = {c.name: edited.edits[c.name].rgb for c in self._cameras}
        info = {**edited.info(), "geometry": edited.geometry}
        return step_row({**before.rest, **images}, _one_array(action), reward, info, next_info)


def _on_the_host(values: Mapping[str, Any]) -> dict[str, Any]:
    """Copy nested dictionaries; torch tensors, which may be on a GPU, become arrays."""
    copied: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            copied[key] = _on_the_host(value)
        else:
            copied[key] = np.array(to_numpy(value)) if hasattr(value, "detach") else deepcopy(value)
    return copied


def _one_array(action: Any) -> NDArray[Any]:
    """Return a copy of an action.

    Raises:
        StoreError: If it is not one array of numbers.
    """
    try:
        array = np.array(to_numpy(action) if hasattr(action, "detach") else action)
    except ValueError:  # parts of several shapes
        array = np.array(None)
    if array.dtype.kind not in "biuf":
        raise StoreError(
            f"record: expected an action that is one array of numbers, got a "
            f"{type(action).__name__} of parts. Flatten the action space with gymnasium.wrappers."
            "TransformAction(env, lambda flat: unflatten(space, flat), flatten_space(space)), "
            "both from gymnasium.spaces."
        )
    return array


@final
class Recording:
    """A store that is being written, and what it says about itself."""

    def __init__(
        self,
        writer: EpisodeWriter,
        env: Any,
        guarded: GuardedEditor,
        owns_writer: bool,
        count: int = 1,
    ) -> None:
        """Write to ``writer`` what happens in ``env`` under ``guarded``, ``count`` at a time."""
        self._writer = writer
        self._count = count
        self._env = env
        self._guarded = guarded
        self._owns_writer = owns_writer
        self._described = False

    def describe_cameras(self, edited: EditedMoment) -> None:
        """Write to the store the env and editor, once, and the cameras.

        Raises:
            StoreError: If the store was recorded with another editor or other lenses.
            EnvError: If it was recorded in another env.
        """
        if not self._described:
            self._describe()
            self._described = True
        self._writer.metadata = self._writer.metadata.including(edited.geometry)

    def spool(self) -> RowSpool:
        """Return a spool for the rows of one env; all spools share the memory for rows."""
        from spie_robo.data.store.row_spool import BLOCK_BYTES, RowSpool

        return RowSpool(self._writer.path.parent, BLOCK_BYTES // self._count)

    def require_fits(self, row: Mapping[str, NDArray[Any]]) -> None:
        """Check the first row of an episode.

        Raises:
            StoreError: If an episode of such rows cannot be committed.
        """
        from spie_robo.data.store.success import as_the_store_expects

        self._writer.require_fits(as_the_store_expects(row, self._writer.keys))

    @property
    def path(self) -> Path:
        """The folder of the store."""
        return self._writer.path

    def add_episode(self, rows: RowSpool, success: SuccessColumn, seed: int | None) -> None:
        """Commit an episode; it is durable when this returns."""
        self._writer.begin_episode(seed)
        try:
            for block in success.added_to(rows.blocks()):
                self._writer.extend(block)
            self._writer.end_episode()
        except BaseException:
            self._writer.discard_episode()
            raise

    def close(self) -> None:
        """Close the writer, unless somebody else opened it. Closing twice is fine."""
        if self._owns_writer:
            self._writer.close()

    def _describe(self) -> None:
        from spie_robo.data.recording import with_env

        metadata = with_env(self._writer.metadata, self._env)
        description = self._guarded.description
        if metadata.editor_id not in ("", description.editor):
            raise StoreError(
                f"{self._writer.path} was recorded with the editor {metadata.editor_id!r}, this "
                f"is {description.editor!r}. Record each editor into a store of its own."
            )
        self._writer.metadata = replace(
            metadata,
            editor_id=description.editor,
            instruction=description.instruction
            or metadata.instruction
            or description.own_instruction,
            provenance={**metadata.provenance, **description.provenance},
        )


@contextmanager
def whole_or_dropped(recorders: Sequence[EpisodeRecorder]) -> Iterator[None]:
    """Drop the episodes in progress if anything fails: they would lack a step in the middle.

    Anything, an interrupt or a fault of the env or the user's functions too: the env may have
    stepped before.
    """
    try:
        yield
    except BaseException:
        for recorder in recorders:
            recorder.drop()
        raise


def close_recorders(recorders: Sequence[EpisodeRecorder]) -> None:
    """End the episodes in progress of all envs, and close the store that they share.

    Raises:
        StoreError: If an episode cannot be stored; the store is closed all the same.
    """
    try:
        for recorder in recorders:
            recorder.finish()
    finally:
        for recorder in recorders:
            recorder.drop("the store was closed")
            recorder.close_store()


def open_recorders(
    record: RecordOption,
    env: Any,
    guarded: GuardedEditor,
    cameras: tuple[Camera, ...],
    count: int,
    unfinished: Unfinished = "store",
) -> list[EpisodeRecorder]:
    """Open one recorder an env, all into the store that ``record`` means; none if it is None.

    Raises:
        StoreError: If the path holds something else.
        StoreLockedError: If another process writes the store.
        ConfigError: If ``unfinished`` is neither of its words.
    """
    one_of("unfinished", unfinished, ("store", "drop"))
    if record is None:
        return []
    if not isinstance(record, (str, Path)):
        recording = Recording(record, env, guarded, owns_writer=False, count=count)
    else:
        from spie_robo.data import EpisodeWriter

        path = Path(record)
        writer = EpisodeWriter.open(path) if path.exists() else EpisodeWriter.create(path)
        recording = Recording(writer, env, guarded, owns_writer=True, count=count)
    return [EpisodeRecorder(recording, cameras, unfinished) for _ in range(count)]
