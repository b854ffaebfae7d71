"""The user's request for edits, as one record that every command passes on whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from spie_robo.errors import ConfigError
from spie_robo.settings.field_types import (
    Count,
    GuardSwitch,
    Names,
    OptionalCount,
    OptionalPath,
    OptionalText,
)
from spie_robo.settings.locations import require_here
from spie_robo.settings.ranges import require_at_least, require_seed, require_text

if TYPE_CHECKING:
    from spie_robo.editing.guarded_editor import GuardedEditor
    from spie_robo.editor import Editor
    from spie_robo.editor.geometry_editor import GeometryEditor


@final
@dataclass(frozen=True)
class EditRequest:
    """The editor to use, its settings, and whether a guard judges the edits."""

    editor: OptionalText = "embedded"
    """embedded, embedded-labs, a folder or a Hub id; none leaves the frames raw."""
    base: OptionalText = None
    """For an adapter: another base."""
    references: OptionalPath = None
    """Reference photos: a folder or a file."""
    instruction: OptionalText = None
    """Text for the editor; unset: its own."""
    seed: Count = 0
    """Seed of the run; each episode gets one."""
    steps: OptionalCount = None
    """Denoising steps; unset: the editor's."""
    frames_per_pass: OptionalCount = None
    """Frames a pass; unset: the editor's."""
    guard: GuardSwitch = True
    """Accept every edit, without a guard that judges it."""
    retries: Count = 1
    """Further seeds to try after a rejection."""
    protect: Names = ()
    """Names of objects whose colour must stay."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_here(self)
        require_seed(self.seed)
        require_at_least("retries", self.retries, 0)
        for name in ("steps", "frames_per_pass"):
            if getattr(self, name) is not None:
                require_at_least(name, getattr(self, name), 1)
        if self.editor is not None:
            require_text("editor", self.editor)

    @property
    def raw(self) -> bool:
        """True if no editor is asked for; the name ``none`` means that too."""
        return self.editor is None or self.editor.lower() == "none"

    def __str__(self) -> str:
        """Return what is done to the frames, for the last line of a command."""
        if self.raw:
            return "frames are raw: no editor was asked for"
        judged = "judged by the guard" if self.guard else "not judged"
        return f"frames are edited by {self.editor}, {judged}"

    def load(self) -> GuardedEditor | None:
        """Load the editor and the guard.

        Returns:
            Editor and guard together; None if the frames are to stay raw.

        Raises:
            EditorError: If there is no such editor.
            ConfigError: If the editor does not have a setting that is asked for.
            ReferencePhotoError: If there are no usable reference photos.
        """
        if self.raw:
            return None
        from spie_robo.editing.guarded_editor import GuardedEditor
        from spie_robo.editor.photo_check import check_photos
        from spie_robo.editor.references import PhotoReferences
        from spie_robo.guard import GeometryGuard

        assert self.editor is not None
        # Refuse a folder without photos before seconds go into loading weights.
        photos = None if self.references is None else check_photos(self.references)
        for note in () if photos is None else photos.notes:
            print(f"photos: {note}")
        editor = self._load_editor(self.editor)
        if self.references is not None and photos is not None:
            editor.keep_photos(self.references, PhotoReferences(photos.images))
        return GuardedEditor(
            editor,
            GeometryGuard(protect=self.protect) if self.guard else None,
            self.references,
            self.instruction,
            self.retries,
            steps=self.steps,
        )

    def _load_editor(self, name: str) -> Editor | GeometryEditor:
        from spie_robo.editor import Editor
        from spie_robo.editor.geometry_editor import GeometryEditor, is_geometry_editor

        if not is_geometry_editor(name):
            return Editor.from_pretrained(
                name,
                base=self.base,
                steps=self.steps,
                batch_size=self.frames_per_pass,
                protect=self.protect,
            )
        asked = {"base": self.base, "steps": self.steps, "frames_per_pass": self.frames_per_pass}
        unknown = [setting for setting, value in asked.items() if value not in (None, 1)]
        if unknown:
            raise ConfigError(
                f"{', '.join(unknown)}: the geometry editor in {name} edits frame by frame in one "
                "step and has no base. Leave them out."
            )
        return GeometryEditor.from_pretrained(name, protect=self.protect)


def raw_request() -> EditRequest:
    """Return a request that leaves frames as the simulator rendered them."""
    return EditRequest(editor=None)
