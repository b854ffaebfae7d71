"""Keep decoded copies of a store's arrays, so that random windows are fast to read.

A store compresses many frames together, so one random frame costs the decoding of its whole chunk.
Each array that a policy needs is therefore decoded once, with the store's checks, into a plain
``.npy`` file that later runs map into memory::

    $XDG_CACHE_HOME/spie_robo/policies/<fingerprint>/<key>-<side>px.npy

The folder may be deleted at any time.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from spie_robo.errors import ConfigError, StoreError
from spie_robo.policies.source import Source, block_rows


def default_cache_folder() -> Path:
    """Return ``spie_robo/policies`` in the user's cache folder (XDG base directories)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "spie_robo" / "policies"


def cached_images(source: Source, key: str, side: int, folder: Path | None) -> NDArray[np.uint8]:
    """Return all frames of a camera, resized for a policy.

    Args:
        source: The store.
        key: Array of the frames, (steps, height, width, 3): uint8, or float in 0..1 or 0..255 as
            in Diffusion Policy's PushT data.
        side: Side of the frames, pixels; others are resized by area average.
        folder: Folder of the copies; None decodes into memory.

    Returns:
        uint8, (steps, side, side, 3), a read-only memory map of a file or an array in memory.

    Raises:
        StoreError: If there is no such array, or it holds no images.
        StoreCorruptError: If the store is damaged.
        ConfigError: If the copy cannot be written.
    """
    _require_images(source, key)
    shape = (source.n_steps, side, side, 3)
    if folder is None:
        frames = np.empty(shape, np.uint8)
        _decode(source, key, frames)
        return frames
    file = folder / source.fingerprint(key)[:32] / f"{key}-{side}px.npy"
    found = _open_copy(file, shape)
    if found is None:
        _build_copy(file, source, key, shape)
        found = _open_copy(file, shape)
    if found is None:
        raise ConfigError(f"{file}: it was written and cannot be read back. Check the disk.")
    return found


def read_numbers(source: Source, key: str) -> NDArray[np.float32]:
    """Read an array of numbers into memory, as float32, (steps, values).

    Raises:
        StoreError: If there is no such array, or a number is not finite as float32.
        StoreCorruptError: If the store is damaged.
    """
    source.require(key)
    if source.dtype(key).kind not in "biuf":
        raise StoreError(f"{source.path}: {key!r} holds {source.dtype(key)}, expected numbers.")
    rows = source.read(key, 0, source.n_steps)
    with np.errstate(over="ignore"):  # too large numbers become infinite and are refused below
        numbers = np.ascontiguousarray(rows, np.float32).reshape(len(rows), -1)
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers).all(1))[0])
        raise StoreError(
            f"{source.path}: {key!r} is not finite as float32 in step {row}. Record it again."
        )
    return numbers


def resize_frames(frame: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize a frame, uint8 (height, width, 3), to a square of ``side`` pixels, by area."""
    if frame.shape[:2] == (side, side):
        return frame
    resized = cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


def _require_images(source: Source, key: str) -> None:
    source.require(key)
    shape = source.shapes[key]
    if len(shape) != 4 or shape[3] != 3 or not _is_picture(source.dtype(key)):
        raise StoreError(
            f"{source.path}: {key!r} holds {source.dtype(key)} of shape {shape}, expected images "
            "of shape (steps, height, width, 3), uint8 or float."
        )


def _is_picture(dtype: np.dtype[Any]) -> bool:
    return dtype == np.uint8 or dtype.kind == "f"


def _decode(source: Source, key: str, out: NDArray[np.uint8]) -> None:
    """Decode an array block by block into uint8 frames of the size of ``out``."""
    step = block_rows(source.shapes[key][1:], source.dtype(key))
    starts = range(0, source.n_steps, step)
    scale = 1.0
    if source.dtype(key).kind == "f":
        blocks = (source.read(key, start, min(start + step, source.n_steps)) for start in starts)
        bounds = np.array([(block.min(), block.max()) for block in blocks], np.float64)
        low, high = float(bounds.min()), float(bounds.max())  # NaN if any value is NaN
        if not (low >= 0 and high <= 255):
            raise StoreError(
                f"{source.path}: {key!r} has values from {low:g} to {high:g}, expected images in "
                "0..255 or 0..1."
            )
        scale = 255.0 if high <= 1 else 1.0
    for start in starts:
        rows = source.read(key, start, min(start + step, source.n_steps))
        if rows.dtype != np.uint8:
            rows = np.rint(rows * scale).astype(np.uint8)
        for number, frame in enumerate(rows, start):
            out[number] = resize_frames(frame, out.shape[1])


def _open_copy(file: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Open the copy; return None if there is none that is complete and of this shape."""
    try:
        found: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == shape and found.dtype == np.uint8 else None


def _build_copy(file: Path, source: Source, key: str, shape: tuple[int, ...]) -> None:
    """Write the copy under another name, and rename it when it is complete."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(".partial", f".{file.name}.", file.parent)
        os.close(handle)
        try:
            frames = open_memmap(name, mode="w+", dtype=np.uint8, shape=shape)
            _claim(Path(name))
            _decode(source, key, frames)
            frames.flush()
            os.replace(name, file)
        finally:
            with suppress(OSError):
                os.unlink(name)
    except OSError as error:
        raise ConfigError(
            f"{file}: the decoded frames cannot be kept there: {error.strerror}. Set "
            "XDG_CACHE_HOME to a folder with room, or `cache: memory` in a --config file."
        ) from error


def _claim(file: Path) -> None:
    """Reserve a sparse file's disk space now, because a full disk would later be a SIGBUS."""
    with file.open("r+b") as stream:
        os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
