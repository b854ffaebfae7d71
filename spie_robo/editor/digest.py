"""Hash an editor: SHA-256 over everything that shapes its edits, except its settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig
from torch import Tensor

from spie_robo.editor.pipeline import SpiePipeline

if TYPE_CHECKING:
    from hashlib import _Hash

_SCALING = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora")
"""Parts of a LoRA's configuration that change its effect and are not in its tensors."""


def weights_digest(pipeline: SpiePipeline) -> str:
    """Return SHA-256 (hex) over all weights and the latent spec of a pipeline.

    It covers names, types, shapes and bytes in memory, and does not depend on the device or on how
    the weights are stored.
    """
    digest = hashlib.sha256(repr(pipeline.latent_spec).encode())
    scheduler = {k: v for k, v in pipeline.scheduler.config.items() if not k.startswith("_")}
    digest.update(json.dumps(scheduler, sort_keys=True, default=str).encode())
    for part in ("vae", "text_encoder", "unet", "visual_prompt"):
        _add(digest, part, getattr(pipeline, part).state_dict())
    return digest.hexdigest()


def adapter_digest(
    base_digest: str, config: LoraConfig, tensors: Mapping[str, Tensor], dtype: torch.dtype
) -> str:
    """Return SHA-256 (hex) over an adapter and its base, hashed separately.

    Merged weights are not hashed: their last bits depend on how the processor multiplies matrices,
    so that an editor would have another id on another machine.

    Args:
        base_digest: :func:`weights_digest` of the base.
        config: Configuration of the LoRA.
        tensors: All tensors of the adapter, as its files hold them.
        dtype: Type of the merged weights.
    """
    scaling = {key: getattr(config, key) for key in _SCALING}
    digest = hashlib.sha256(f"{base_digest} {dtype}".encode())
    digest.update(json.dumps(scaling, sort_keys=True).encode())
    _add(digest, "adapter", tensors)
    return digest.hexdigest()


def _add(digest: _Hash, part: str, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{part}.{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
