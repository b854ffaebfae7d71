"""Load an editor by name: its pipeline, settings and references.

A name is a preset (``"embedded"``), a pipeline folder, an adapter folder, or a Hub id, in this
order.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import nn

from spie_robo.editor.adapter import (
    ADAPTER_CONFIG,
    base_name,
    check_adapter,
    load_adapter,
    merge_adapter,
)
from spie_robo.editor.folder_check import require_harmless
from spie_robo.editor.lora_file import (
    DIFFUSERS_LORA,
    is_plain_lora,
    load_plain_lora,
    named_base,
)
from spie_robo.editor.pipeline import MODEL_INDEX, SpiePipeline, load_autoencoder
from spie_robo.editor.references import LatentReferences
from spie_robo.editor.settings import EditorSettings
from spie_robo.errors import EditorError
from spie_robo.types import RGB

_WEIGHTS = Path(__file__).parent / "weights"
PRESETS = {"embedded": _WEIGHTS / "embedded", "embedded-labs": _WEIGHTS / "embedded"}
LOOKS = {"embedded-labs": _WEIGHTS / "embedded-labs"}
"""Folders of references for presets that share the networks of another preset."""

HUB_PRESETS = {"instruct-pix2pix": "timbrooks/instruct-pix2pix"}

_HUB_ID = re.compile(r"[\w][\w.-]*/[\w.-]+")
_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler", "spie")
_WANTED = [
    *(f"{part}/**" for part in _PARTS),
    *("model_index.json", "adapter_config.json", "settings.json", "README.md"),
    *("adapter_model.safetensors", "references.safetensors", DIFFUSERS_LORA),
]
_UNWANTED = ["*.bin", "*.ckpt", "*.pt", "*.msgpack", "*.onnx", "*.fp16.*", "*.non_ema.*"]


@dataclass(frozen=True, eq=False)
class LoadedEditor:
    """The parts of an editor.

    Attributes:
        pipeline: The networks.
        settings: Default settings of the editor.
        references: Photos that are stored with the editor, or None.
        weights_hash: Hash of an adapter, from before it was merged; None: the pipeline's.
    """

    pipeline: SpiePipeline
    settings: EditorSettings
    references: LatentReferences | None
    weights_hash: str | None = None


def load_editor(
    name: str, *, base: str | None = None, dtype: torch.dtype = torch.float32
) -> LoadedEditor:
    """Load an editor by name.

    Args:
        name: A preset, a pipeline folder, an adapter folder, or a Hub id.
        base: For an adapter: base to use instead of the one that it names. A LoRA that diffusers
            or peft wrote needs it.
        dtype: Type of the weights in memory.

    Raises:
        EditorError: If there is no such editor, it is broken, or cannot be downloaded.
        ConfigError: If its ``settings.json`` is invalid.
    """
    folder = find_folder(name)
    require_harmless(folder)
    settings, references = EditorSettings.load(folder), _references(name, folder)
    plain = is_plain_lora(folder)
    if not plain and not (folder / ADAPTER_CONFIG).is_file():
        return LoadedEditor(SpiePipeline.from_pretrained(folder, dtype), settings, references)
    if not plain:
        check_adapter(folder)
    base_folder = find_folder(base or _base_name(folder, plain))
    require_harmless(base_folder)
    if (base_folder / ADAPTER_CONFIG).is_file() or is_plain_lora(base_folder):
        raise EditorError(
            f"Adapter {folder}: its base {base_folder} is an adapter too. A base must be a "
            "whole pipeline."
        )
    # Load in float32, because the adapter checks the base by the values that it was trained on.
    pipeline = SpiePipeline.from_pretrained(base_folder)
    add = load_plain_lora if plain else load_adapter
    weights_hash = add(folder, pipeline, dtype)
    merge_adapter(pipeline)
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet, pipeline.visual_prompt):
        nn.Module.to(part, dtype)  # diffusers' own `to` warns about each cast
    if references is None and settings.use_references:
        references = LatentReferences.load(base_folder)
    return LoadedEditor(pipeline, settings, references, weights_hash)


def _base_name(folder: Path, plain: bool) -> str:
    """Return the base that an adapter names.

    Raises:
        EditorError: If it names none, or is a LoRA from elsewhere.
    """
    if not plain:
        return base_name(folder)
    known = named_base(folder)
    hint = f" It says that it was trained on {known!r}." if known else ""
    raise EditorError(
        f"{folder} is a LoRA that diffusers or peft wrote. Say which pipeline it belongs to: "
        f"Editor.from_pretrained({str(folder)!r}, base=...).{hint}"
    )


def _references(name: str, folder: Path) -> LatentReferences | None:
    """Load the photos of a preset or of an editor's folder."""
    if name not in LOOKS:
        return LatentReferences.load(folder)
    references = LatentReferences.load(LOOKS[name])
    if references is None:
        raise EditorError(
            f"The photos of {name!r} are missing from this installation ({LOOKS[name]}). Install "
            "spie-robo again."
        )
    return references


def local_references(name: str) -> tuple[RGB, ...] | None:
    """Return the photos stored with a local editor, decoded; nothing is downloaded.

    Args:
        name: A preset, a pipeline folder or an adapter folder.

    Returns:
        uint8 (height, width, 3) each; None if there is no such local editor or it has no photos.

    Raises:
        EditorError: If files of the editor are broken.
    """
    if name not in PRESETS and not Path(name).expanduser().is_dir():
        return None
    folder = find_folder(name)
    require_harmless(folder)
    references, base = _references(name, folder), folder
    if (folder / ADAPTER_CONFIG).is_file():
        named = base_name(folder)
        if named not in PRESETS and not Path(named).is_dir():
            return None
        base = find_folder(named)
        require_harmless(base)
        if references is None and EditorSettings.load(folder).use_references:
            references = LatentReferences.load(base)
    if references is None:
        return None
    return references.images(load_autoencoder(base))


def find_folder(name: str) -> Path:
    """Return the local folder of an editor, downloaded if necessary.

    Raises:
        EditorError: If there is no such editor.
    """
    if name in PRESETS:
        folder = PRESETS[name]
        if not (folder / MODEL_INDEX).is_file():
            raise EditorError(
                f"The weights of {name!r} are missing from this installation ({folder}). "
                "Install spie-robo again."
            )
        return folder
    folder = Path(name).expanduser()
    if folder.is_dir():
        if any((folder / file).is_file() for file in (MODEL_INDEX, ADAPTER_CONFIG, DIFFUSERS_LORA)):
            return folder
        raise EditorError(
            f"{folder} is not an editor: expected {MODEL_INDEX} (a pipeline), {ADAPTER_CONFIG} "
            f"(an adapter) or {DIFFUSERS_LORA} (a LoRA) in it."
        )
    hub_id = HUB_PRESETS.get(name, name)
    if _HUB_ID.fullmatch(hub_id) and not hub_id.startswith("."):
        return _download(hub_id)
    raise _unknown(name)


def _download(hub_id: str) -> Path:
    try:
        folder = snapshot_download(hub_id, allow_patterns=_WANTED, ignore_patterns=_UNWANTED)
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise EditorError(
            f"No editor {hub_id!r}: there is no such folder, and it cannot be had from the "
            f"Hugging Face Hub ({reason}). {_known(hub_id)}"
        ) from error
    return Path(folder)


def _unknown(name: str) -> EditorError:
    return EditorError(f"Unknown editor {name!r}. {_known(name)}")


def _known(name: str) -> str:
    parent = Path(name).expanduser().parent
    folders = [str(path) for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
    presets = [*PRESETS, *HUB_PRESETS]
    close = difflib.get_close_matches(name, [*presets, *folders], n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    names = ", ".join(repr(preset) for preset in presets)
    return f"{hint}Expected {names}, a pipeline folder, an adapter folder, or a Hub id."
