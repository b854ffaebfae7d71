"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from spie_robo.data.durable import write_synced
from spie_robo.errors import ConfigError


def replace_file(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, or leave what was there.

    Raises:
        ConfigError: If it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_synced(partial, data)
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise ConfigError(f"{path}: it cannot be written: {error.strerror or error}.") from error
