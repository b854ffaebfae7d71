"""Import PyBullet without the lines that its C code prints, which no Python setting hides.

``pybullet`` prints its build date on stderr on import, and more lines on stdout when a client
connects. Import it from this module.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

STDOUT, STDERR = 1, 2


@contextmanager
def without_native_output(descriptor: int) -> Iterator[None]:
    """Discard all output to a file descriptor in the body.

    Args:
        descriptor: ``STDOUT`` or ``STDERR``.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # a program without a console has none
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
