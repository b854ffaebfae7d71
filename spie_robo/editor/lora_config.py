"""Read peft's ``adapter_config.json`` without trusting it.

peft compiles an adapter's module names as regular expressions, and some ways to initialise a LoRA
decompose every matrix of the base. An editor needs neither: names are compared literally.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig

from spie_robo.editor.folder_check import read_mapping
from spie_robo.errors import EditorError
from spie_robo.settings.wording import shortened

_MOST_RANK = 1024
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.]{1,200}")
_ABOUT = {
    "peft_type", "task_type", "peft_version", "auto_mapping", "revision", "inference_mode",
    "base_model_name_or_path", "megatron_core", "qalora_group_size", "runtime_config",
    "lora_dropout",
}  # fmt: skip
"""Settings that do not change the edits of a trained LoRA."""

_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal")


def read_lora_config(path: Path) -> LoraConfig:
    """Read the settings of a LoRA.

    Args:
        path: ``adapter_config.json`` of an adapter folder.

    Raises:
        EditorError: If it is not a LoRA with plain module names, or is a variant of LoRA that
            editors do not load.
    """
    values = read_mapping(path)
    kind = values.get("peft_type")
    if kind != "LORA":
        raise EditorError(f"{path}: expected peft_type 'LORA', got {shortened(repr(kind))}.")
    # Take over the settings that change edits, each checked.
    settings = {
        "r": _number(path, "r", values.get("r"), 1, _MOST_RANK),
        "lora_alpha": _number(path, "lora_alpha", values.get("lora_alpha"), 0, 2**16),
        "target_modules": _names(path, "target_modules", values.get("target_modules")),
        "rank_pattern": _pattern(path, values, "rank_pattern", _MOST_RANK),
        "alpha_pattern": _pattern(path, values, "alpha_pattern", 2**16),
    }
    if excluded := values.get("exclude_modules"):
        settings["exclude_modules"] = _names(path, "exclude_modules", excluded)
    for name in ("use_rslora", "use_dora"):
        settings[name] = _switch(path, name, values.get(name, False))
    # Refuse settings of other kinds of LoRA.
    start = values.get("init_lora_weights", True)
    if not any(start is plain or start == plain for plain in _PLAIN_STARTS):
        raise EditorError(
            f"{path}: init_lora_weights: expected true, false or 'gaussian', got "
            f"{shortened(repr(start))}. Convert the adapter to a plain LoRA with peft."
        )
    _require_no_other(path, values, set(settings) | {"exclude_modules", "init_lora_weights"})
    return LoraConfig(**settings)


def largest_rank(config: LoraConfig) -> int:
    """Return the largest rank of a LoRA's modules."""
    return int(max((config.r, *config.rank_pattern.values())))


def _require_no_other(path: Path, values: Mapping[str, Any], known: set[str]) -> None:
    """Refuse settings of other kinds of LoRA, because dropping them would change the edits."""
    for name, value in values.items():
        if name in known or name in _ABOUT or not value or (name == "bias" and value == "none"):
            continue
        raise EditorError(
            f"{path}: {shortened(name)}: expected nothing, got {shortened(repr(value))}. Editors "
            "load plain LoRAs; convert the adapter with peft."
        )


def _number(path: Path, name: str, value: Any, least: int, most: int) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise EditorError(
            f"{path}: {name}: expected a number from {least} to {most}, got "
            f"{shortened(repr(value))}."
        )
    return value


def _switch(path: Path, name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise EditorError(f"{path}: {name}: expected true or false, got {shortened(repr(value))}.")
    return value


def _names(path: Path, name: str, value: Any) -> list[str]:
    names = value if isinstance(value, list) else [None]
    if not names or not all(isinstance(n, str) and _PLAIN_NAME.fullmatch(n) for n in names):
        raise EditorError(
            f"{path}: {name}: expected a list of plain module names such as 'to_q', got "
            f"{shortened(repr(value))}. Patterns are not taken from an adapter."
        )
    return list(names)


def _pattern(path: Path, values: Mapping[str, Any], name: str, most: int) -> dict[str, Any]:
    found = values.get(name) or {}
    if not isinstance(found, dict):
        raise EditorError(f"{path}: {name}: expected names with numbers, got a {type(found)}.")
    if found:
        _names(path, name, list(found))
    return {key: _number(path, name, value, 1, most) for key, value in found.items()}
