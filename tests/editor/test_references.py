from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from spie_robo.editor.photo_check import load_references
from spie_robo.editor.references import (
    LatentReferences,
    PhotoReferences,
    choose_reference,
    cover,
    read_photo,
)
from spie_robo.errors import ReferencePhotoError


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def scene(seed):
    """Large areas of colour: what tells two photos apart."""
    coarse = noise(4, 5, seed)
    return np.kron(coarse, np.ones((16, 16, 1), np.uint8))


def test_a_folder_gives_its_photos_sorted(tmp_path):
    for index, name in enumerate(["b.png", "a.PNG"]):
        Image.fromarray(scene(index)).save(tmp_path / name, format="PNG")
    (tmp_path / "notes.txt").write_text("not a photo")
    (tmp_path / ".hidden.png").write_bytes(b"junk")
    loaded = load_references(tmp_path)
    np.testing.assert_array_equal(loaded.images[0], scene(1))
    np.testing.assert_array_equal(loaded.images[1], scene(0))


def test_one_file(tmp_path):
    Image.fromarray(scene(0)).save(tmp_path / "a.png")
    assert len(load_references(str(tmp_path / "a.png")).images) == 1


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: 90 degrees clockwise make it upright
    Image.fromarray(noise(20, 40)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png"), np.rot90(noise(20, 40), -1))


def test_alpha_is_flattened_on_white(tmp_path):
    rgba = np.zeros((20, 20, 4), np.uint8)
    rgba[:10, :, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    assert (photo[:10] == 0).all() and (photo[10:] == 255).all()


@pytest.mark.parametrize("mode", ["L", "P", "LA", "1", "I;16"])
def test_other_modes_become_rgb(tmp_path, mode):
    image = Image.fromarray(noise(20, 20))
    image = image.convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png").shape == (20, 20, 3)


def test_grey_of_16_bits_is_scaled_not_clipped(tmp_path):
    grey = np.linspace(0, 2**16 - 1, 400).reshape(20, 20).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    found = read_photo(tmp_path / "a.png")
    assert np.abs(found[..., 0].astype(int) - grey // 256).max() == 0


def test_large_photos_are_shrunk(tmp_path):
    Image.new("RGB", (6000, 3000), "teal").save(tmp_path / "a.jpg")
    assert read_photo(tmp_path / "a.jpg").shape == (1024, 2048, 3)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n junk", "cut"])
def test_corrupt_photos_are_named(tmp_path, content):
    path = tmp_path / "broken.png"
    if content == "cut":
        Image.fromarray(noise(64, 64)).save(path)
        content = path.read_bytes()[:-4000]
    path.write_bytes(content)
    with pytest.raises(ReferencePhotoError, match=r"broken\.png"):
        load_references(tmp_path)


def test_folders_without_photos(tmp_path):
    with pytest.raises(ReferencePhotoError, match="found none"):
        load_references(tmp_path)
    with pytest.raises(ReferencePhotoError, match="nowhere"):
        load_references(tmp_path / "nowhere")


@pytest.mark.parametrize("images", [[], [np.zeros((20, 20, 3))], [np.zeros((4, 4, 3), np.uint8)]])
def test_unusable_arrays(images):
    with pytest.raises(ReferencePhotoError, match="expected"):
        load_references(images)


def test_cover_fills_without_stretching():
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, 100:200] = 255  # the square in the middle
    assert (cover(image, 32, 32)[:, 2:-2] == 255).all()
    assert cover(image, 30, 64).shape == (30, 64, 3)


def test_latents_do_not_depend_on_the_rest_of_the_set(tiny_pipeline):
    photos = (noise(40, 50, 1), noise(60, 30, 2))
    both = PhotoReferences(photos).latents(tiny_pipeline.vae, 32, 32)
    second = PhotoReferences(photos[1:]).latents(tiny_pipeline.vae, 32, 32)
    assert both.shape == (2, 4, 8, 8)
    assert torch.equal(both[1], second[0])


def test_latent_references_round_trip_and_resize(tiny_pipeline, tmp_path):
    stored = PhotoReferences((noise(40, 50),)).latents(tiny_pipeline.vae, 32, 32)
    LatentReferences(stored).save(tmp_path)
    loaded = LatentReferences.load(tmp_path)
    torch.testing.assert_close(loaded.latents(tiny_pipeline.vae, 32, 32), stored, atol=1e-2, rtol=0)
    assert loaded.latents(tiny_pipeline.vae, 32, 48).shape == (1, 4, 8, 12)
    assert LatentReferences.load(tmp_path / "..") is None
    with pytest.raises(ReferencePhotoError, match="expected latents of 4 channels"):
        LatentReferences(torch.zeros(1, 5, 8, 8)).latents(tiny_pipeline.vae, 32, 32)
    (tmp_path / "references.safetensors").write_bytes(b"junk")
    with pytest.raises(ReferencePhotoError, match=r"references\.safetensors"):
        LatentReferences.load(tmp_path)


def test_the_choice_is_a_function_of_the_seed_and_reaches_all():
    choices = [choose_reference(3, seed) for seed in range(30)]
    assert choices == [choose_reference(3, seed) for seed in range(30)]
    assert set(choices) == {0, 1, 2}
