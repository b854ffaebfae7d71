from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from spie_robo.editor.guidance import Guidance
from spie_robo.editor.references import cover
from spie_robo.editor.settings import EditorSettings
from spie_robo.training.card import model_card
from spie_robo.training.preview import (
    acceptance_note,
    accepted_shares,
    deployed_edits,
    grid,
    mean_scores,
    nearness,
    photo_floor,
)
from spie_robo.types import Frame, GuardVerdict

SETTINGS = EditorSettings(steps=2, resolution=16, guidance=Guidance(1.5, 3.0, 7.5))


def test_previews_are_a_function_of_the_seed(tiny, base):
    pipeline = base()
    data = tiny.data(pipeline, tiny.settings(), 3)
    one, same, other = (deployed_edits(pipeline, data, SETTINGS, seed) for seed in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    assert [edit.shape for edit in one] == [(16, 16, 3)] * 3


def test_each_frame_follows_its_photo(tiny, base):
    pipeline = base()
    data = tiny.data(pipeline, tiny.settings(), 3)
    without = tiny.data(pipeline, tiny.settings(use_references=False), 3)
    edits = deployed_edits(pipeline, data, SETTINGS, 0)
    assert not np.array_equal(edits, deployed_edits(pipeline, without, SETTINGS, 0))


def test_scores_are_means_over_what_could_be_scored(tiny, base):
    data = tiny.data(base(), tiny.settings(), 3)
    raw = [frame.rgb for frame in data.frames]
    scores = mean_scores(tiny.ColourFeedback(["1"]), data, raw)
    photos = [photo.mean(axis=(0, 1)) for photo in data.photos]
    expected = [np.abs(raw[i].mean(axis=(0, 1)) - photos[i % 2]).mean() / 255 for i in (0, 2)]
    assert scores["preview_semantic"] == pytest.approx(np.mean(expected))
    assert scores["preview_structural"] == 0


def test_edits_are_held_to_what_is_to_be_kept(tiny, base):
    data = tiny.data(base(), tiny.settings(), 2)
    region = np.zeros((16, 16), np.bool_)
    region[:8] = True
    data = replace(data, frame_regions=(region, region))
    raw = [frame.rgb for frame in data.frames]
    feedback = tiny.differentiable_feedback()
    by_frame = mean_scores(feedback, data, raw)["preview_semantic"]
    kept = [np.zeros_like(image) for image in raw]
    by_kept = mean_scores(feedback, data, raw, kept)["preview_semantic"]
    apart = np.mean([np.square(image[8:] / 255.0).mean() for image in raw])
    assert by_kept - by_frame == pytest.approx(feedback.semantic.rec_lambda * apart, rel=1e-4)


def test_the_floor_is_what_photos_score_among_themselves(tiny, base):
    data, feedback = tiny.data(base(), tiny.settings(), 2), tiny.differentiable_feedback()
    first, second = data.photos
    pair = [
        mean_scores(feedback, as_if_edited(data, one), [cover(other, 16, 16)])["preview_semantic"]
        for one, other in ((first, second), (second, first))
    ]
    assert photo_floor(feedback, data) == pytest.approx(np.mean(pair))
    alike = replace(data, photos=(first, first))
    assert photo_floor(feedback, alike) == pytest.approx(0, abs=1e-6)
    assert photo_floor(feedback, as_if_edited(data, first)) is None
    mask = np.ones(first.shape[:2], np.bool_)
    assert photo_floor(feedback, replace(data, photo_regions=(mask, None))) is None


def as_if_edited(data, photo):
    """One frame, one photo, and no region that anything would be held to outside of."""
    return replace(
        data.subset(slice(1)), frame_regions=(None,), photos=(photo,), photo_regions=(None,)
    )


def test_what_is_said_is_a_share_of_the_distance_whatever_the_photos_are():
    after = {"preview_semantic": 0.45}
    for apart in (0.2, 0.55, 0.9):  # of the way to the photos among themselves: 37, 300, -50 %
        before = {"preview_semantic": 0.6, "photos_apart": apart}
        said = nearness(before, after)
        assert said == f", 25 % nearer to your photos (two of them are {apart:.4f} apart)"
    assert nearness({"preview_semantic": 0.6}, after) == ", 25 % nearer to your photos"
    assert nearness({"preview_semantic": 0.4}, after) == ", 12 % farther from your photos"


def test_the_card_says_how_much_nearer_and_how_far_the_photos_are_apart(tiny):
    scores = {"preview_semantic": 0.5, "preview_structural": 0.1}
    row = {"epoch": 1, **scores}
    before = {**scores, "preview_semantic": 0.6, "photos_apart": 0.2}
    card = model_card(
        tiny.settings(), photos=2, frames=6, before=before, history=[row], references=True
    )
    assert "Two of the photos are 0.2000 apart" in card
    assert "| 0 | 0.1000 | 0.6000 | 0 % nearer |  |" in card
    assert "| 1 | 0.1000 | 0.5000 | 17 % nearer |  |" in card
    del before["photos_apart"]
    without = model_card(
        tiny.settings(), photos=1, frames=6, before=before, history=[row], references=True
    )
    assert "apart" not in without and "| 1 | 0.1000 | 0.5000 | 17 % nearer |  |" in without


def test_a_grid_has_a_row_a_frame():
    columns = [[np.full((2, 3, 3), 10 * c + r, np.uint8) for r in range(4)] for c in range(2)]
    picture = grid(columns)
    assert picture.shape == (8, 6, 3)
    assert picture[::2, ::3, 0].tolist() == [[0, 10], [1, 11], [2, 12], [3, 13]]


@pytest.mark.parametrize(
    ("editor", "line"),
    [
        ("instruct-pix2pix", "base_model: timbrooks/instruct-pix2pix"),
        ("someone/their-pix2pix", "base_model: someone/their-pix2pix"),
        ("embedded", None),
        ("/home/me/base", None),
        ("../base", None),
    ],
)
def test_the_card_names_bases_of_the_hub_only(tiny, editor, line):
    card = model_card(
        tiny.settings(editor=editor), photos=2, frames=6, before={}, history=[], references=False
    )
    head = card.split("---\n")[1].splitlines()
    assert [entry for entry in head if entry.startswith("base_model")] == ([line] if line else [])


def test_a_folder_is_no_hub_id(tiny, tmp_path, monkeypatch):
    (tmp_path / "runs" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    card = model_card(
        tiny.settings(editor="runs/base"), photos=1, frames=1, before={}, history=[],
        references=True,
    )  # fmt: skip
    assert "base_model:" not in card


def test_tensors_of_previews_need_no_gradient(tiny, base):
    pipeline = base()
    pipeline.unet.requires_grad_(True)
    deployed_edits(pipeline, tiny.data(pipeline, tiny.settings(), 1), SETTINGS, 0)
    assert torch.is_grad_enabled()


class RedIsWrong:
    """A guard that rejects an edit with a red first pixel."""

    def judge(self, frame, edit):
        return GuardVerdict(bool(edit.rgb[0, 0, 0] < 255), (), "", "estimate")

    def judge_batch(self, frames, edits):
        return [self.judge(frame, edit) for frame, edit in zip(frames, edits, strict=True)]


def test_acceptance_is_noted_for_each_camera_and_its_fall_is_pointed_out():
    black = np.zeros((16, 16, 3), np.uint8)
    red = np.full((16, 16, 3), (255, 0, 0), np.uint8)
    frames = [Frame(black, "front"), Frame(black, "front"), Frame(black, "wrist")]
    before = accepted_shares(RedIsWrong(), frames, [black, black, black])
    after = accepted_shares(RedIsWrong(), frames, [black, black, red])
    assert after == {
        "preview_accepted": pytest.approx(2 / 3),
        "preview_accepted/front": 1.0,
        "preview_accepted/wrist": 0.0,
    }
    assert acceptance_note(before, before) == "the guard accepts 100% of the edits (base: 100%)"
    assert "FEWER THAN BEFORE from camera wrist 0%" in acceptance_note(before, after)


def test_pictures_of_a_folder_are_noted_as_one():
    black, red = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), (255, 0, 0), np.uint8)
    frames = [Frame(black, name) for name in ("IMG_1", "IMG_2")]
    assert accepted_shares(RedIsWrong(), frames, [black, red]) == {
        "preview_accepted": 0.5,
        "preview_accepted/pictures": 0.5,
    }
