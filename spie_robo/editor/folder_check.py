"""Check an editor's folder before anything in it is loaded, because it may come from anybody.

The libraries that load the parts trust the files. So files are first checked for kind and size,
settings for plain values within bounds, and weights by their headers alone. A refusal takes
milliseconds and hardly any memory.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spie_robo.errors import EditorError
from spie_robo.settings.wording import shortened

MAX_VOCABULARY_BYTES = 16 * 2**20
"""Largest vocabulary or list of merges, bytes; CLIP's has 4 MB."""

MAX_SETTINGS_BYTES = 2**20
"""Largest JSON file of settings, bytes."""

MAX_HEADER_BYTES = 8 * 2**20
"""Largest list of tensors of a weights file, bytes; a Stable Diffusion UNet's has 0.1 MB."""

_AGAIN = "Copy the folder anew from where it comes from."
_CLIP_DEFAULTS = {
    "hidden_size": 512,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
}
_PARTS = ("", "unet", "vae", "text_encoder", "tokenizer", "scheduler", "spie", "spie/visual_prompt")
_MAY_BE_INFINITE = "lambda_min_clipped"  # diffusers writes it so: DPM++ without a lower limit
_MOST_FILES = 1000
_VOCABULARIES = ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json")
_READ = (".json", ".txt", ".safetensors")
_INDEX = ".index.json"
_MOST_DEPTH = 8
_MOST_ENTRIES = 4096
_MOST_TEXT = 16_384
_MOST_NUMBER = 2**17
_MOST: Mapping[str, int] = {
    "layers_per_block": 8,
    "transformer_layers_per_block": 16,
    "num_hidden_layers": 64,
    "num_attention_heads": 256,
    "max_position_embeddings": 4096,
    "model_max_length": 4096,
    "max_length": 4096,
    "num_train_timesteps": 10_000,
    "block_out_channels": 8192,
    "cross_attention_dim": 8192,
    "hidden_size": 8192,
    "intermediate_size": 32_768,
    "patch": 256,
    "r": 1024,
    "resolution": 4096,
    "steps": 1000,
    "batch_size": 1024,
}
"""Largest value of each setting that costs memory or time by its size."""

_LATENTS = (4096, 64, 512, 512)
"""Most photos, channels, rows and columns of an editor's stored latents."""

_LARGEST_LATENTS = 2**28
"""Most values of all stored latents together."""

_LORA_TENSOR = re.compile(r"[A-Za-z0-9_.]{1,300}\.lora_(?:A|B|magnitude_vector)\.[A-Za-z0-9_.]+")


def require_harmless(folder: Path) -> None:
    """Refuse an editor's folder that would cost more than an editor does, or read other files.

    Args:
        folder: Folder of a pipeline or an adapter. Only files that loading reads are checked.

    Raises:
        EditorError: If a file is not a plain file or is too large, a setting is out of bounds, or
            an index of shards names files that are not beside it.
    """
    for path in _files(folder):
        _require_plain(path)
        if path.name.endswith(_INDEX):
            _require_shards_beside(path)
        elif path.suffix == ".json" and path.name not in _VOCABULARIES:
            _require_modest(path, read_mapping(path))
        elif path.suffix == ".safetensors":
            tensor_shapes(path)
    _require_modest_latents(folder / "references.safetensors")
    _require_text_weights(folder / "text_encoder")
    if (folder / "model_index.json").is_file():
        _require_weights(folder)


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a small JSON file of settings.

    Raises:
        EditorError: If it is not a plain file, too large, or not a JSON object.
    """
    _require_plain(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = shortened(str(error)) or type(error).__name__
        raise EditorError(f"{path}: cannot be read as JSON ({reason}). {_AGAIN}") from error
    if not isinstance(values, dict):
        raise EditorError(f"{path}: expected a JSON object, got {type(values).__name__}. {_AGAIN}")
    return values


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the shape of every tensor in a safetensors file from its header.

    Raises:
        EditorError: If the header is too large, or the file is not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise EditorError(
                f"{path}: missing or broken: expected a list of tensors of at most "
                f"{MAX_HEADER_BYTES} bytes, its header claims {length}. {_AGAIN}"
            )
        with safe_open(path, "np") as tensors:
            return {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}
    except (OSError, ValueError, SafetensorError) as error:
        reason = shortened(str(error))
        raise EditorError(f"{path}: missing or broken: {reason}. {_AGAIN}") from error


def require_lora_tensors(path: Path, rank: int) -> None:
    """Check the header of an adapter's weights against the rank in its settings.

    Raises:
        EditorError: If a name is not one of a LoRA, or a shape does not fit the rank.
    """
    for name, shape in tensor_shapes(path).items():
        if not _LORA_TENSOR.fullmatch(name):
            raise EditorError(
                f"{path}: expected the names of LoRA weights, got {shortened(name)!r}. {_AGAIN}"
            )
        ranks = {"lora_A": shape[:1], "lora_B": shape[1:2]}.get(name.split(".")[-2], ())
        if not shape or max(shape) > _MOST_NUMBER or any(size > rank for size in ranks):
            raise EditorError(
                f"{path}: expected a LoRA of rank {rank}, {shortened(name)} has the shape {shape}. "
                f"{_AGAIN}"
            )


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files that loading an editor may read."""
    for part in _PARTS:
        place = folder / part
        if not place.is_dir():
            continue
        with os.scandir(place) as entries:
            for number, entry in enumerate(entries):
                if number >= _MOST_FILES:
                    raise EditorError(
                        f"{place}: expected the few files of an editor, found more than "
                        f"{_MOST_FILES}. {_AGAIN}"
                    )
                if not entry.is_dir() or Path(entry.name).suffix in _READ:
                    yield place / entry.name


def _require_plain(path: Path) -> None:
    """Refuse, without reading it, what is not a plain file, and texts that are too large."""
    try:
        found = path.stat()
    except OSError as error:
        reason = error.strerror or error
        raise EditorError(f"{path}: cannot be read ({reason}). {_AGAIN}") from error
    if not stat.S_ISREG(found.st_mode):
        raise EditorError(
            f"{path}: expected a plain file, found a pipe, a device or a folder. {_AGAIN}"
        )
    if path.suffix not in (".json", ".txt"):
        return
    settings = path.suffix == ".json" and path.name not in _VOCABULARIES
    largest = MAX_SETTINGS_BYTES if settings else MAX_VOCABULARY_BYTES
    if path.name.endswith(_INDEX):
        largest = MAX_HEADER_BYTES
    if found.st_size > largest:
        raise EditorError(
            f"{path}: expected at most {largest} bytes of settings or vocabulary, found "
            f"{found.st_size}. {_AGAIN}"
        )


def _require_shards_beside(index: Path) -> None:
    try:
        names = set(read_mapping(index)["weight_map"].values())
    except (KeyError, TypeError, AttributeError) as error:
        raise EditorError(
            f"{index}: expected JSON with a weight_map, got {shortened(repr(error))}."
        ) from error
    strange = sorted(str(name) for name in names if Path(str(name)).name != name)
    if strange:
        raise EditorError(
            f"{index}: expected names of files beside it, got {shortened(strange[0])!r}. Put the "
            "weights into the folder."
        )


def _require_modest(path: Path, value: Any, key: str = "", depth: int = 0) -> None:
    """Refuse settings that are nested deeper, longer or larger than any editor's."""
    if isinstance(value, (dict, list)):
        if depth >= _MOST_DEPTH or len(value) > _MOST_ENTRIES:
            raise EditorError(
                f"{path}: {shortened(key) or 'it'}: expected at most {_MOST_ENTRIES} entries, "
                f"nested at most {_MOST_DEPTH} deep, got {len(value)}. {_AGAIN}"
            )
        if isinstance(value, dict):
            for name, inner in value.items():
                _require_modest(path, inner, name, depth + 1)
        else:
            for inner in value:
                _require_modest(path, inner, key, depth + 1)
    elif isinstance(value, str) and len(value) > _MOST_TEXT:
        raise EditorError(
            f"{path}: {shortened(key)}: expected at most {_MOST_TEXT} characters, got "
            f"{len(value)}. {_AGAIN}"
        )
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if key == _MAY_BE_INFINITE and value == -math.inf:
            return
        most = _MOST.get(key, _MOST_NUMBER)
        if not math.isfinite(value) or abs(value) > most:
            raise EditorError(
                f"{path}: {shortened(key)}: expected a number of at most {most}, got "
                f"{shortened(str(value))}. {_AGAIN}"
            )


def _require_modest_latents(path: Path) -> None:
    if not path.is_file():
        return
    shape = tensor_shapes(path).get("latents", ())
    within = all(size <= most for size, most in zip(shape, _LATENTS, strict=False))
    if len(shape) != 4 or not within or math.prod(shape) > _LARGEST_LATENTS:
        raise EditorError(
            f"{path}: expected latents of shape (N, C, h, w), at most {_LATENTS} and "
            f"{_LARGEST_LATENTS} values in all, got {shape}. {_AGAIN}"
        )


def _require_weights(folder: Path) -> None:
    """Refuse a pipeline without weights before the parts that are there are loaded.

    Weights of another kind, such as ``.bin``, are refused with their own way out when it loads.
    """
    for part in ("unet", "vae", "text_encoder"):
        kinds = ("*.safetensors", "*.bin", "*.ckpt", "*.pt")
        if not any(any((folder / part).glob(kind)) for kind in kinds):
            raise EditorError(
                f"{folder / part}: expected safetensors weights, found none. {_AGAIN}"
            )


def _require_text_weights(folder: Path) -> None:
    """Refuse a text encoder whose settings claim more than its weights hold.

    transformers creates missing weights, of any size that the settings name.
    """
    config, weights = folder / "config.json", folder / "model.safetensors"
    if not (config.is_file() and weights.is_file()):
        return
    values, shapes = {**_CLIP_DEFAULTS, **read_mapping(config)}, tensor_shapes(weights)
    width = values["hidden_size"]
    expected = {
        "position_embedding.weight": (values["max_position_embeddings"], width),
        "token_embedding.weight": (values["vocab_size"], width),
        "mlp.fc1.weight": (values["intermediate_size"], width),
    }
    for name, shape in expected.items():
        found = next((s for key, s in shapes.items() if key.endswith(name)), None)
        if found != shape:
            raise EditorError(
                f"{config}: expected {name} of shape {found}, as its weights have it, got {shape}. "
                f"{_AGAIN}"
            )
    layers = sum(key.endswith("mlp.fc1.weight") for key in shapes)
    if values["num_hidden_layers"] != layers:
        raise EditorError(
            f"{config}: expected {layers} layers, as its weights have, got "
            f"{shortened(str(values['num_hidden_layers']))}. {_AGAIN}"
        )
