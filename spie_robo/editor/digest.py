"""What an editor is, as one number: SHA-256 over everything that shapes its edits but settings."""

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
"""What of a LoRA's configuration changes its effect and is not in its tensors."""


def weights_digest(pipeline: SpiePipeline) -> str:
    """SHA-256 (hex) over names, types, shapes and bytes of all weights, and the latent spec.

    It does not depend on the device or on how the weights are stored, only on their values in
    memory.
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
    """SHA-256 (hex) over an adapter and the base that it belongs to, apart from each other.

    Merged weights would not do: their last bits depend on how the processor multiplies matrices,
    and an editor recorded on one machine would be another on the next.

    Args:
        base_digest: :func:`weights_digest` of the base.
        config: Of the LoRA.
        tensors: All of the adapter's, as its files hold them.
        dtype: That the merged editor will run in.
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
