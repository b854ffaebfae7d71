"""Damaged files of others: whatever their libraries raise becomes one named error."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spie_robo.errors import StoreCorruptError

_RAISED = (
    OSError, EOFError, LookupError, ValueError, TypeError, ArithmeticError, RuntimeError,
    AttributeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip
"""Errors that zipfile, zarr, h5py, pyarrow and PyAV were seen to raise on random bytes."""


@contextmanager
def named_damage(path: Path) -> Iterator[None]:
    """Turn a library's error about a file into a StoreCorruptError about the data set.

    Raises:
        StoreCorruptError: Naming ``path`` and what the library said.
    """
    try:
        yield
    except _RAISED as error:
        raise StoreCorruptError(
            f"{path}: it cannot be read ({type(error).__name__}: {error}). It is damaged, or not "
            "what it says it is: restore it from a copy."
        ) from error
