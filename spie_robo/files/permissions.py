"""Permissions of files that a library wrote for their owner alone.

safetensors writes through a private temporary file, which its result stays like: colleagues could
read a run's settings but not its weights.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def share_weights(folder: Path) -> None:
    """Give the weights below a folder the permissions that any new file of this process has.

    Args:
        folder: A folder, or one file. Files of other owners are left alone.
    """
    mode = 0o666 & ~_umask()
    files = [folder] if folder.is_file() else folder.rglob("*.safetensors")
    for file in files:
        with suppress(OSError):
            if file.stat().st_uid == os.geteuid():
                file.chmod(mode)


def _umask() -> int:
    """Return the process's umask, which only /proc shows without setting it."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
