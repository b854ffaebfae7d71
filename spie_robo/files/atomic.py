"""Write a file so that a kill leaves the old one or the new one, and nothing between."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from spie_robo.errors import StoreError

PARTIAL_SUFFIX = ".partial"


def write_synced(path: Path, data: Any) -> None:
    """Write ``data`` (bytes-like) to ``path`` and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def atomic_write(path: Path, data: Any) -> None:
    """Replace ``path`` by a file that holds ``data``, or leave it as it was.

    Raises:
        StoreError: If the disk is full or the path cannot be written.
    """
    temporary = path.with_name(f".{path.name}{PARTIAL_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_synced(temporary, data)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise write_failure(path, error) from error


def write_failure(path: Path, error: OSError) -> StoreError:
    """The error to raise when the operating system refuses to write ``path``."""
    return StoreError(
        f"Cannot write {path}: {error.strerror or error}. Episodes that were already committed are "
        "intact. Free space or fix the permissions, then continue with the same store."
    )


def sync_directory(path: Path) -> None:
    """Make the renames inside a directory survive a power cut.

    Raises:
        StoreError: If the operating system refuses.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise write_failure(path, error) from error
