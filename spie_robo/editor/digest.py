"""What an editor is, as one number: SHA-256 over everything that shapes its edits but settings."""

from __future__ import annotations

import hashlib
import json

import torch

from spie_robo.editor.pipeline import SpiePipeline


def weights_digest(pipeline: SpiePipeline) -> str:
    """SHA-256 (hex) over names, types, shapes and bytes of all weights, and the latent spec.

    It does not depend on the device or on how the weights are stored, only on their values in
    memory.
    """
    digest = hashlib.sha256(repr(pipeline.latent_spec).encode())
    scheduler = {k: v for k, v in pipeline.scheduler.config.items() if not k.startswith("_")}
    digest.update(json.dumps(scheduler, sort_keys=True, default=str).encode())
    for part in ("vae", "text_encoder", "unet", "visual_prompt"):
        for name, tensor in sorted(getattr(pipeline, part).state_dict().items()):
            digest.update(f"{part}.{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
