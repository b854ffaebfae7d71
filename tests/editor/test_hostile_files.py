"""Photos and adapter folders made to do harm: refused by name, before they cost anything."""

from __future__ import annotations

import json
import os
import struct
import zlib

import pytest

from spie_robo.editor.adapter import require_harmless
from spie_robo.editor.photo_check import check_photos
from spie_robo.editor.presets import find_folder, load_editor
from spie_robo.errors import EditorError, ReferencePhotoError


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("size", "why"),
    [
        ((100_000, 100_000), "decompression bomb"),
        ((9_000, 9_000), "claims 9000x9000"),
        ((400, 400), "cannot be read"),
    ],
)
def test_a_photo_that_claims_too_much_or_lies_is_refused(tmp_path, size, why):
    (tmp_path / "desk.png").write_bytes(png(*size))
    with pytest.raises(ReferencePhotoError, match=rf"desk\.png.*{why}"):
        check_photos(tmp_path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"weight_map": {"a": "../../elsewhere.safetensors"}}, "names of files beside it"),
        ({"weight_map": {"a": "/etc/x.safetensors", "b": "x"}}, "names of files beside it"),
        ({"weight_map": {"a": 3}}, "names of files beside it"),
        ({"weight_map": []}, "weight_map"),
        ([], "weight_map"),
    ],
)
def test_an_index_may_only_name_files_beside_it(tmp_path, content, why):
    index = tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.parent.mkdir()
    index.write_text(json.dumps(content))
    with pytest.raises(EditorError, match=why):
        require_harmless(tmp_path)
    for name, text in (("model_index.json", "{}"), ("adapter_config.json", "{}")):
        (tmp_path / name).write_text(text)
    with pytest.raises(EditorError, match=why):
        load_editor(str(tmp_path))
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    require_harmless(tmp_path)


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "unet/config.json", "tokenizer/merges.txt"]
)
def test_a_text_that_is_too_large_is_refused_unread(tmp_path, name):
    (tmp_path / "model_index.json").write_text("{}")
    text = tmp_path / name
    text.parent.mkdir(exist_ok=True)
    text.touch()
    os.truncate(text, 2**40)
    with pytest.raises(EditorError, match=rf"{text.name}: expected at most .* found {2**40}"):
        load_editor(str(tmp_path))


def test_the_embedded_editor_passes():
    folder = find_folder("embedded")
    assert list(folder.rglob("*.safetensors"))
    require_harmless(folder)
