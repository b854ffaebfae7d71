"""PyBullet without what its C code prints, which no Python setting reaches.

``pybullet`` writes when it was built on stderr as it is imported, and more on stdout as a client
connects. Import it from here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

STDOUT, STDERR = 1, 2


@contextmanager
def without_native_output(descriptor: int) -> Iterator[None]:
    """Send what is written to a file descriptor nowhere while it lasts.

    Args:
        descriptor: ``STDOUT`` or ``STDERR``.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # there is none in a program without a console
            stream.flush()
    saved = os.dup(descriptor)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, descriptor)
        yield
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)
        os.close(sink)


with without_native_output(STDERR):
    import pybullet
    from pybullet_utils.bullet_client import BulletClient  # type: ignore[import-untyped]

__all__ = ["STDERR", "STDOUT", "BulletClient", "pybullet", "without_native_output"]
