"""Load ``transformers`` models and processors from a local folder or the Hub.

Weights are read only from safetensors, and no code of a model's author is run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError

from spie_robo.errors import ConfigError, MissingExtraError
from spie_robo.files.quiet_loading import quiet_loading

Loaded = TypeVar("Loaded")

_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")


def model_type(name: str, role: str, expected: Iterable[str]) -> str:
    """Return the ``model_type`` in the config of a model.

    Args:
        name: A local folder or a Hub id.
        role: Purpose of the model, for messages.
        expected: Model types that can serve this purpose.

    Raises:
        ConfigError: If there is no such model, or it is of another type.
    """
    from transformers import AutoConfig

    config = _attempt(AutoConfig.from_pretrained, name, role, "config")
    found = str(config.model_type)
    if found not in expected:
        raise ConfigError(
            f"{role} {name!r}: expected a model of type {' or '.join(expected)}, got {found!r}."
        )
    return found


def load_model(model_class: Any, name: str, role: str, device: str) -> Any:
    """Load a frozen model in float32, with every weight read from its files.

    Args:
        model_class: Model class of transformers.
        name: A local folder or a Hub id.
        role: Purpose of the model, for messages.
        device: Device of the model.

    Raises:
        ConfigError: If there is no such model, or its weights are missing, broken or incomplete.
    """
    import torch

    model, info = _attempt(
        lambda source: model_class.from_pretrained(
            source, use_safetensors=True, output_loading_info=True, dtype=torch.float32
        ),
        name,
        role,
        "weights",
    )
    # transformers fills missing weights with random numbers and only warns.
    missing = sorted(info["missing_keys"])
    if missing:
        raise ConfigError(
            f"{role} {name!r}: its weights lack {len(missing)} tensors, e.g. {missing[0]!r}. "
            "Download it again."
        )
    return model.requires_grad_(False).to(device).eval()


def load_processor(processor_class: Any, name: str, role: str) -> Any:
    """Load the processor that prepares images (and text) for a model, with its own settings.

    Raises:
        ConfigError: If files of the processor are missing or broken.
        MissingExtraError: If it needs a package that is not installed.
    """
    return _attempt(processor_class.from_pretrained, name, role, "preprocessor")


def _attempt(load: Callable[[str], Loaded], name: str, role: str, part: str) -> Loaded:
    """Load a part of a model, or raise an error that names the folder and what it lacks."""
    folder = Path(name).expanduser()
    local = folder.is_dir()
    if not local and (not _HUB_ID.fullmatch(name) or name.startswith(".")):
        raise ConfigError(
            f"{role} {name!r}: there is no such folder, and it is no Hub id (OWNER/NAME)."
        )
    try:
        with quiet_loading():
            return load(str(folder) if local else name)
    except ImportError as error:
        raise MissingExtraError(
            f"{role} {name!r} needs a package that is not installed: {_first_line(error)} "
            "Install it with: pip install 'spie-robo[models]'"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        where = f"the {part} in folder" if local else f"no such folder, and the {part} of Hub model"
        raise ConfigError(
            f"{role}: {where} {name!r} cannot be loaded: {_first_line(error)} Expected what "
            "save_pretrained writes: config.json, model.safetensors and the preprocessor's files."
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    line = lines[0].strip() if lines else repr(error)
    return line if line.endswith((".", "!", "?")) else f"{line}."
