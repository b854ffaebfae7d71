"""Use one number of torch's threads in all of a conversion: the last bits of sums depend on it.

A store keeps the number under :data:`KEY`. Without an editor it is not stored, and torch is not
imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spie_robo.data.store.commit import read_commit
from spie_robo.errors import StoreError

KEY = "torch_threads"
"""Key in ``metadata.provenance``, beside ``conversion``."""


def torch_threads() -> int:
    """Return the number of threads that torch uses in this process."""
    import torch

    return torch.get_num_threads()


def recorded_threads(provenance: Mapping[str, Any]) -> int | None:
    """Return the number of threads that a store was begun with; None if it is not stored."""
    count = provenance.get(KEY)
    return count if type(count) is int and count >= 1 else None


def threads_of(out: Path) -> int | None:
    """Return the recorded threads of the store at ``out``; None if it cannot be read."""
    try:
        return recorded_threads(read_commit(out)[1].provenance)
    except StoreError:
        return None


@contextmanager
def using_threads(count: int | None) -> Iterator[None]:
    """Let torch use ``count`` threads in the body; None changes nothing."""
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
    """Set torch's number of threads, unless it is already that."""
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
