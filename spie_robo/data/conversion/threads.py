"""torch's number of threads, on which last bits of sums depend: one for all of a conversion.

A store says under :data:`KEY` which it was. Nothing is said where no editor was used, and torch is
not imported then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spie_robo.data.store.commit import read_commit
from spie_robo.errors import StoreError

KEY = "torch_threads"
"""In ``metadata.provenance``, beside ``conversion``."""


def torch_threads() -> int:
    """Threads that torch uses in this process."""
    import torch

    return torch.get_num_threads()


def recorded_threads(provenance: Mapping[str, Any]) -> int | None:
    """Threads that a store was begun with; None if it does not say."""
    count = provenance.get(KEY)
    return count if type(count) is int and count >= 1 else None


def threads_of(out: Path) -> int | None:
    """:func:`recorded_threads` of the store at ``out``; None if there is none that can be read."""
    try:
        return recorded_threads(read_commit(out)[1].provenance)
    except StoreError:
        return None


@contextmanager
def using_threads(count: int | None) -> Iterator[None]:
    """Have torch use so many threads, and as many as before afterwards; None leaves it alone."""
    if count is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    set_threads(torch, count)
    try:
        yield
    finally:
        set_threads(torch, before)


def set_threads(torch: Any, count: int) -> None:
    """Have torch use so many threads; it is not touched if it does already."""
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
