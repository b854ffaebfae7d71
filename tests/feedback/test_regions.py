from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spie_robo.errors import ConfigError, FrameError, ReferencePhotoError
from spie_robo.feedback.config import FeedbackConfig
from spie_robo.feedback.records import FeedbackInput, Mask
from spie_robo.feedback.regions import (
    cover_region,
    find_mask,
    frame_region,
    is_mask,
    named_region,
    patch_region,
    photo_regions,
    read_mask,
)
from spie_robo.types import RGB, Frame, Geometry

MASKS = FeedbackConfig(region="masks")
PHRASE = FeedbackConfig(
    region="phrase", region_phrase="the wooden table", detector="a/b", segmenter="c/d"
)


class TopHalf:
    """Finds everything in the upper half; nothing for the phrase "nothing"."""

    def segment(self, image: RGB, phrase: str) -> Mask:
        if phrase == "nothing":
            raise FrameError("Nothing that looks like 'nothing' was found.")
        mask = np.zeros(image.shape[:2], np.bool_)
        mask[: len(mask) // 2] = True
        return mask


def _save(path: Path, mask: np.ndarray) -> None:
    Image.fromarray(mask).save(path)


# Names


def test_objects_of_several_words_are_found(scene: Frame) -> None:
    mask = named_region(scene, ["red cube"])
    assert mask.dtype == np.bool_ and mask.sum() == 16 * 16
    assert mask[40:56, 8:24].all()


@pytest.mark.parametrize("name", ["wooden table", "Wooden_Table", "wooden-table", " wooden  table"])
def test_case_and_joints_of_words_do_not_matter(scene: Frame, name: str) -> None:
    assert named_region(scene, [name]).sum() == 32 * 64 - 16 * 16


def test_several_names_are_one_region(scene: Frame) -> None:
    assert named_region(scene, ["red cube", "wooden_table"]).sum() == 32 * 64
    # the arm is known but hidden: the cube is region enough
    assert named_region(scene, ["red cube", "robot arm"]).sum() == 16 * 16


def test_all_bodies_of_one_name_count() -> None:
    segmentation = np.zeros((16, 16), np.int32)
    segmentation[0, :4] = (3, 3, 5, 5)
    geometry = Geometry(segmentation=segmentation, names={0: "floor", 3: "ball", 5: "ball"})
    assert named_region(Frame(np.zeros((16, 16, 3), np.uint8), "c", geometry), ["ball"]).sum() == 4


def test_a_part_of_a_name_is_not_the_name(scene: Frame) -> None:
    with pytest.raises(FrameError, match="no object is called 'red'"):
        named_region(scene, ["red"])


def test_an_unknown_name_lists_what_there_is_and_guesses(scene: Frame) -> None:
    with pytest.raises(FrameError) as caught:
        named_region(scene, ["wodden table"])
    message = str(caught.value)
    assert "Did you mean 'wooden_table'?" in message
    assert "'front'" in message
    assert all(repr(name) in message for name in ("wall", "wooden_table", "red cube", "robot arm"))


def test_an_object_that_is_not_visible_is_an_error_and_not_everything(scene: Frame) -> None:
    with pytest.raises(FrameError, match=r"nothing of 'robot arm'.*'red cube', 'wall'") as caught:
        named_region(scene, ["robot arm"])
    assert caught.value.args[0].count("robot arm") == 1  # it is not among the visible


@pytest.mark.parametrize(
    "geometry",
    [None, Geometry(), Geometry(segmentation=np.zeros((64, 64), np.int32))],
    ids=["no geometry", "no segmentation", "no names"],
)
def test_names_need_a_named_segmentation(geometry: Geometry | None) -> None:
    frame = Frame(np.zeros((64, 64, 3), np.uint8), "wrist", geometry)
    with pytest.raises(FrameError, match=r"'wrist'.*segmentation"):
        named_region(frame, ["cube"])


# Frames


def test_each_kind_of_region_of_a_frame(scene: Frame) -> None:
    names = FeedbackConfig(region="names", region_names=("red cube",))
    masks = FeedbackConfig(region="masks", region_names=("red cube",))
    assert frame_region(scene, FeedbackConfig()) is None
    assert frame_region(scene, MASKS) is None
    for config in (names, masks):
        mask = frame_region(scene, config)
        assert mask is not None and mask.sum() == 256
    found = frame_region(scene, PHRASE, TopHalf())
    assert found is not None and found[:32].all() and not found[32:].any()


def test_a_phrase_needs_a_segmenter(scene: Frame) -> None:
    with pytest.raises(ConfigError, match="segmenter"):
        frame_region(scene, PHRASE)
    with pytest.raises(ConfigError, match="segmenter"):
        photo_regions([Path("a.png")], [scene.rgb], PHRASE)


# Photos


@pytest.mark.parametrize("name", ["desk photo.mask.png", "desk photo_mask.png"])
def test_a_mask_beside_a_photo_is_read_white_inside(tmp_path: Path, name: str) -> None:
    mask = np.zeros((20, 40), np.uint8)
    mask[5:10, 8:16] = 255
    _save(tmp_path / name, mask)
    photo = tmp_path / "desk photo.jpg"
    assert find_mask(photo) == tmp_path / name
    assert is_mask(tmp_path / name) and not is_mask(photo)
    (region,) = photo_regions([photo], [np.zeros((20, 40, 3), np.uint8)], MASKS)
    assert np.array_equal(region, mask > 0)


def test_a_mask_at_another_scale_is_brought_to_the_photo(tmp_path: Path) -> None:
    mask = np.zeros((40, 80), np.uint8)
    mask[:, 40:] = 255
    _save(tmp_path / "a.mask.png", mask)
    region = read_mask(tmp_path / "a.mask.png", np.zeros((20, 40, 3), np.uint8))
    assert region.shape == (20, 40) and region[:, 20:].all() and not region[:, :20].any()


def test_a_coloured_mask_counts_by_its_brightness(tmp_path: Path) -> None:
    mask = np.zeros((16, 16, 4), np.uint8)
    mask[..., 3] = 255
    mask[:8, :, :3] = 255
    _save(tmp_path / "a.mask.png", mask)
    assert read_mask(tmp_path / "a.mask.png", np.zeros((16, 16, 3), np.uint8)).sum() == 8 * 16


def test_a_missing_mask_names_the_files_that_would_do(tmp_path: Path) -> None:
    with pytest.raises(ReferencePhotoError, match=r"desk\.jpg.*desk\.mask\.png or desk_mask\.png"):
        photo_regions([tmp_path / "desk.jpg"], [np.zeros((16, 16, 3), np.uint8)], MASKS)


def test_an_empty_mask_is_an_error_and_not_everything(tmp_path: Path) -> None:
    _save(tmp_path / "a.mask.png", np.full((16, 16), 127, np.uint8))
    with pytest.raises(ReferencePhotoError, match=r"a\.mask\.png.*empty"):
        read_mask(tmp_path / "a.mask.png", np.zeros((16, 16, 3), np.uint8))


def test_a_mask_of_another_shape_is_refused(tmp_path: Path) -> None:
    _save(tmp_path / "a.mask.png", np.full((40, 20), 255, np.uint8))
    with pytest.raises(ReferencePhotoError, match=r"expected the shape of its photo, 20x40.*40x20"):
        read_mask(tmp_path / "a.mask.png", np.zeros((20, 40, 3), np.uint8))


@pytest.mark.parametrize("content", [b"", b"not a picture"])
def test_a_broken_mask_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mask.png").write_bytes(content)
    with pytest.raises(ReferencePhotoError, match=r"a\.mask\.png: cannot be read"):
        read_mask(tmp_path / "a.mask.png", np.zeros((16, 16, 3), np.uint8))


def test_regions_of_photos_by_kind(tmp_path: Path) -> None:
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    images = [np.zeros((16, 16, 3), np.uint8)] * 2
    mask = np.zeros((16, 16), np.uint8)
    mask[:4] = 255
    _save(tmp_path / "b.mask.png", mask)
    assert photo_regions(files, images, FeedbackConfig()) == [None, None]
    named = FeedbackConfig(region="names", region_names=("cube",))
    first, second = photo_regions(files, images, named)
    assert first is None and second is not None and second.sum() == 64
    for region in photo_regions(files, images, PHRASE, TopHalf()):
        assert region is not None and region.sum() == 128


def test_a_phrase_that_is_not_in_a_photo_names_the_photo() -> None:
    config = FeedbackConfig(
        region="phrase", region_phrase="nothing", detector="a/b", segmenter="c/d"
    )
    with pytest.raises(ReferencePhotoError, match=r"b\.png.*'nothing'"):
        photo_regions([Path("b.png")], [np.zeros((16, 16, 3), np.uint8)], config, TopHalf())


# Patches


def _reduce(*boxes: tuple[slice, slice]) -> list[list[bool]]:
    region = np.zeros((32, 32), np.bool_)
    for box in boxes:
        region[box] = True
    return patch_region(region, 2, 2).tolist()


def test_a_patch_counts_from_half_of_its_area_on() -> None:
    assert _reduce((slice(0, 16), slice(0, 8))) == [[True, False], [False, False]]
    assert _reduce((slice(0, 16), slice(0, 24))) == [[True, True], [False, False]]
    just_less = (slice(0, 15), slice(16, 24))
    assert _reduce((slice(0, 16), slice(0, 8)), just_less) == [[True, False], [False, False]]


def test_if_none_reaches_half_the_fullest_patch_counts() -> None:
    assert _reduce((slice(0, 2), slice(0, 2)), (slice(20, 24), slice(20, 24))) == [
        [False, False],
        [False, True],
    ]


def test_a_single_pixel_has_a_patch() -> None:
    region = np.zeros((128, 128), np.bool_)
    region[127, 0] = True
    reduced = patch_region(region, 8, 8)
    assert reduced.sum() == 1 and reduced[7, 0]


def test_a_grid_that_does_not_divide_the_image() -> None:
    region = np.zeros((100, 100), np.bool_)
    region[:, :50] = True
    reduced = patch_region(region, 7, 7)
    assert reduced[:, :4].all() and not reduced[:, 4:].any()  # the middle column is half inside


def test_an_empty_region_has_no_patches() -> None:
    with pytest.raises(ValueError, match="empty"):
        patch_region(np.zeros((32, 32), np.bool_), 2, 2)


def test_a_region_is_cropped_as_its_photo_is(noise: Callable[..., RGB]) -> None:
    from spie_robo.editor.references import cover

    image = noise(0, 90, 160)
    region = image[..., 0] >= 0
    region[:, :80] = False
    painted = np.where(region[..., None], np.uint8(255), np.uint8(0)).repeat(3, axis=2)
    expected = cover(painted, 64, 64)[..., 0] / 255
    assert np.allclose(cover_region(region, 64, 64), expected)


# Records


def test_a_region_must_fit_its_image(scene: Frame, noise: Callable[..., RGB]) -> None:
    photo, fits = noise(1, 40, 50), np.ones((64, 64), np.bool_)
    FeedbackInput(scene, photo, fits, np.ones((40, 50), np.bool_))
    with pytest.raises(FrameError, match=r"'front'.*\(64, 64\).*\(40, 50\)"):
        FeedbackInput(scene, photo, np.ones((40, 50), np.bool_))
    with pytest.raises(ReferencePhotoError, match=r"\(40, 50\).*\(64, 64\)"):
        FeedbackInput(scene, photo, None, fits)
    with pytest.raises(FrameError, match=r"bool mask.*uint8"):
        FeedbackInput(scene, photo, fits.astype(np.uint8))


def test_an_empty_region_is_refused_on_arrival(scene: Frame, noise: Callable[..., RGB]) -> None:
    with pytest.raises(FrameError, match=r"'front'.*empty"):
        FeedbackInput(scene, noise(1), np.zeros((64, 64), np.bool_))
    with pytest.raises(ReferencePhotoError, match="empty"):
        FeedbackInput(scene, noise(1), None, np.zeros((64, 64), np.bool_))


def test_a_photo_must_be_an_image(scene: Frame) -> None:
    with pytest.raises(ReferencePhotoError, match="float64"):
        FeedbackInput(scene, np.zeros((64, 64, 3)))  # type: ignore[arg-type]
