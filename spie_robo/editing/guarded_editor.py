"""Edit, judge and fall back in one step, for the wrappers and for ``convert``.

Steps:
    1. Edit every frame of the batch.
    2. Judge each edit against the geometry of its own frame.
    3. Try rejected frames again with the next seed, up to ``retries`` times.
    4. Return the raw frame where every edit was rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from spie_robo.editing.description import EditorDescription, references_digest
from spie_robo.errors import ConfigError, EditorError, SpieRoboError
from spie_robo.guard.acceptance import AcceptanceMonitor
from spie_robo.types import (
    EditResult,
    Frame,
    Guard,
    GuardedEdit,
    GuardVerdict,
    ImageEditor,
    References,
)

OnError = Literal["raise", "passthrough"]


@dataclass(frozen=True)
class GuardedEditor:
    """An editor and its guard; it returns the raw frame where every edit was rejected.

    Attributes:
        editor: The editor that makes the edits.
        guard: The guard that judges them; None accepts every edit.
        references: Photos that the edits should look like; None uses the editor's own.
        instruction: Text for the editor; None uses the editor's own.
        retries: Further seeds to try after a rejection.
        on_error: Whether a failing editor raises its error, or the raw frame is returned with
            ``GuardedEdit.error`` set.
        steps: Denoising steps that the user asked for, stored with the edits; None if the editor
            chooses.
        monitor: Warns once if most edits are rejected.

    Example:
        >>> import numpy as np
        >>> from spie_robo.editing.guarded_editor import GuardedEditor
        >>> from spie_robo.types import EditResult, Frame
        >>> class Darker:
        ...     id = "darker"
        ...     def edit(self, frames, references=None, instruction=None, seeds=None):
        ...         return [EditResult(f.rgb // 2, 0, "", "darker", 1) for f in frames]
        >>> frame = Frame(np.full((32, 32, 3), 200, np.uint8))
        >>> GuardedEditor(Darker()).edit([frame], seeds=[0])[0].rgb.max()
        np.uint8(100)
    """

    editor: ImageEditor
    guard: Guard | None = None
    references: References | None = None
    instruction: str | None = None
    retries: int = 1
    on_error: OnError = "raise"
    steps: int | None = None
    monitor: AcceptanceMonitor = field(default_factory=AcceptanceMonitor, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Validate the settings."""
        if self.retries < 0:
            raise ConfigError(f"retries: expected 0 or more, got {self.retries}.")
        if self.on_error not in ("raise", "passthrough"):
            raise ConfigError(
                f"on_error: expected 'raise' or 'passthrough', got {self.on_error!r}."
            )

    @property
    def description(self) -> EditorDescription:
        """Description of editor, guard and their use, as a store keeps it.

        Raises:
            ReferencePhotoError: If the reference photos cannot be read.
        """
        return replace(
            EditorDescription.of(self.editor, self.guard),
            instruction=self.instruction,
            references=references_digest(self.references),
            retries=self.retries,
            steps=self.steps,
            photos=self._photos_folder,
        )

    @property
    def _photos_folder(self) -> str | None:
        given = self.references
        return str(Path(given).absolute()) if isinstance(given, (str, Path)) else None

    def edit(self, frames: Sequence[Frame], seeds: Sequence[int]) -> list[GuardedEdit]:
        """Edit and judge a batch of frames.

        Args:
            frames: The raw frames; sizes and cameras may differ.
            seeds: One seed a frame. The n-th retry of a frame uses ``seed + n``.

        Returns:
            One result a frame, in order.

        Raises:
            ConfigError: If there is not one seed a frame.
            EditorError: If the editor fails and ``on_error`` is ``"raise"``.
        """
        if len(frames) != len(seeds):
            raise ConfigError(f"Expected one seed a frame: {len(frames)} frames, {len(seeds)}.")
        # Each attempt edits only the frames that have no accepted edit yet.
        done: dict[int, GuardedEdit] = {}
        pending = list(range(len(frames)))
        for attempt in range(self.retries + 1):
            tried = [seeds[i] + attempt for i in pending]
            batch = [frames[i] for i in pending]
            try:
                edits = self._edit(batch, tried)
            except EditorError as error:
                if self.on_error == "raise":
                    raise
                for i, seed in zip(pending, tried, strict=True):
                    done[i] = GuardedEdit(frames[i].rgb, False, None, seed, attempt + 1, str(error))
                break
            # A rejected frame stays raw, for now, and is tried again.
            verdicts = self._judge(batch, edits)
            for i, edit, verdict in zip(pending, edits, verdicts, strict=True):
                accepted = verdict is None or verdict.accepted
                rgb = edit.rgb if accepted else frames[i].rgb
                done[i] = GuardedEdit(rgb, accepted, verdict, edit.seed, attempt + 1)
            pending = [i for i in pending if not done[i].edited]
            if not pending:
                break
        results = [done[i] for i in range(len(frames))]
        self.monitor.watch(results)
        return results

    def _edit(self, frames: Sequence[Frame], seeds: Sequence[int]) -> list[EditResult]:
        # Give the editor copies: if it wrote into a frame, the guard would judge another frame.
        given = [replace(frame, rgb=frame.rgb.copy()) for frame in frames]
        try:
            edits = list(self.editor.edit(given, self.references, self.instruction, seeds))
        except SpieRoboError:
            raise
        except Exception as error:  # an editor is third-party code and may raise anything
            raise EditorError(f"Editor {_name(self.editor)} failed: {error!r}.") from error
        if len(edits) != len(frames):
            raise EditorError(
                f"Editor {_name(self.editor)} returned {len(edits)} edits for {len(frames)} frames."
            )
        # Refuse edits of another type, shape or dtype.
        for frame, edit in zip(frames, edits, strict=True):
            if not isinstance(edit, EditResult) or not isinstance(edit.rgb, np.ndarray):
                found = edit.rgb if isinstance(edit, EditResult) else edit
                raise EditorError(
                    f"Editor {_name(self.editor)} returned {type(found).__name__}, expected one "
                    "spie_robo.types.EditResult a frame, whose rgb is a NumPy array."
                )
            if edit.rgb.shape != frame.rgb.shape or edit.rgb.dtype != frame.rgb.dtype:
                raise EditorError(
                    f"Editor {_name(self.editor)} turned a {frame.rgb.dtype} frame of shape "
                    f"{frame.rgb.shape} into {edit.rgb.dtype} {edit.rgb.shape}."
                )
        # Copy the edits, because the editor may reuse its buffers.
        return [replace(edit, rgb=edit.rgb.copy()) for edit in edits]

    def _judge(
        self, frames: Sequence[Frame], edits: Sequence[EditResult]
    ) -> Sequence[GuardVerdict | None]:
        if self.guard is None:
            return [None] * len(frames)
        return self.guard.judge_batch(frames, edits)


def _name(editor: ImageEditor) -> str:
    """Return the editor's id for an error message, or its class where the id itself fails."""
    try:
        return repr(editor.id)
    except Exception:
        return type(editor).__name__
