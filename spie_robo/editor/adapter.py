"""Read and write adapter folders: the changes of post-training, on top of a named base.

::

    adapter_config.json          peft's file; ``base_model_name_or_path`` names the base
    adapter_model.safetensors    peft's LoRA weights of the UNet
    spie/                        style channels and visual prompt, see :mod:`.extras`
    spie/base.json               SHA-256 of the base's weights
    references.safetensors       optional: the reference photos as VAE latents
    settings.json                optional: :class:`.settings.EditorSettings`
    README.md                    the model card
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from spie_robo.editor.conv_in import style_weight_of
from spie_robo.editor.digest import adapter_digest, weights_digest
from spie_robo.editor.extras import EXTRAS, load_extras, save_extras
from spie_robo.editor.folder_check import read_mapping, require_lora_tensors
from spie_robo.editor.lora_config import largest_rank, read_lora_config
from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.editor.references import REFERENCES_FILE, LatentReferences
from spie_robo.editor.settings import EditorSettings
from spie_robo.errors import EditorError
from spie_robo.files.permissions import share_weights
from spie_robo.settings.wording import shortened

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
BASE_FILE = "base.json"
_MOST_NAME = 4096

PEFT_PREFIX = "base_model.model."  # peft's, so that PeftModel.from_pretrained(unet, folder) works


def save_adapter(
    folder: Path,
    pipeline: SpiePipeline,
    *,
    base: str,
    base_digest: str,
    settings: EditorSettings,
    references: LatentReferences | None,
    card: str,
) -> None:
    """Write an adapter folder.

    Args:
        folder: Folder to write, made if missing.
        pipeline: Pipeline whose UNet has one LoRA, added with
            ``unet.add_adapter(LoraConfig(...))``.
        base: Name of the base: a preset, a Hub id, or a folder inside ``folder``.
        base_digest: :func:`.digest.weights_digest` of the unchanged base.
        settings: Defaults of the editor.
        references: Photos to store with the adapter; they can be decoded from their latents.
        card: Text of the model card.

    Raises:
        EditorError: If the UNet has no LoRA, or several.
    """
    # The UNet must have exactly one LoRA.
    adapters: dict[str, LoraConfig] = getattr(pipeline.unet, "peft_config", {})
    if len(adapters) != 1:
        raise EditorError(f"UNet: expected exactly one LoRA to save, got {sorted(adapters)}.")
    ((name, config),) = adapters.items()
    # Write the LoRA as peft does, with the base's name.
    folder.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(
        pipeline.unet,
        adapter_name=name,
        save_embedding_layers=False,  # otherwise peft asks the Hub
    )
    tensors = {PEFT_PREFIX + key: value.detach().cpu().contiguous() for key, value in state.items()}
    save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    config.base_model_name_or_path = base
    config.save_pretrained(folder)
    # Add the other trained parts, the settings and the card.
    save_extras(folder, style_weight_of(pipeline.unet), pipeline.visual_prompt)
    (folder / EXTRAS / BASE_FILE).write_text(json.dumps({"sha256": base_digest}) + "\n")
    settings.save(folder)
    if references is not None:
        references.save(folder)
    for written in (folder / ADAPTER_WEIGHTS, folder / EXTRAS, folder / REFERENCES_FILE):
        share_weights(written)
    (folder / "README.md").write_text(card)


def base_name(folder: Path) -> str:
    """Return the name of the base in an adapter folder.

    Raises:
        EditorError: If it has none, or one outside the folder: an adapter from elsewhere must not
            choose files of this machine.
    """
    path = folder / ADAPTER_CONFIG
    base = read_mapping(path).get("base_model_name_or_path")
    if not isinstance(base, str) or not base or len(base) > _MOST_NAME:
        raise EditorError(
            f"{path}: expected base_model_name_or_path, the name of its base, got "
            f"{shortened(repr(base))}."
        )
    inside = (folder / base).resolve()
    if not inside.is_relative_to(folder.resolve()):
        raise EditorError(
            f"{path}: its base {base!r} lies outside the folder. If you trust it, say so: "
            f"Editor.from_pretrained({str(folder)!r}, base={base!r})."
        )
    return str(inside) if inside.is_dir() else base


def check_adapter(folder: Path) -> tuple[str, LoraConfig]:
    """Check an adapter's settings and the headers of its weights, before its base is loaded.

    Returns:
        SHA-256 of the base's weights that the adapter requires, and the settings of its LoRA.

    Raises:
        EditorError: If a file is missing or broken, or claims more than a LoRA has.
    """
    expected = read_mapping(folder / EXTRAS / BASE_FILE).get("sha256")
    if not isinstance(expected, str):
        raise EditorError(f"Adapter {folder}: {EXTRAS}/{BASE_FILE} lacks its base's sha256.")
    config = read_lora_config(folder / ADAPTER_CONFIG)
    require_lora_tensors(folder / ADAPTER_WEIGHTS, largest_rank(config))
    return expected, config


def load_adapter(folder: Path, pipeline: SpiePipeline, dtype: torch.dtype = torch.float32) -> str:
    """Put an adapter on its base, in place; the LoRA stays separate and can be switched off.

    Args:
        folder: The adapter folder.
        pipeline: The base, not changed yet.
        dtype: Type of the weights of the running editor.

    Returns:
        :func:`.digest.adapter_digest` of adapter and base.

    Raises:
        EditorError: If a file is missing or broken, or the adapter belongs to another base.
    """
    # Read the adapter's files.
    expected, config = check_adapter(folder)
    try:
        state = load_file(folder / ADAPTER_WEIGHTS)
        style_weight, visual_prompt = load_extras(folder)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise EditorError(f"Adapter {folder}: missing or broken: {error}") from error
    # Refuse another base.
    found = weights_digest(pipeline)
    if found != expected:
        raise EditorError(
            f"Adapter {folder} was trained on a base with weights {expected[:8]}, this base has "
            f"{found[:8]}. Train it again on this base, or name the right one with base=."
        )
    # Hash the adapter before its weights are changed.
    prompt = visual_prompt.state_dict()
    tensors = {**state, "style_weight": style_weight}
    tensors |= {f"visual_prompt.{key}": value for key, value in prompt.items()}
    digest = adapter_digest(found, config, tensors, dtype)
    # Add the LoRA, the style channels and the visual prompt.
    unet = pipeline.unet
    stripped = {key.removeprefix(PEFT_PREFIX): value for key, value in state.items()}
    try:
        unet.add_adapter(config)
        result = set_peft_model_state_dict(unet, stripped)
        style_weight_of(unet).copy_(style_weight)
        pipeline.visual_prompt.load_state_dict(prompt)
    except (RuntimeError, TypeError, ValueError) as error:  # peft raises all of them
        raise EditorError(f"Adapter {folder}: it does not fit its base: {error}") from error
    if problem := unfitting(result):
        raise EditorError(f"Adapter {folder}: {problem}.")
    return digest


def unfitting(result: Any) -> str:
    """Return what of a LoRA did not find its place; empty if all did.

    Args:
        result: What peft's ``set_peft_model_state_dict`` returned.
    """
    missing = [key for key in result.missing_keys if "lora_" in key]
    if not missing and not result.unexpected_keys:
        return ""
    unexpected = list(result.unexpected_keys)[:3]
    return f"its LoRA does not fit the UNet (missing {missing[:3]}, unexpected {unexpected})"


def merge_adapter(pipeline: SpiePipeline) -> None:
    """Add the LoRA to the UNet's weights and remove it: the same edits in fewer operations."""
    pipeline.unet.fuse_lora()
    pipeline.unet.unload_lora()
