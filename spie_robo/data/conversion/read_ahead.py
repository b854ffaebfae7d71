"""Read in another thread, so that editing does not wait for the disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")

AHEAD = 2
"""Number of items to read ahead."""


def read_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Yield the same items in the same order, read in another thread.

    An error of ``items`` is raised after the items before it. Closing the generator waits for the
    read that has begun and starts no other.

    Args:
        items: Iterator that reads one item at each ``next``; only the other thread may use it.

    Example:
        >>> list(read_ahead(iter("abc")))
        ['a', 'b', 'c']
    """
    thread = ThreadPoolExecutor(1, "read")
    waiting: deque[Future[tuple[Item] | None]] = deque()
    try:
        while True:
            while len(waiting) <= AHEAD:
                waiting.append(thread.submit(_next, items))
            item = waiting.popleft().result()
            if item is None:
                return
            yield item[0]
    finally:
        thread.shutdown(wait=True, cancel_futures=True)


def _next(items: Iterator[Item]) -> tuple[Item] | None:
    for item in items:
        return (item,)
    return None
