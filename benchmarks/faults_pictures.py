"""Pictures and editors made to do harm: the cases of ``faults_hostile`` outside data sets."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from safetensors import safe_open

from spie_robo.data.frames import sample_frames
from spie_robo.editor.photo_check import check_photos
from spie_robo.editor.presets import PRESETS, load_editor


class Payload:
    """Leaves a folder behind if it is ever unpickled."""

    def __init__(self, mark: Path) -> None:
        """``mark`` is what it would leave."""
        self.mark = str(mark)

    def __reduce__(self) -> tuple[Any, ...]:
        """What a pickle of it does."""
        return os.mkdir, (self.mark,)


def _png(width: int, height: int, pixels: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = pixels or zlib.compress(b"")
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _bomb(side: int) -> bytes:
    """A PNG of one colour, written line by line."""
    packer = zlib.compressobj(9)
    line = bytes(3 * side + 1)
    parts = [packer.compress(line) for _ in range(side)]
    return _png(side, side, b"".join([*parts, packer.flush()]))


def _photo(folder: Path, data: bytes, suffix: str = ".png") -> Callable[[], Any]:
    (folder / f"photo{suffix}").write_bytes(data)
    return lambda: check_photos(folder)


def photo_bomb(folder: Path) -> Callable[[], Any]:
    return _photo(folder, _bomb(13_000))


def photo_claim(folder: Path) -> Callable[[], Any]:
    return _photo(folder, _png(100_000, 100_000))


def photo_lie(folder: Path) -> Callable[[], Any]:
    return _photo(folder, _png(4000, 4000))


def jpeg_claim(folder: Path) -> Callable[[], Any]:
    Image.new("RGB", (64, 64)).save(folder / "photo.jpg")
    data = bytearray((folder / "photo.jpg").read_bytes())
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", 65_000, 65_000)
    return _photo(folder, bytes(data), ".jpg")


def frame_bomb(folder: Path) -> Callable[[], Any]:
    (folder / "a.png").write_bytes(_bomb(13_000))
    return lambda: sample_frames(folder, 1)


def frame_claim(folder: Path) -> Callable[[], Any]:
    ok, data = cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))
    assert ok
    (folder / "a.png").write_bytes(_png(100_000, 100_000))
    (folder / "b.png").write_bytes(data.tobytes())
    return lambda: sample_frames(folder, 2)


def adapter_base(folder: Path) -> Callable[[], Any]:
    base = str(folder.parent / "outside")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    return lambda: load_editor(str(folder))


def adapter_climbing_base(folder: Path) -> Callable[[], Any]:
    config = {"base_model_name_or_path": "../outside"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return lambda: load_editor(str(folder))


def _adapter(folder: Path, part: str) -> Path:
    """A copy of the embedded pipeline as the base of an adapter, without ``part``'s weights."""
    base = folder / "base"
    shutil.copytree(PRESETS["embedded"], base)
    weights = next((base / part).glob("*.safetensors"))
    weights.rename(folder.parent / "outside" / weights.name)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "base"}))
    return weights


def adapter_index(folder: Path) -> Callable[[], Any]:
    """A shard index that points outside the folder, read by diffusers."""
    return _index(folder, "unet")


def adapter_text_index(folder: Path) -> Callable[[], Any]:
    """The same, read by transformers."""
    return _index(folder, "text_encoder")


def _index(folder: Path, part: str) -> Callable[[], Any]:
    weights = _adapter(folder, part)
    target = f"../../../outside/{weights.name}"
    with safe_open(folder.parent / "outside" / weights.name, "np") as tensors:
        names = list(tensors.keys())
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, target)}
    weights.with_name(f"{weights.name}.index.json").write_text(json.dumps(index))
    return lambda: load_editor(str(folder / "base"))


def adapter_huge_text(folder: Path) -> Callable[[], Any]:
    """A sparse file of a terabyte where diffusers expects a part's settings."""
    weights = _adapter(folder, "unet")
    os.truncate(weights.with_name("config.json"), 2**40)
    return lambda: load_editor(str(folder / "base"))


def adapter_pickle(folder: Path) -> Callable[[], Any]:
    """Weights as a pickle, which diffusers would load if it were allowed to."""
    weights = _adapter(folder, "unet")
    payload = pickle.dumps(Payload(folder.parent / "ran"))
    weights.with_name("diffusion_pytorch_model.bin").write_bytes(payload)
    return lambda: load_editor(str(folder / "base"))


def _settings(folder: Path, file: str, **values: Any) -> Callable[[], Any]:
    """The embedded pipeline with other settings in one of its files."""
    base = folder / "base"
    shutil.copytree(PRESETS["embedded"], base)
    found = json.loads((base / file).read_text())
    (base / file).write_text(json.dumps({**found, **values}))
    return lambda: load_editor(str(base))


def adapter_pipe(folder: Path) -> Callable[[], Any]:
    """A named pipe in place of settings: opening it waits for ever."""
    work = _settings(folder, "settings.json")
    (folder / "base/settings.json").unlink()
    os.mkfifo(folder / "base/settings.json")
    return work


def adapter_device(folder: Path) -> Callable[[], Any]:
    """A link to an endless file in place of settings."""
    work = _settings(folder, "unet/config.json")
    (folder / "base/unet/config.json").unlink()
    (folder / "base/unet/config.json").symlink_to("/dev/zero")
    return work


def adapter_resolution(folder: Path) -> Callable[[], Any]:
    return _settings(folder, "settings.json", resolution=10**9)


def adapter_text_length(folder: Path) -> Callable[[], Any]:
    return _settings(folder, "text_encoder/config.json", max_position_embeddings=10**9)


def adapter_token_length(folder: Path) -> Callable[[], Any]:
    return _settings(folder, "tokenizer/tokenizer_config.json", model_max_length=10**9)


def adapter_layers(folder: Path) -> Callable[[], Any]:
    return _settings(folder, "unet/config.json", layers_per_block=10**7)


def adapter_timesteps(folder: Path) -> Callable[[], Any]:
    return _settings(folder, "scheduler/scheduler_config.json", num_train_timesteps=10**10)


def adapter_nesting(folder: Path) -> Callable[[], Any]:
    work = _settings(folder, "settings.json")
    (folder / "base/settings.json").write_text("[" * 500_000)
    return work


def _latents(folder: Path, *shape: int) -> Callable[[], Any]:
    """Latents that their header claims, in a sparse file."""
    work = _settings(folder, "settings.json")
    size = 2 * int(np.prod(shape, dtype=np.int64))
    entry = {"dtype": "F16", "shape": shape, "data_offsets": [0, size]}
    header = json.dumps({"latents": entry}).encode()
    path = folder / "base/references.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + size)
    return work


def adapter_many_latents(folder: Path) -> Callable[[], Any]:
    return _latents(folder, 10**6, 12, 32, 32)


def adapter_large_latents(folder: Path) -> Callable[[], Any]:
    return _latents(folder, 1, 12, 32_768, 32_768)


def _lora(folder: Path, **values: Any) -> Callable[[], Any]:
    plain = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": ["to_q"]}
    config = {**plain, "base_model_name_or_path": "embedded", **values}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "spie").mkdir()
    (folder / "spie/base.json").write_text(json.dumps({"sha256": "0" * 64}))
    return lambda: load_editor(str(folder))


def adapter_pattern(folder: Path) -> Callable[[], Any]:
    """A regular expression that takes for ever on the names of the UNet's modules."""
    return _lora(folder, target_modules="(([a-z_0-9]+)+[.]?)+!")


def adapter_rank(folder: Path) -> Callable[[], Any]:
    return _lora(folder, r=10**8)


PICTURES = (photo_bomb, photo_claim, photo_lie, jpeg_claim, frame_bomb, frame_claim)
EDITORS = (
    adapter_base, adapter_climbing_base, adapter_index, adapter_text_index, adapter_huge_text,
    adapter_pickle, adapter_pipe, adapter_device, adapter_resolution, adapter_text_length,
    adapter_token_length, adapter_layers, adapter_timesteps, adapter_nesting,
    adapter_many_latents, adapter_large_latents, adapter_pattern, adapter_rank,
)  # fmt: skip
