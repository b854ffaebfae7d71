"""LoRAs that diffusers or peft wrote, without a visual prompt of ours: styles from elsewhere.

::

    pytorch_lora_weights.safetensors                       diffusers' ``save_lora_weights``
    adapter_config.json, adapter_model.safetensors         peft's ``save_pretrained``

Neither says which weights it was trained on, so the base is named by the user.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from peft import set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from spie_robo.editor.adapter import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    PEFT_PREFIX,
    unfitting,
)
from spie_robo.editor.digest import adapter_digest, weights_digest
from spie_robo.editor.extras import EXTRAS
from spie_robo.editor.folder_check import require_lora_tensors
from spie_robo.editor.lora_config import largest_rank, read_lora_config
from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.errors import EditorError

DIFFUSERS_LORA = "pytorch_lora_weights.safetensors"
_BROKEN = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)


def is_plain_lora(folder: Path) -> bool:
    """Return whether a folder holds a LoRA that other code wrote."""
    peft = (folder / ADAPTER_CONFIG).is_file() and not (folder / EXTRAS).is_dir()
    return peft or (folder / DIFFUSERS_LORA).is_file()


def load_plain_lora(
    folder: Path, pipeline: SpiePipeline, dtype: torch.dtype = torch.float32
) -> str:
    """Put a LoRA on the UNet of its base, in place; it stays apart until it is merged.

    Args:
        folder: With one of the two layouts above.
        pipeline: The base, unchanged so far.
        dtype: That the editor will run in.

    Returns:
        A hash of base and LoRA, in hex.

    Raises:
        EditorError: If a file is broken, the LoRA does not fit the UNet, or it also changes
            another network.
    """
    base_digest = weights_digest(pipeline)
    try:
        if (folder / DIFFUSERS_LORA).is_file():
            tensors = _add_diffusers_lora(folder, pipeline.unet)
        else:
            tensors = _add_peft_lora(folder, pipeline.unet)
    except _BROKEN as error:
        raise EditorError(f"LoRA {folder}: broken, or not for this base: {error}") from error
    (config,) = pipeline.unet.peft_config.values()
    return adapter_digest(base_digest, config, tensors, dtype)


def _add_peft_lora(folder: Path, unet: Any) -> dict[str, Tensor]:
    """Add a LoRA of peft's to a UNet; returns its tensors.

    A LoRA of a pipeline's UNet has names with ``unet.`` in some trainers and without in others.
    """
    config = read_lora_config(folder / ADAPTER_CONFIG)
    require_lora_tensors(folder / ADAPTER_WEIGHTS, largest_rank(config))
    tensors = load_file(folder / ADAPTER_WEIGHTS)
    unet.add_adapter(config)
    stripped = {
        key.removeprefix(PEFT_PREFIX).removeprefix("unet."): value for key, value in tensors.items()
    }
    problem = unfitting(set_peft_model_state_dict(unet, stripped))
    if problem:
        raise ValueError(problem)
    return tensors


def _add_diffusers_lora(folder: Path, unet: Any) -> dict[str, Tensor]:
    """Add a LoRA of diffusers' to a UNet; returns its tensors."""
    tensors, alphas, metadata = StableDiffusionLoraLoaderMixin.lora_state_dict(
        folder,
        weight_name=DIFFUSERS_LORA,
        use_safetensors=True,
        local_files_only=True,
        return_lora_metadata=True,
    )
    others = sorted({key.split(".")[0] for key in tensors} - {"unet"})
    if others:
        raise ValueError(
            f"it changes {', '.join(others)} too, and only a UNet's LoRA is supported. Train it "
            "for the UNet alone."
        )
    # The metadata holds rank and alpha: without it the LoRA would have another strength.
    unet.load_lora_adapter(tensors, prefix="unet", network_alphas=alphas, metadata=metadata)
    if not getattr(unet, "peft_config", None):
        raise ValueError("none of its layers is in the UNet")
    known: dict[str, Tensor] = dict(tensors)
    # Strengths that stand beside the weights count too.
    return known | {f"{key}.alpha": torch.tensor(float(a)) for key, a in (alphas or {}).items()}


def named_base(folder: Path) -> str | None:
    """Return the base that peft's configuration names; None if nothing does."""
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text())
        return config.get("base_model_name_or_path") or None
    except (OSError, ValueError, AttributeError):
        return None
