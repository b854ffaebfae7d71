from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from spie_robo.editor.latents import encode_image
from spie_robo.editor.references import to_tensor
from spie_robo.errors import ConfigError, FrameError
from spie_robo.feedback.config import FeedbackConfig
from spie_robo.training import inputs
from spie_robo.training.inputs import epoch_inputs, gather_data, held_out_first, random_crop


def gather(tiny, pipeline, frames, *, feedback=None, resolution=16, **changes):
    return gather_data(
        pipeline,
        frames,
        tiny.photos(2),
        photo_regions=[None, None],
        feedback=feedback or FeedbackConfig(),
        segmenter=None,
        resolution=resolution,
        instruction="a lab",
        **changes,
    )


CUBE = FeedbackConfig(region="names", region_names=("red cube",))


def test_latents_are_those_of_the_frames(tiny, tiny_pipeline):
    data = gather(tiny, tiny_pipeline, tiny.frames(3))
    assert data.input_latents.shape == (3, 4, 4, 4) and data.style_latents.shape == (2, 4, 4, 4)
    with torch.no_grad():
        expected = encode_image(tiny_pipeline.vae, to_tensor(data.frames[2].rgb)[None])
    torch.testing.assert_close(data.input_latents[2:], expected)
    assert gather(tiny, tiny_pipeline, tiny.frames(3), use_references=False).style_latents is None


def test_epochs_show_crops_of_the_photos_beside_the_whole_ones(tiny, tiny_pipeline):
    data = gather(tiny, tiny_pipeline, tiny.frames(3), photo_crops=2)
    again, other = (
        gather(tiny, tiny_pipeline, tiny.frames(3), photo_crops=2, seed=seed) for seed in (0, 1)
    )
    assert data.crop_latents.shape == (2, 2, 4, 4, 4)
    assert torch.equal(data.crop_latents, again.crop_latents)
    assert not torch.equal(data.crop_latents, other.crop_latents)
    inputs = epoch_inputs(data, 40, seed=0, epoch=0)
    shown = {style.numpy().tobytes() for style in inputs.style_latents}
    known = [*data.style_latents, *data.crop_latents.flatten(0, 1)]
    assert shown == {style.numpy().tobytes() for style in known}
    for style, judged in zip(inputs.style_latents, inputs.judged, strict=True):
        photo = next(i for i, photo in enumerate(data.photos) if photo is judged.photo)
        own = [data.style_latents[photo], *data.crop_latents[photo]]
        assert any(torch.equal(style, view) for view in own)  # of the photo that it is held to
    assert gather(tiny, tiny_pipeline, tiny.frames(2)).crop_latents is None


def test_a_crop_is_a_part_of_the_photo_and_half_of_them_are_mirrored():
    photo = np.arange(40 * 60, dtype=np.int64).reshape(40, 60, 1).repeat(3, axis=2)
    mirrored = 0
    for seed in range(40):
        crop = random_crop(photo, np.random.default_rng(seed))
        assert 16 <= crop.shape[0] <= 40 and 24 <= crop.shape[1] <= 60
        mirrored += bool(crop[0, 0, 0] > crop[0, -1, 0])
        straight = crop[:, ::-1] if crop[0, 0, 0] > crop[0, -1, 0] else crop
        top, left = divmod(int(straight[0, 0, 0]), 60)
        expected = photo[top : top + crop.shape[0], left : left + crop.shape[1]]
        assert np.array_equal(straight, expected)
    assert 10 <= mirrored <= 30


def test_frames_come_to_the_working_size_with_their_geometry(tiny, tiny_pipeline):
    frames = tiny.frames(2, side=32)
    data = gather(tiny, tiny_pipeline, frames, feedback=CUBE)
    for frame, region, original in zip(data.frames, data.frame_regions, frames, strict=True):
        assert frame.rgb.shape == (16, 16, 3) and region.shape == (16, 16)
        assert frame.geometry.depth.shape == frame.geometry.segmentation.shape == (16, 16)
        assert set(np.unique(frame.geometry.segmentation)) == {0, 1}
        assert np.isin(frame.geometry.depth, original.geometry.depth).all()
        assert np.array_equal(region, frame.geometry.segmentation == 1)


def test_frames_of_two_shapes_are_refused(tiny, tiny_pipeline):
    wide = tiny.frames(1, 32)[0]
    wide = type(wide)(np.ascontiguousarray(wide.rgb[:16]), "wide")
    with pytest.raises(FrameError, match=r"one shape.*cameras"):
        gather(tiny, tiny_pipeline, [*tiny.frames(2), wide])


def test_frames_of_one_working_size_may_differ_in_pixels(tiny, tiny_pipeline):
    data = gather(tiny, tiny_pipeline, [*tiny.frames(1), *tiny.frames(1, 32)])
    assert len(data.frames) == 2


def test_names_that_match_no_object_are_refused(tiny, tiny_pipeline):
    feedback = FeedbackConfig(region="names", region_names=("red cub",))
    with pytest.raises(FrameError, match=r"Did you mean 'red cube'\?"):
        gather(tiny, tiny_pipeline, tiny.frames(2), feedback=feedback)


def test_frames_without_the_object_are_left_out(tiny, tiny_pipeline, caplog):
    frames = tiny.frames(5, cube=lambda i: i != 2)
    with caplog.at_level(logging.WARNING):
        data = gather(tiny, tiny_pipeline, frames, feedback=CUBE)
    assert [frame.camera for frame in data.frames] == ["0", "1", "3", "4"]
    assert len(data.input_latents) == len(data.frame_regions) == 4
    assert "1 of 5 frames left out" in caplog.text


def test_an_object_that_is_never_visible_is_refused(tiny, tiny_pipeline):
    with pytest.raises(FrameError, match="visible"):
        gather(tiny, tiny_pipeline, tiny.frames(3, cube=lambda i: False), feedback=CUBE)


def test_a_subset_keeps_the_photos(tiny, tiny_pipeline):
    data = gather(tiny, tiny_pipeline, tiny.frames(5))
    part = data.subset(slice(3, None))
    assert [frame.camera for frame in part.frames] == ["3", "4"]
    assert torch.equal(part.input_latents, data.input_latents[3:])
    assert part.photos == data.photos and part.style_latents is data.style_latents


@pytest.mark.parametrize(
    ("cameras", "held_out", "expected"),
    [
        ("fffwww", 2, [1, 4]),  # in the order of a store, where the first two are one camera's
        ("fwfwfwfw", 4, [2, 3, 6, 7]),
        ("ffffffw", 4, [1, 3, 5, 6]),  # one camera has a single frame
        ("ffffffff", 2, [2, 6]),
        ("fw", 1, [0]),
    ],
)
def test_frames_are_held_out_of_every_camera_and_far_apart(tiny, cameras, held_out, expected):
    names = {"f": "front", "w": "wrist"}
    plain = tiny.frames(len(cameras))
    frames = [replace(f, camera=names[c]) for f, c in zip(plain, cameras, strict=True)]
    ordered = held_out_first(frames, held_out)
    rest = [i for i in range(len(frames)) if i not in expected]
    assert [id(f) for f in ordered] == [id(frames[i]) for i in (*expected, *rest)]


def test_pictures_of_a_folder_are_held_out_evenly(tiny):
    pictures = [replace(f, geometry=None, camera=f"{i}.png") for i, f in enumerate(tiny.frames(6))]
    assert [frame.camera for frame in held_out_first(pictures, 2)[:2]] == ["1.png", "4.png"]


def test_no_epoch_draws_the_numbers_of_the_crops(data, monkeypatch):
    seeds = []
    generator = np.random.default_rng
    monkeypatch.setattr(
        np.random, "default_rng", lambda seed: seeds.append(seed) or generator(seed)
    )
    for epoch in (0, 12, 100):
        epoch_inputs(data, 4, seed=3, epoch=epoch)
    assert [3, inputs._CROPS] not in seeds and len(seeds) == 3


@pytest.fixture
def data(tiny, tiny_pipeline):
    return gather(tiny, tiny_pipeline, tiny.frames(5))


def test_every_frame_is_drawn_as_often_as_any_other(data):
    drawn = Counter(one.frame.camera for one in epoch_inputs(data, 20, seed=0, epoch=0).judged)
    assert set(drawn.values()) == {4} and len(drawn) == 5
    few = [one.frame.camera for one in epoch_inputs(data, 4, seed=0, epoch=0).judged]
    assert len(set(few)) == 4


def test_latents_photos_and_frames_belong_together(data):
    inputs = epoch_inputs(data, 12, seed=0, epoch=0)
    seen = set()
    for i, one in enumerate(inputs.judged):
        assert torch.equal(inputs.input_latents[i], data.input_latents[int(one.frame.camera)])
        (photo,) = [p for p, image in enumerate(data.photos) if image is one.photo]
        assert torch.equal(inputs.style_latents[i], data.style_latents[photo])
        seen.add(photo)
    assert seen == {0, 1}
    assert inputs.instructions == ("a lab",) * 12 and len(inputs) == 12


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_inputs_of_one(data, processes):
    whole = epoch_inputs(data, 12, seed=3, epoch=4)
    parts = [
        epoch_inputs(data, 12, seed=3, epoch=4, process=p, processes=processes)
        for p in range(processes)
    ]
    assert sorted(n for part in parts for n in part.numbers) == list(whole.numbers)
    for part in parts:
        for row, number in enumerate(part.numbers):
            assert torch.equal(part.input_latents[row], whole.input_latents[number])
            assert torch.equal(part.style_latents[row], whole.style_latents[number])
            assert part.judged[row].frame is whole.judged[number].frame
            assert part.judged[row].photo is whole.judged[number].photo


def test_the_draw_is_a_function_of_seed_and_epoch(data):
    def drawn(seed, epoch):
        return [one.frame.camera for one in epoch_inputs(data, 5, seed=seed, epoch=epoch).judged]

    assert drawn(0, 1) == drawn(0, 1)
    assert len({tuple(drawn(0, epoch)) for epoch in range(6)}) > 1
    assert len({tuple(drawn(seed, 0)) for seed in range(6)}) > 1


def test_inputs_that_cannot_be_shared_out_are_refused(data):
    with pytest.raises(ConfigError, match=r"rollout.inputs.*multiple of the 3"):
        epoch_inputs(data, 4, seed=0, epoch=0, process=0, processes=3)


def test_without_references_there_are_no_style_latents(tiny, tiny_pipeline):
    data = gather(tiny, tiny_pipeline, tiny.frames(2), use_references=False)
    assert epoch_inputs(data, 2, seed=0, epoch=0).style_latents is None
