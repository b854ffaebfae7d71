"""Write a data set under another name and rename it into place: all of it is there, or nothing."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spie_robo.errors import StoreError
from spie_robo.files.atomic import sync_directory
from spie_robo.files.lock import StoreLock

_ENDING = ".building"
_TRIES, _QUIET_TRIES, _WAIT_S = 100, 4, 0.05


@contextmanager
def build_at(out: Path) -> Iterator[Path]:
    """A path to build at, which becomes ``out`` when the block ends without an error.

    One process builds at a time. The path has the number of the process in its name; what a killed
    process left there is removed by the next one.

    Args:
        out: A path where nothing is; parent folders are made.

    Raises:
        StoreLockedError: If another process builds the same output; it names that process.
        StoreError: If something is at ``out``, or the disk refuses.
    """
    _require_absent(out)
    with StoreLock(out) as lock:
        building = out.with_name(f".{out.name}.{os.getpid()}{_ENDING}")
        try:
            _require_absent(out)  # whoever held the lock before may have written it
            for leftover in out.parent.glob(f".{_escaped(out.name)}.*{_ENDING}"):
                remove_path(leftover)
            yield building
            _sync(building)
            _require_absent(out)
            os.replace(building, out)
            sync_directory(out.parent)
        except OSError as error:
            raise StoreError(
                f"Cannot write {out}: {error.strerror or error}. Nothing is left of it. Free space "
                "or fix the permissions, then run the same command again."
            ) from error
        finally:
            _remove_for_good(building)
            lock.remove()


def remove_path(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def require_room(path: Path, size: int) -> None:
    """Check that the disk has room for ``size`` more bytes below the folder of ``path``.

    Raises:
        OSError: As if a write of that many bytes had failed.
    """
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    with suppress(AttributeError):  # no statvfs on this system: writes themselves will fail
        status = os.statvfs(folder)
        if status.f_bavail * status.f_frsize < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _remove_for_good(path: Path) -> None:
    """Delete a folder until it stays away.

    Zarr's threads go on for a moment after one of them has failed, and make the folder anew.
    """
    quiet = _QUIET_TRIES if path.is_dir() else 0
    remove_path(path)
    for _ in range(_TRIES):
        if not quiet:
            return
        time.sleep(_WAIT_S)
        quiet = _QUIET_TRIES if path.exists() else quiet - 1
        remove_path(path)


def _require_absent(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise StoreError(f"{out} already exists. Choose another output path, or delete it.")


def _escaped(name: str) -> str:
    """A file name as a pattern that fits itself alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _sync(path: Path) -> None:
    """Wait until the disk has every file below ``path``."""
    files = [path] if path.is_file() else [*path.rglob("*"), path]
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
