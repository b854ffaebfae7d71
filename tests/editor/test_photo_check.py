from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from spie_robo.editing.description import references_digest
from spie_robo.editor.photo_check import check_photos, load_references, near_duplicates
from spie_robo.editor.photo_files import MOST_PHOTOS, used_photos
from spie_robo.errors import ReferencePhotoError


def scene(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """Large coloured areas, another arrangement for each seed: what a thumbnail can tell apart."""
    coarse = np.random.default_rng(seed).integers(20, 236, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def save(path: Path, image: np.ndarray, **options: object) -> None:
    Image.fromarray(image).save(path, **options)


def test_photos_come_in_order_of_their_names_without_notes(tmp_path: Path) -> None:
    for index, name in enumerate(["b.jpg", "a.png"]):
        save(tmp_path / name, scene(index))
    checked = check_photos(tmp_path)
    assert checked.names == ("a.png", "b.jpg")
    np.testing.assert_array_equal(checked.images[0], scene(1))
    assert checked.notes == ()


def test_no_photos(tmp_path: Path) -> None:
    with pytest.raises(ReferencePhotoError, match="found none"):
        check_photos(tmp_path)
    with pytest.raises(ReferencePhotoError, match="nowhere"):
        check_photos(tmp_path / "nowhere")


@pytest.mark.parametrize("as_file", [True, False])
def test_one_photo_is_enough_and_noted(tmp_path: Path, as_file: bool) -> None:
    save(tmp_path / "a.png", scene(0))
    checked = check_photos(tmp_path / "a.png" if as_file else tmp_path)
    assert len(checked.images) == 1
    assert "one photo" in checked.notes[0]


def test_of_two_hundred_photos_twenty_are_used_and_only_they_are_read(tmp_path: Path) -> None:
    for index in range(200):
        save(tmp_path / f"{index:03}.png", scene(index, 64, 64))
    (tmp_path / "001.png").write_bytes(b"junk")  # not one of the twenty
    checked = check_photos(tmp_path)
    assert len(checked.images) == MOST_PHOTOS
    assert (checked.names[0], checked.names[-1]) == ("000.png", "199.png")
    gaps = np.diff([int(file.stem) for file in checked.files])
    assert gaps.min() >= 10 and gaps.max() <= 11
    assert "200 photos" in checked.notes[0]


def test_a_corrupt_photo_is_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png", scene(0))
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "a.png").read_bytes()[:500])
    with pytest.raises(ReferencePhotoError, match=r"broken\.jpg"):
        check_photos(tmp_path)


def test_a_small_photo_is_named_with_its_size(tmp_path: Path) -> None:
    save(tmp_path / "small.png", scene(0, 63, 200))
    with pytest.raises(ReferencePhotoError, match=r"small\.png.*64x64.*200x63"):
        check_photos(tmp_path)


def test_a_forty_megapixel_photo_is_shrunk(tmp_path: Path) -> None:
    Image.new("RGB", (8000, 5000), "teal").save(tmp_path / "large.jpg")
    assert max(check_photos(tmp_path).images[0].shape) <= 2048


def test_alpha_and_exif_rotation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "turned.png", scene(0, 64, 100), exif=exif)
    opaque = np.zeros((96, 128), np.uint8)
    opaque[48:] = 255
    save(tmp_path / "layer.png", np.dstack([scene(1), opaque]))
    layer, turned = check_photos(tmp_path).images
    assert (layer[:48] == 255).all()
    np.testing.assert_array_equal(layer[48:], scene(1)[48:])
    np.testing.assert_array_equal(turned, np.rot90(scene(0, 64, 100), -1))


def test_near_duplicates_are_dropped_and_both_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png", scene(0, 300, 400))
    save(tmp_path / "b.jpg", scene(0, 300, 400), quality=60)
    save(tmp_path / "c.png", scene(0, 150, 200))
    save(tmp_path / "d.png", scene(1, 300, 400))
    checked = check_photos(tmp_path)
    assert checked.names == ("a.png", "d.png")
    assert len(checked.notes) == 2
    assert "b.jpg" in checked.notes[0] and "a.png" in checked.notes[0]
    assert "c.png" in checked.notes[1] and "a.png" in checked.notes[1]


def test_another_exposure_is_a_photo_of_its_own() -> None:
    darker = (scene(0) * 0.8).astype(np.uint8)
    assert near_duplicates([scene(0), darker]) == {}


def test_duplicates_between_two_sets() -> None:
    first, second = [scene(0), scene(1)], [scene(2), scene(1)]
    assert near_duplicates(second, first) == {1: 1}
    assert near_duplicates([scene(3), scene(3)], first) == {}


def test_masks_beside_their_photos_are_no_photos(tmp_path: Path) -> None:
    for index, name in enumerate(["a.jpg", "a.mask.png", "b.png", "b_mask.png", "face_mask.png"]):
        save(tmp_path / name, scene(index))
    assert check_photos(tmp_path).names == ("a.jpg", "b.png", "face_mask.png")


def test_pictures_of_other_formats_are_not_left_out_in_silence(tmp_path):
    for name in ("b.HEIC", "a.webp", "notes.txt"):
        (tmp_path / name).write_bytes(b"some")
    with pytest.raises(ReferencePhotoError, match=r"found none.*left out \(a\.webp, b\.HEIC\)"):
        check_photos(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)).save(
        tmp_path / "c.png"
    )
    first, *_ = check_photos(tmp_path).notes
    assert "left out (a.webp, b.HEIC). Save them as JPEG" in first


def test_training_and_editing_use_the_same_photos_of_a_folder(tmp_path: Path) -> None:
    for index in range(45):
        save(tmp_path / f"{index:03}.png", scene(index, 64, 64))
    save(tmp_path / "copy.png", scene(0, 64, 64))
    trained, edited = check_photos(tmp_path).images, load_references(tmp_path).images
    assert len(trained) == len(edited) <= MOST_PHOTOS
    for one, other in zip(trained, edited, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_no_photo_is_neither_read_nor_hashed(tmp_path: Path) -> None:
    save(tmp_path / "a.png", scene(0))
    before = references_digest(tmp_path)
    video = tmp_path / "walk.mp4"
    video.touch()
    os.truncate(video, 2**43)  # sparse: reading it would take for ever
    os.mkfifo(tmp_path / "pipe.png")
    assert references_digest(tmp_path) == before
    assert used_photos(tmp_path) == [tmp_path / "a.png"]
    save(tmp_path / "a.png", scene(1))
    assert references_digest(tmp_path) != before


def test_a_folder_that_may_not_be_read_is_an_error_by_name(tmp_path: Path, monkeypatch) -> None:
    save(tmp_path / "a.png", scene(0))

    def refused(self: Path):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(ReferencePhotoError, match=r"cannot be read.*Permission denied"):
        check_photos(tmp_path)
    with pytest.raises(ReferencePhotoError, match="cannot be read"):
        references_digest(tmp_path)
