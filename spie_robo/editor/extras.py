"""Read and write the parts that SPIE adds to a stock pipeline, in the subfolder ``spie/``.

Pipeline folders and adapter folders hold the same two parts::

    conv_in.safetensors   "weight": the C style channels of the UNet's first convolution
    visual_prompt/        the visual prompt
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from spie_robo.editor.visual_prompt import VisualPrompt
from spie_robo.files.quiet_loading import quiet_loading

EXTRAS = "spie"


def save_extras(folder: Path, style_weight: Tensor, visual_prompt: VisualPrompt) -> None:
    """Write ``folder/spie``."""
    visual_prompt.save_pretrained(folder / EXTRAS / "visual_prompt")
    weight = style_weight.detach().cpu().contiguous()
    save_file({"weight": weight}, folder / EXTRAS / "conv_in.safetensors")


def load_extras(folder: Path) -> tuple[Tensor, VisualPrompt]:
    """Read ``folder/spie``: the style weights of ``conv_in``, and the visual prompt.

    Raises:
        OSError: If a file is missing or cannot be read.
        KeyError: If the style weights are missing in their file.
        SafetensorError: If a file is broken.
    """
    weight = load_file(folder / EXTRAS / "conv_in.safetensors")["weight"]
    with quiet_loading():
        prompt: VisualPrompt = VisualPrompt.from_pretrained(
            folder / EXTRAS / "visual_prompt", use_safetensors=True, local_files_only=True
        )
    return weight, prompt
