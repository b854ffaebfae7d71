"""Load editors and guards by name, at the first frame that needs them and once a process.

Wrapping an env therefore stays cheap, even where a vector env makes one only to read its spaces.
Envs that name the same editor share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import FunctionType
from typing import Any, Literal, final

from spie_robo.errors import EnvError
from spie_robo.types import (
    EditResult,
    Frame,
    Guard,
    GuardVerdict,
    ImageEditor,
    References,
)

_LIVE = "live object, not loadable by name: "

GuardOption = Guard | Literal["default"] | None


@final
@dataclass(frozen=True)
class EditorByName:
    """The editor ``Editor.from_pretrained(name)``, loaded when it is first used."""

    name: str

    @property
    def id(self) -> str:
        """Name and weights hash of the editor, which is loaded for it."""
        return editor_by_name(self.name).id

    @property
    def instruction(self) -> str:
        """The editor's own text; the editor is loaded for it."""
        return str(getattr(editor_by_name(self.name), "instruction", ""))

    @property
    def description(self) -> Mapping[str, Any]:
        """The editor's own description; the editor is loaded for it."""
        described: Mapping[str, Any] = getattr(editor_by_name(self.name), "description", {})
        return described

    def edit(
        self,
        frames: Sequence[Frame],
        references: References | None = None,
        instruction: str | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[EditResult]:
        """Edit each frame with the loaded editor."""
        return editor_by_name(self.name).edit(frames, references, instruction, seeds)


@final
@dataclass(frozen=True)
class DefaultGuard:
    """A :class:`spie_robo.guard.GeometryGuard` with its default budget, loaded at first use.

    Attributes:
        protect: Objects whose colour the guard measures: those that the editor protects.
    """

    protect: tuple[int | str, ...] = ()

    @property
    def id(self) -> str:
        """Name of the guard."""
        return "GeometryGuard"

    @property
    def description(self) -> Mapping[str, Any]:
        """Limits and protected objects of the guard, which is loaded for it."""
        described: Mapping[str, Any] = getattr(self._guard, "description", {})
        return described

    @property
    def _guard(self) -> Guard:
        return load_default_guard(self.protect)

    def judge(self, frame: Frame, edit: EditResult) -> GuardVerdict:
        """Measure one edit against the geometry of its frame."""
        return self._guard.judge(frame, edit)

    def judge_batch(
        self, frames: Sequence[Frame], edits: Sequence[EditResult]
    ) -> list[GuardVerdict]:
        """Judge several frames at once."""
        return self._guard.judge_batch(frames, edits)


def resolve_editor(editor: str | ImageEditor) -> ImageEditor:
    """Return the editor for a wrapper's ``editor=``.

    Raises:
        EnvError: If it is no editor, or a spec names an object that cannot be loaded.
    """
    if isinstance(editor, str):
        refuse_live(editor, "editor")
        return EditorByName(editor)
    if not isinstance(editor, ImageEditor):
        raise EnvError(
            "editor: expected a name, a folder, or an object with `id` and `edit(frames, "
            f"references, instruction, seeds)`, got {editor!r}."
        )
    return editor


def resolve_guard(guard: GuardOption, editor: ImageEditor) -> Guard | None:
    """Return the guard for a wrapper's ``guard=`` and its editor.

    Raises:
        EnvError: If it is no guard, or a spec names an object that cannot be loaded.
    """
    if guard is None or isinstance(guard, Guard):
        return guard
    if guard == "default":
        return DefaultGuard(tuple(getattr(editor, "protect", ())))
    if isinstance(guard, str):
        refuse_live(guard, "guard")
    raise EnvError(
        "guard: expected 'default', None, or an object with `judge` and `judge_batch`, "
        f"got {guard!r}."
    )


def recorded_editor(editor: str | ImageEditor) -> str:
    """Return the editor's entry in an env's spec: a name that loads it, or a note."""
    if isinstance(editor, str):
        return editor
    # Compare the module's name, because importing the class would import torch.
    if type(editor).__module__.startswith("spie_robo.editor"):
        return editor.id
    return f"{_LIVE}{type(editor).__name__} {editor.id!r}"


def recorded_guard(guard: GuardOption) -> str | None:
    """Return the guard's entry in an env's spec: a name, None or a note."""
    if guard is None or isinstance(guard, str):
        return guard
    return f"{_LIVE}{type(guard).__name__}"


def recorded_geometry(geometry: Any) -> Any:
    """Return the entry of ``geometry=`` in an env's spec.

    A bound method becomes a note, because copying the spec would copy the method's env.
    """
    live = callable(geometry) or hasattr(geometry, "views")  # a function, or a simulator
    if not live or isinstance(geometry, FunctionType):
        return geometry
    return f"{_LIVE}{type(geometry).__name__}"


def refuse_live(recorded: str, argument: str) -> None:
    """Refuse a spec that holds a note in place of a live object.

    Raises:
        EnvError: If it does, with the way to wrap the env again.
    """
    if recorded.startswith(_LIVE):
        raise EnvError(
            f"The env's spec cannot rebuild its {argument}: it was wrapped with the live object "
            f"{recorded.removeprefix(_LIVE)}, and a spec holds only names. Make the env that is "
            f"inside and wrap it again: RealismWrapper(gym.make(id), {argument}=...)."
        )


@lru_cache(maxsize=4)
def editor_by_name(name: str) -> ImageEditor:
    """Load ``Editor.from_pretrained(name)``, or a geometry editor, once a process.

    Raises:
        EditorError: If there is no such editor.
    """
    from spie_robo.editor import Editor
    from spie_robo.editor.geometry_editor import GeometryEditor, is_geometry_editor

    if is_geometry_editor(name):
        return GeometryEditor.from_pretrained(name)
    editor: ImageEditor = Editor.from_pretrained(name)
    return editor


@lru_cache(maxsize=4)
def load_default_guard(protect: tuple[int | str, ...] = ()) -> Guard:
    """Load ``GeometryGuard(protect=protect)`` once a process."""
    from spie_robo.guard import GeometryGuard

    guard: Guard = GeometryGuard(protect=protect)
    return guard
