from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from spie_robo.errors import ConfigError, FrameError
from spie_robo.feedback import (
    FeedbackConfig,
    FeedbackInput,
    FeedbackModel,
    build_feedback,
    frame_region,
    rank,
)
from spie_robo.feedback.semantic import SemanticScore
from spie_robo.feedback.structural import StructuralScore
from spie_robo.types import RGB, Frame, Geometry


def _inputs(scene: Frame, noise: Callable[..., RGB], count: int) -> list[FeedbackInput]:
    region = frame_region(scene, FeedbackConfig(region="names", region_names=("wooden table",)))
    geometry = scene.geometry
    return [
        FeedbackInput(Frame(noise(i), "front", geometry), noise(100 + i % 2, 80, 90), region)
        for i in range(count)
    ]


@pytest.fixture
def fake_model(red_depth, colour_patches) -> FeedbackModel:
    return FeedbackModel(StructuralScore(red_depth, "paper"), SemanticScore(colour_patches))


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("structure", ["simulator", "monocular", "paper"])
def test_the_embedded_judges_score_and_rank_any_k(scene: Frame, noise, k: int, structure) -> None:
    model = build_feedback(FeedbackConfig(structure=structure))
    inputs = _inputs(scene, noise, 2)
    edits = [[noise(10 * i + j) for j in range(k)] for i in range(2)]
    scores = model.score(inputs, edits)
    for score in (scores.structural, scores.semantic):
        assert score.shape == (2, k) and score.isfinite().all() and (score >= 0).all()
    feedback = rank(scores)
    assert feedback.scorable.all()
    assert (feedback.ranking.sort(dim=1).values == torch.arange(k)).all()


def test_an_edit_s_scores_depend_on_nothing_else(scene: Frame, noise) -> None:
    model = build_feedback(FeedbackConfig())
    inputs = _inputs(scene, noise, 3)
    edits = [[noise(10 * i + j) for j in range(4)] for i in range(3)]
    together = model.score(inputs, edits)
    again = model.score(inputs, edits)
    alone = model.score([inputs[2]], [[edits[2][3]]])
    assert torch.equal(together.structural, again.structural)
    assert torch.equal(together.semantic, again.semantic)
    assert alone.structural[0, 0] == together.structural[2, 3]
    assert alone.semantic[0, 0] == together.semantic[2, 3]


def test_the_photo_itself_is_the_best_edit_for_the_look(noise) -> None:
    model = build_feedback(FeedbackConfig(structure="monocular"))
    one = FeedbackInput(Frame(noise(0)), noise(1))
    scores = model.score([one], [[noise(0), noise(1)]])
    assert scores.semantic[0, 1] == pytest.approx(0.0, abs=1e-5)
    assert scores.semantic[0, 0] > scores.semantic[0, 1]
    assert scores.structural[0, 0] == 0.0


def test_another_layer_is_another_metric(noise) -> None:
    one = FeedbackInput(Frame(noise(0)), noise(1))
    values = {
        name: build_feedback(FeedbackConfig(structure="monocular", patch_judge=name))
        .score([one], [[noise(2)]])
        .semantic.item()
        for name in ("embedded", "embedded:stride16", "embedded:stride8")
    }
    assert values["embedded"] == values["embedded:stride16"]
    assert values["embedded"] != values["embedded:stride8"]


def test_a_blank_edit_is_scored_without_an_exception(scene: Frame, noise) -> None:
    one = _inputs(scene, noise, 1)[0]
    blank = np.zeros_like(scene.rgb)
    for structure in ("simulator", "monocular", "paper"):
        scores = build_feedback(FeedbackConfig(structure=structure)).score([one], [[blank] * 2])
        assert not scores.structural.isinf().any()
        assert scores.semantic.isfinite().all()


def test_frames_and_photos_of_any_size(noise) -> None:
    model = build_feedback(FeedbackConfig(structure="monocular"))
    small = FeedbackInput(Frame(noise(0, 48, 64)), noise(1, 300, 200))
    large = FeedbackInput(Frame(noise(2, 96, 80)), noise(3, 33, 35))
    scores = model.score([small, large], [[noise(4, 48, 64)], [noise(5, 96, 80)]])
    assert scores.semantic.isfinite().all()


def test_a_nan_reaches_the_ranking_as_an_unscorable_group(fake_model, scene, noise) -> None:
    one, two = _inputs(scene, noise, 2)

    class Broken:
        def depth(self, images):
            return [i[..., 0] * np.float32(np.nan if i is bad else 1) for i in images]

    bad = noise(9)
    model = FeedbackModel(StructuralScore(Broken(), "paper"), fake_model.semantic)
    feedback = rank(model.score([one, two], [[noise(5), bad], [noise(6), noise(7)]]))
    assert feedback.scorable.tolist() == [False, True]
    assert math.isnan(feedback.scores.structural[0, 1])
    assert feedback.advantages.isfinite().all()


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([], "2 inputs and 0 groups"),
        ([1], "2 inputs and 1 groups"),
        ([2, 3], r"same number.*\[2, 3\]"),
        ([0, 0], "same number"),
    ],
)
def test_groups_that_do_not_fit_are_refused(fake_model, scene, noise, groups, words) -> None:
    edits = [[noise(5)] * k for k in groups]
    with pytest.raises(FrameError, match=words):
        fake_model.score(_inputs(scene, noise, 2), edits)


def test_an_edit_of_another_size_is_refused(fake_model, scene, noise) -> None:
    with pytest.raises(FrameError, match=r"'front'.*\(64, 64, 3\).*\(32, 64, 3\)"):
        fake_model.score(_inputs(scene, noise, 1), [[noise(5), noise(6, 32, 64)]])
    with pytest.raises(FrameError, match="dtype float64"):
        fake_model.score(_inputs(scene, noise, 1), [[np.zeros((64, 64, 3))]])


def test_no_inputs_are_refused(fake_model) -> None:
    with pytest.raises(FrameError, match="at least one input"):
        fake_model.score([], [])


@pytest.mark.parametrize("setting", ["depth_judge", "patch_judge"])
def test_a_judge_that_does_not_exist_is_named(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"'embeded'.*no such folder"):
        build_feedback(FeedbackConfig(**{setting: "embeded"}))


def test_the_depth_judge_has_no_layers() -> None:
    with pytest.raises(ConfigError, match="no other layers"):
        build_feedback(FeedbackConfig(depth_judge="embedded:stride8"))


def test_geometry_is_only_needed_by_the_simulator_s_score(noise) -> None:
    one = FeedbackInput(Frame(noise(0), geometry=Geometry()), noise(1))
    with pytest.raises(FrameError, match="has none"):
        build_feedback(FeedbackConfig()).score([one], [[noise(2)]])
    build_feedback(FeedbackConfig(structure="monocular")).score([one], [[noise(2)]])
