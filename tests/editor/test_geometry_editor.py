"""The second embedded editor: what its edits depend on, and its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spie_robo.editing.by_name import editor_by_name
from spie_robo.editing.request import EditRequest
from spie_robo.editor.geometry_editor import GeometryEditor, GeometryNetworks, frame_channels
from spie_robo.editor.geometry_unet import PATCH, GeometryUNet
from spie_robo.editor.patch_autoencoder import PatchAutoencoder
from spie_robo.errors import ConfigError, EditorError
from spie_robo.types import Frame, Geometry


@pytest.fixture(scope="module")
def networks() -> GeometryNetworks:
    """A small network whose every path matters."""
    torch.manual_seed(0)
    unet = GeometryUNet(latent_channels=24, widths=(32, 64), layers=1, token_dim=32)
    with torch.no_grad():
        for parameter in unet.parameters():
            if parameter.abs().max() == 0:
                parameter.normal_(0, 0.05)
    vae = PatchAutoencoder.fit(torch.rand(8, 3, 64, 64) * 2 - 1, 24, PATCH)
    return GeometryNetworks(unet.eval(), vae.eval())


@pytest.fixture
def editor(networks: GeometryNetworks) -> GeometryEditor:
    return GeometryEditor(networks, "small", resolution=64)


def picture(seed: int, size: int = 64) -> Any:
    return np.random.default_rng(seed).integers(0, 255, (size, size, 3)).astype(np.uint8)


def with_geometry(frame: Frame, depth: float = 1.0) -> Frame:
    size = frame.rgb.shape[:2]
    plane = np.full(size, depth, np.float32)
    plane[:, size[1] // 2 :] *= 2
    intrinsics = np.array([[50.0, 0, size[1] / 2], [0, 50.0, size[0] / 2], [0, 0, 1]])
    return Frame(
        frame.rgb,
        geometry=Geometry(depth=plane, segmentation=np.ones(size, np.int32), intrinsics=intrinsics),
    )


PHOTOS = [picture(1, 80), picture(2, 100)]


def test_an_untrained_network_gives_the_frame_back() -> None:
    unet = GeometryUNet(latent_channels=24, widths=(32, 64), layers=1, token_dim=32)
    smooth = np.repeat(np.repeat(picture(5, 8), 8, axis=0), 8, axis=1)
    flat = torch.from_numpy(smooth).permute(2, 0, 1)[None].float() / 127.5 - 1
    vae = PatchAutoencoder.fit(flat + 0.01 * torch.randn(8, 3, 64, 64), 24, PATCH)
    editor = GeometryEditor(GeometryNetworks(unet.eval(), vae), "new", resolution=64)
    edit = editor.edit([Frame(smooth)], PHOTOS)[0].rgb
    assert np.abs(edit.astype(int) - smooth).mean() < 4


def test_an_edit_depends_on_photos_seed_and_geometry_and_not_on_neighbours(
    editor: GeometryEditor,
) -> None:
    frame = Frame(picture(0))
    alone = editor.edit([frame], PHOTOS)[0].rgb
    together = editor.edit([Frame(picture(9)), frame], PHOTOS, seeds=[3, 0])[1].rgb
    np.testing.assert_array_equal(alone, together)
    assert not np.array_equal(alone, editor.edit([frame], PHOTOS[:1])[0].rgb)
    assert not np.array_equal(alone, editor.edit([frame], PHOTOS, seeds=[1])[0].rgb)
    assert not np.array_equal(alone, editor.edit([with_geometry(frame)], PHOTOS)[0].rgb)


def test_photos_have_no_order(editor: GeometryEditor) -> None:
    frame = Frame(picture(0))
    one = editor.edit([frame], PHOTOS)[0].rgb.astype(int)
    other = editor.edit([frame], PHOTOS[::-1])[0].rgb.astype(int)
    assert np.abs(one - other).max() <= 1


@pytest.mark.parametrize("shape", [(64, 64), (96, 128), (37, 50), (240, 320)])
def test_frames_of_any_size_keep_it(editor: GeometryEditor, shape: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(np.uint8)
    edit = editor.edit([with_geometry(Frame(rgb))], PHOTOS)[0]
    assert edit.rgb.shape == rgb.shape and edit.rgb.dtype == np.uint8
    assert edit.editor_id == editor.id and edit.steps == 1


def test_geometry_is_the_same_at_another_size() -> None:
    small = frame_channels(with_geometry(Frame(picture(0, 64))), (64, 64))
    large = Frame(picture(0, 128))
    shrunk = with_geometry(large)
    assert shrunk.geometry is not None and shrunk.geometry.intrinsics is not None
    shrunk.geometry.intrinsics[:2] *= 2
    torch.testing.assert_close(frame_channels(shrunk, (64, 64))[:, :2], small[:, :2])
    assert frame_channels(large, (64, 64)).abs().max() == 0


def test_folder_gives_the_same_editor_back(editor: GeometryEditor, tmp_path: Path) -> None:
    editor._own_patches = editor._patches(PHOTOS)
    editor.save(tmp_path / "saved")
    loaded = GeometryEditor.from_pretrained(tmp_path / "saved")
    frame = with_geometry(Frame(picture(0)))
    one, other = (e.edit([frame])[0].rgb.astype(int) for e in (editor, loaded))
    assert np.abs(one - other).mean() < 2  # stored in half precision
    assert loaded.weights_hash == GeometryEditor.from_pretrained(tmp_path / "saved").weights_hash
    assert editor_by_name(loaded.id).id == loaded.id
    with pytest.raises(EditorError, match="expected weights 00000000"):
        GeometryEditor.from_pretrained(f"{tmp_path / 'saved'}@00000000")
    (tmp_path / "saved" / "config.json").write_text('{"kind": "other", "resolution": 64}')
    with pytest.raises(EditorError, match="other"):
        GeometryEditor.from_pretrained(tmp_path / "saved")
    with pytest.raises(EditorError, match="missing"):
        GeometryEditor.from_pretrained(tmp_path / "missing")


def test_mistakes_are_named(editor: GeometryEditor) -> None:
    frame = Frame(picture(0))
    with pytest.raises(ConfigError, match="photos alone"):
        editor.edit([frame], PHOTOS, instruction="make it snow")
    with pytest.raises(ConfigError, match="seeds"):
        editor.edit([frame], PHOTOS, seeds=[1, 2])
    with pytest.raises(ConfigError, match="no photos"):
        GeometryEditor(editor.networks, "none").edit([frame])


def test_any_number_of_photos_is_followed(editor: GeometryEditor) -> None:
    frame, many = Frame(picture(0)), [picture(i, 48) for i in range(11)]
    one = editor.edit([frame], many)[0].rgb
    assert len(editor._patches(many)) <= 2048
    assert not np.array_equal(one, editor.edit([frame], many[:10])[0].rgb)


def test_protected_objects_keep_their_hue(editor: GeometryEditor) -> None:
    frame = with_geometry(Frame(np.full((64, 64, 3), (200, 30, 30), np.uint8)))
    assert frame.geometry is not None and frame.geometry.segmentation is not None
    frame.geometry.segmentation[16:48, 16:48] = 7
    editor.protect = (7,)
    edit = editor.edit([frame], PHOTOS)[0].rgb[24:40, 24:40].astype(float).mean(axis=(0, 1))
    assert edit[0] > 1.5 * edit[1:].max()


def test_a_request_opens_it_and_refuses_what_it_does_not_have(
    editor: GeometryEditor, tmp_path: Path
) -> None:
    editor._own_patches = editor._patches(PHOTOS)
    editor.save(tmp_path / "saved")
    name = str(tmp_path / "saved")
    guarded = EditRequest(editor=name, guard=False).load()
    assert guarded is not None
    frame = Frame(picture(0))
    np.testing.assert_array_equal(
        guarded.edit([frame], [0])[0].rgb, editor_by_name(name).edit([frame])[0].rgb
    )
    with pytest.raises(ConfigError, match="steps"):
        EditRequest(editor=name, steps=4).load()
