"""Write a data set under another name and rename it into place: all of it is there, or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spie_robo.errors import StoreError
from spie_robo.files.atomic import sync_directory


@contextmanager
def build_at(out: Path) -> Iterator[Path]:
    """A path to build at, which becomes ``out`` when the block ends without an error.

    Args:
        out: A path where nothing is; parent folders are made.

    Raises:
        StoreError: If something is at ``out``, or the disk refuses.
    """
    if out.exists() or out.is_symlink():
        raise StoreError(f"{out} already exists. Choose another output path, or delete it.")
    building = out.with_name(f".{out.name}.building")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_path(building)
        yield building
        _sync(building)
        os.replace(building, out)
        sync_directory(out.parent)
    except OSError as error:
        raise StoreError(
            f"Cannot write {out}: {error.strerror or error}. Nothing is left of it. Free space or "
            "fix the permissions, then run the same command again."
        ) from error
    finally:
        remove_path(building)


def remove_path(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until the disk has every file below ``path``."""
    files = [path] if path.is_file() else [*path.rglob("*"), path]
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
