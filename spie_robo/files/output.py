"""Result files that a command writes for its user: whole, or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from spie_robo.errors import ConfigError


def require_place(file: Path) -> None:
    """Check that a file can be written there, before the work whose result it is to hold.

    Raises:
        ConfigError: If it is a folder, or its folder cannot be made or written.
    """
    if file.is_dir():
        raise ConfigError(f"{file}: expected a file to write, this is a folder.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written there: {error.strerror}.") from error
    if not os.access(file.parent, os.W_OK):
        raise ConfigError(f"{file}: cannot be written there: no permission.")


def write_bytes(file: Path, data: bytes) -> None:
    """Write a file whole, on the disk when this returns, or leave what was there.

    Raises:
        ConfigError: If it cannot be written.
    """
    partial = file.with_name(f".{file.name}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, file)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        reason = error.strerror or error
        raise ConfigError(f"{file}: cannot be written there: {reason}.") from error


def write_text(file: Path, text: str) -> None:
    """:func:`write_bytes`, of a text in UTF-8."""
    write_bytes(file, text.encode())


def write_json(file: Path, record: Mapping[str, Any]) -> None:
    """Write plain values as indented JSON.

    Raises:
        ConfigError: If the file cannot be written.
        ValueError: If a value is NaN or infinite, which JSON does not have.
    """
    write_text(file, json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
