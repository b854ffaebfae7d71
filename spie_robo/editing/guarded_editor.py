"""Editor, guard and fallback as one step: what the wrappers and ``convert`` both do to a frame.

Steps:
    1. Edit every frame of the batch.
    2. Judge each edit against the geometry of its own frame.
    3. Try the rejected ones again with the next seed, ``retries`` times.
    4. What is still rejected becomes the raw frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from spie_robo.editing.description import EditorDescription, references_digest
from spie_robo.errors import ConfigError, EditorError, SpieRoboError
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
    """Edits frames, and returns the raw frame where no edit keeps its geometry.

    Attributes:
        editor: Makes the edits.
        guard: Judges them; None accepts every edit.
        references: Photos of the look to give; None uses the editor's own.
        instruction: Text for the editor; None uses the editor's own.
        retries: Further seeds to try after a rejection.
        on_error: What a failing editor means: an error, or the raw frame with
            ``GuardedEdit.error`` set.
        steps: Denoising steps that the editor was asked for, kept for the record; None if it
            chose them.

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
        """What a store keeps of the editor, the guard and how they are used.

        Raises:
            ReferencePhotoError: If the reference photos cannot be read.
        """
        return replace(
            EditorDescription.of(self.editor, self.guard),
            instruction=self.instruction,
            references=references_digest(self.references),
            retries=self.retries,
            steps=self.steps,
        )

    def edit(self, frames: Sequence[Frame], seeds: Sequence[int]) -> list[GuardedEdit]:
        """Edit and judge a batch of frames.

        Args:
            frames: The raw frames; sizes and cameras may differ.
            seeds: One seed a frame. The n-th retry of a frame uses ``seed + n``.

        Returns:
            One result a frame, in order.

        Raises:
            EditorError: If the editor fails and ``on_error`` is ``"raise"``.
        """
        if len(frames) != len(seeds):
            raise ConfigError(f"Expected one seed a frame: {len(frames)} frames, {len(seeds)}.")
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
            verdicts = self._judge(batch, edits)
            for i, edit, verdict in zip(pending, edits, verdicts, strict=True):
                accepted = verdict is None or verdict.accepted
                rgb = edit.rgb if accepted else frames[i].rgb
                done[i] = GuardedEdit(rgb, accepted, verdict, edit.seed, attempt + 1)
            pending = [i for i in pending if not done[i].edited]
            if not pending:
                break
        return [done[i] for i in range(len(frames))]

    def _edit(self, frames: Sequence[Frame], seeds: Sequence[int]) -> list[EditResult]:
        # Its own copies: an editor that writes into a frame must not change what it is held to.
        given = [replace(frame, rgb=frame.rgb.copy()) for frame in frames]
        try:
            edits = list(self.editor.edit(given, self.references, self.instruction, seeds))
        except SpieRoboError:
            raise
        except Exception as error:  # an editor is third-party code: anything may come out of it
            raise EditorError(f"Editor {_name(self.editor)} failed: {error!r}.") from error
        if len(edits) != len(frames):
            raise EditorError(
                f"Editor {_name(self.editor)} returned {len(edits)} edits for {len(frames)} frames."
            )
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
        # Copied again: it may use its buffers for the next edits.
        return [replace(edit, rgb=edit.rgb.copy()) for edit in edits]

    def _judge(
        self, frames: Sequence[Frame], edits: Sequence[EditResult]
    ) -> Sequence[GuardVerdict | None]:
        if self.guard is None:
            return [None] * len(frames)
        return self.guard.judge_batch(frames, edits)


def _name(editor: ImageEditor) -> str:
    """What an error calls an editor, whose id may be what fails: by name, it is loaded for it."""
    try:
        return repr(editor.id)
    except Exception:
        return type(editor).__name__
