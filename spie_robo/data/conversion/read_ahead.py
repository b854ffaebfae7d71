"""Read in a thread of its own, so that editing need not wait for the disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")

AHEAD = 2
"""Items that are read before anyone asks for them."""


def read_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """The same items in the same order, made in one other thread.

    What ``items`` raises comes after the items before it. Closing the generator waits for the read
    that has begun and makes no more.

    Args:
        items: Reads one item at each ``next``; it is the other thread's until this one is closed.

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
