from __future__ import annotations

import pytest

from spie_robo.data import ConversionConfig
from spie_robo.data.conversion.identity import identify, require_same
from spie_robo.editing.description import EditorDescription
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.editor import Editor
from spie_robo.errors import StoreError
from spie_robo.guard import GeometryGuard, GuardBudget


class Plain:
    """An editor that says no more than it must."""

    id = "plain@1"

    def edit(self, frames, references=None, instruction=None, seeds=None):
        raise AssertionError


def test_an_editor_without_description_has_none():
    described = GuardedEditor(Plain()).description
    assert described == EditorDescription("plain@1", None)
    assert described.provenance == {}


def test_what_ships_says_what_its_edits_depend_on():
    editor = Editor.from_pretrained("embedded", steps=2, protect=("cube",))
    guard = GeometryGuard(GuardBudget(inserted=3.0), protect=("cube",))
    described = GuardedEditor(editor, guard).description
    assert (
        described.editor == editor.id
        and described.own_instruction == editor.settings.instruction != ""
    )
    assert described.editor_description["settings"]["steps"] == 2
    assert described.provenance["denoising_steps"] == 2
    assert described.provenance["protected"] == ["cube"]
    assert described.provenance["guard"] == "GeometryGuard"
    assert described.provenance["guard_limits"]["inserted"] == 3.0


@pytest.mark.parametrize(
    ("editor", "guard", "named"),
    [
        ({"protect": ("cube",)}, {}, "editor_description"),
        ({"steps": 4}, {}, "editor_description"),
        ({}, {"budget": GuardBudget(inserted=3.0)}, "guard_description"),
        ({}, {"protect": ("cube",)}, "guard_description"),
    ],
)
def test_a_conversion_by_another_editor_is_not_resumed(tmp_path, editor, guard, named):
    def identity(editor, guard):
        made = GuardedEditor(Editor.from_pretrained("embedded", **editor), GeometryGuard(**guard))
        return identify("sim.zarr", "f", made.description, ConversionConfig())

    begun = identity({}, {})
    require_same(tmp_path, begun, identity({}, {}))
    with pytest.raises(StoreError, match=f"another conversion .*{named}"):
        require_same(tmp_path, begun, identity(editor, guard))
