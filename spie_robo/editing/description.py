"""What makes the edits, in the words that a store keeps: enough to tell two makers apart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spie_robo.types import Guard, ImageEditor


@dataclass(frozen=True)
class Maker:
    """An editor and a guard, described in plain JSON values.

    An editor or a guard that has more to it than its ``id`` says it with a property
    ``description``, a mapping; :class:`spie_robo.editor.Editor` and
    :class:`spie_robo.guard.GeometryGuard` do.

    Attributes:
        editor: Id of the editor.
        guard: Id of the guard; None without one.
        instruction: The editor's own text; empty if it has none.
        editor_description: The editor's settings, references and protected objects.
        guard_description: The guard's limits and protected objects.
    """

    editor: str
    guard: str | None
    instruction: str = ""
    editor_description: Mapping[str, Any] = field(default_factory=dict)
    guard_description: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(editor: ImageEditor, guard: Guard | None) -> Maker:
        """What an editor and a guard say of themselves."""
        name = None if guard is None else str(getattr(guard, "id", type(guard).__name__))
        return Maker(
            editor.id,
            name,
            str(getattr(editor, "instruction", None) or ""),
            _plain(getattr(editor, "description", {})),
            _plain(getattr(guard, "description", {})),
        )

    @property
    def provenance(self) -> dict[str, Any]:
        """What a store says of its edits beside editor and instruction; nothing that is unset."""
        settings = self.editor_description.get("settings", {})
        found = {
            "denoising_steps": settings.get("steps"),
            "protected": self.editor_description.get("protect"),
            "guard": self.guard,
            "guard_limits": self.guard_description.get("limits"),
        }
        return {key: value for key, value in found.items() if value not in (None, [])}


PROVENANCE_KEYS = ("denoising_steps", "protected", "guard", "guard_limits")
"""Keys of :attr:`Maker.provenance`: of an earlier maker, they do not describe the next one's."""


def _plain(description: Mapping[str, Any]) -> dict[str, Any]:
    """As it reads when it comes back from JSON: tuples as lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(description)))
    return plain
