from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from spie_robo.editor.references import cover
from spie_robo.errors import ConfigError, EditorError, FrameError, ReferencePhotoError
from spie_robo.evaluation.baselines import IdentityEditor, ReinhardEditor
from spie_robo.evaluation.config import EvaluateConfig
from spie_robo.evaluation.evaluate import EvaluationOptions, evaluate_editors
from spie_robo.evaluation.judges import JudgeNames, load_judges
from spie_robo.evaluation.measure import Judges
from spie_robo.evaluation.page import render_comparison
from spie_robo.evaluation.run import run_evaluation
from spie_robo.types import EditResult, Frame


class PhotoEditor:
    """Gives the reference photo itself: the look is reached, the scene is lost."""

    id = "photo@0"

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, list[int]]] = []

    def edit(
        self,
        frames: Sequence[Frame],
        references: Sequence[np.ndarray] | None = None,
        instruction: str | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[EditResult]:
        assert references is not None and seeds is not None
        self.calls.append((len(frames), len(references), list(seeds)))
        size = frames[0].rgb.shape[:2]
        text = instruction or "wood"
        return [EditResult(cover(references[0], *size), s, text, self.id, 1) for s in seeds]


class BrokenEditor(PhotoEditor):
    def edit(self, *arguments: object, **_: object) -> list[EditResult]:
        raise EditorError("out of paint")


@pytest.fixture(scope="module")
def judges() -> Judges:
    return load_judges()


@pytest.fixture(scope="module")
def table(judges: Judges, frames: Callable, lab: Callable):
    return evaluate_editors(
        frames(5),
        lab(2),
        {"photo": PhotoEditor(), "same": IdentityEditor()},
        judges,
        held_out=lab(3, first=10),
        options=EvaluationOptions(seed=7, batch_size=2),
    )


def test_raw_frames_come_first_and_an_editor_that_does_nothing_equals_them(table) -> None:
    assert [row.name for row in table.rows] == ["raw", "photo", "same"]
    raw, same = table.row("raw"), table.row("same")
    for key, score in raw.scores.items():
        assert same.scores[key] == score
    np.testing.assert_array_equal(raw.edits[2], table.frames[2].rgb)
    assert "seconds" not in raw.scores and same.scores["seconds"].mean >= 0


def test_figures_point_the_right_way(table) -> None:
    raw, photo = table.row("raw").scores, table.row("photo").scores
    assert raw["structural_monocular"].mean == 0 < photo["structural_monocular"].mean
    assert raw["gradient_ratio"].mean == 1 < photo["gradient_ratio"].mean
    assert photo["semantic_nearest"].mean == pytest.approx(0, abs=1e-5)
    for key in ("semantic_nearest", "semantic_paper", "kid"):
        assert photo[key].mean < raw[key].mean
        assert raw[key].gap_closed == 0 < photo[key].gap_closed
    assert photo["guard_acceptance"].mean <= raw["guard_acceptance"].mean
    assert photo["semantic_nearest"].gap_closed > 1  # the very photo is nearer than the floor
    assert raw["structural_simulator"].count == 5
    assert raw["structural_simulator"].mean > 0  # the judge's own error


def test_frames_follow_photos_in_turn_with_a_seed_each(
    judges: Judges, frames: Callable, lab: Callable
) -> None:
    editor, photos = PhotoEditor(), lab(2)
    table = evaluate_editors(
        frames(5), photos, {"p": editor}, judges, options=EvaluationOptions(7, "x")
    )
    assert table.photo_of == (0, 1, 0, 1, 0)
    assert table.seeds == (7, 8, 9, 10, 11)
    assert editor.calls == [(1, 1, [7]), (3, 1, [7, 9, 11]), (2, 1, [8, 10])]  # the first warms up
    for index, edit in enumerate(table.row("p").edits):
        np.testing.assert_array_equal(edit, cover(photos[index % 2], 64, 64))


def test_the_same_twice(table, judges: Judges, frames: Callable, lab: Callable) -> None:
    options = EvaluationOptions(seed=7, batch_size=5)
    editors = {"photo": PhotoEditor()}
    again = evaluate_editors(
        frames(5), lab(2), editors, judges, held_out=lab(3, first=10), options=options
    )
    first, second = table.row("photo").scores, again.row("photo").scores
    assert {k: v for k, v in first.items() if k != "seconds"} == {
        k: v for k, v in second.items() if k != "seconds"
    }
    assert again.floors == table.floors


def test_without_held_out_photos_kid_is_to_the_references(
    judges: Judges, frames: Callable, lab: Callable
) -> None:
    table = evaluate_editors(frames(2), lab(2), {}, judges)
    assert not table.floors and "kid" in table.row("raw").scores
    assert any("reference photos" in note for note in table.notes)
    single = evaluate_editors(frames(2), lab(1), {}, judges)
    assert "kid" not in single.row("raw").scores
    assert any("two photos or more" in note for note in single.notes)


def test_one_held_out_photo_is_not_what_kid_is_measured_to(
    judges: Judges, frames: Callable, lab: Callable
) -> None:
    table = evaluate_editors(frames(2), lab(2), {}, judges, held_out=lab(1, first=10))
    said = " ".join(table.notes)
    assert "two held-out photos or more" in said and "KID is measured to" not in said


def test_photos_with_masks_have_no_floors(judges: Judges, frames: Callable, lab: Callable) -> None:
    """Held-out photos have no masks: what is outside of them would count as lab."""
    photos, held_out = lab(2), lab(2, first=10)
    half = np.zeros(photos[0].shape[:2], np.bool_)
    half[: len(half) // 2] = True
    whole = evaluate_editors(frames(2), photos, {}, judges, held_out=held_out)
    masked = evaluate_editors(
        frames(2), photos, {}, judges, held_out=held_out, photo_regions=[half, None]
    )  # fmt: skip
    assert {"semantic_nearest", "kid"} <= whole.floors.keys()
    assert masked.floors.keys() == {"kid"}


def test_frames_without_depth_lack_that_metric_only(
    judges: Judges, frames: Callable, lab: Callable
) -> None:
    mixed = [*frames(2), *frames(1, depth=False)]
    assert (
        evaluate_editors(mixed, lab(1), {}, judges).row("raw").scores["structural_simulator"].count
        == 2
    )
    none = evaluate_editors(frames(2, depth=False), lab(1), {}, judges)
    assert "structural_simulator" not in none.row("raw").scores
    assert none.row("raw").scores["structural_monocular"].count == 2
    assert any("depth" in note for note in none.notes)


def test_held_out_photos_that_are_references_are_noted(
    judges: Judges, frames: Callable, lab: Callable
) -> None:
    table = evaluate_editors(frames(2), lab(2), {}, judges, held_out=lab(2, first=1))
    assert any("1 also are reference photos" in note for note in table.notes)


def test_the_region_limits_the_semantic_score_and_l2_is_outside(
    judges: Judges, frames: Callable, lab: Callable
) -> None:
    chosen = frames(2)
    table_region = [f.geometry.segmentation == 0 for f in chosen]
    table = evaluate_editors(
        chosen, lab(1), {"p": PhotoEditor()}, judges, frame_regions=table_region, photo_regions=None
    )
    raw, photo = table.row("raw").scores, table.row("p").scores
    assert raw["outside_l2"].mean == 0
    expected = [
        np.square(
            (e.astype(float) - f.rgb.astype(float))[f.geometry.segmentation == 1] / 255
        ).mean()
        for e, f in zip(table.row("p").edits, chosen, strict=True)
    ]
    assert photo["outside_l2"].mean == pytest.approx(np.mean(expected), rel=1e-5)
    assert photo["semantic_nearest"].mean == pytest.approx(0.5 * np.mean(expected), abs=1e-4)


def test_further_judges(tiny_clip: Path, tiny_dino: Path, frames: Callable, lab: Callable) -> None:
    names = JudgeNames(clip=str(tiny_clip), dino=str(tiny_dino), pick_score=str(tiny_clip))
    table = evaluate_editors(
        frames(3),
        lab(2),
        {"photo": PhotoEditor(), "reinhard": ReinhardEditor()},
        load_judges(names),
        held_out=lab(2, first=10),
    )
    assert table.text == "wood"  # what the first editor followed
    raw, photo = table.row("raw").scores, table.row("photo").scores
    for name in ("clip", "dino"):
        assert raw[f"{name}_input"].mean == pytest.approx(1, abs=1e-5)
        assert photo[f"{name}_input"].mean < 1
        assert f"{name}_style" in table.floors
    assert "clip_direction" not in raw  # nothing changed, so nothing has a direction
    assert {"clip_text", "clip_direction", "pick_score"} <= photo.keys()


@pytest.mark.parametrize("given", ["one frame", "tiny", "no photo", "raw", "regions"])
def test_what_cannot_be_compared(
    given: str, judges: Judges, frames: Callable, lab: Callable
) -> None:
    editors = {"raw": IdentityEditor()} if given == "raw" else {"broken": BrokenEditor()}
    chosen = frames(1 if given == "one frame" else 2)
    if given == "tiny":
        chosen = [Frame(np.zeros((16, 16, 3), np.uint8))] * 2
    error = {"no photo": ReferencePhotoError, "raw": ConfigError, "regions": ConfigError}
    regions = [None] if given == "regions" else None
    photos = [] if given == "no photo" else lab(1)
    with pytest.raises(error.get(given, FrameError), match=r"[Ee]xpected|always there"):
        evaluate_editors(chosen, photos, editors, judges, frame_regions=regions)


def test_an_editor_that_fails_says_why(judges: Judges, frames: Callable, lab: Callable) -> None:
    with pytest.raises(EditorError, match="out of paint"):
        evaluate_editors(frames(2), lab(1), {"broken": BrokenEditor()}, judges)


def test_the_page_is_one_file_and_escapes(table) -> None:
    page = render_comparison(
        table, "<b>title</b>", {"seed": 7, "photos": ["<i>.png"], "none": None}
    )
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("data:image/") == 5 * (3 + 1)
    assert "<b>title" not in page and "<i>.png" not in page
    assert "photo@0" in page and "nearer" in page and "held-out photos" in page


def test_results_are_never_written_over_the_input_or_each_other(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    store.mkdir()
    (store / "zarr.json").write_text("{}")
    for changes in ({"json": store / "zarr.json"}, {"page": store / "new" / "page.html"}):
        with pytest.raises(ConfigError, match=r"expected a file outside of the store .*a\.zarr"):
            run_evaluation(EvaluateConfig(store, tmp_path, ("reinhard",), **changes))
    both = {"json": tmp_path / "out", "page": tmp_path / "x" / ".." / "out"}
    with pytest.raises(ConfigError, match="a file each for --json and --page"):
        run_evaluation(EvaluateConfig(store, tmp_path, ("reinhard",), **both))
    assert [file.name for file in store.iterdir()] == ["zarr.json"]
    assert (store / "zarr.json").read_text() == "{}"


def test_a_misspelt_baseline_is_reported(tmp_path: Path, frames: Callable, lab: Callable) -> None:
    import cv2

    for folder, images in (("pictures", [f.rgb for f in frames(3)]), ("lab", lab(2))):
        (tmp_path / folder).mkdir()
        for number, image in enumerate(images):
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), image)
    config = EvaluateConfig(tmp_path / "pictures", tmp_path / "lab", ("rheinhard",))
    with pytest.raises(EditorError, match=r"'rheinhard'\. Did you mean 'reinhard'"):
        run_evaluation(config, progress=False)
