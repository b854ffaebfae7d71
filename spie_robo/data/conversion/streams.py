"""Read ahead of editing and write behind it, each in a thread, so that editing never waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, TypeVar, final

from spie_robo.data.conversion.engine import Rows
from spie_robo.data.protocols import EpisodeSink

Item = TypeVar("Item")

READ_AHEAD = 2
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
            while len(waiting) <= READ_AHEAD:
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


WRITE_BEHIND = 4
"""Number of writes that may wait; adding another waits for the oldest."""


@final
class WriteBehind:
    """Pass episodes on to a sink, in order, in another thread.

    Leaving the ``with`` block waits for the last write, even after an error: edited episodes are
    kept. After a failed write nothing more is written.

    Args:
        sink: Writer of the episodes; only the other thread may use it until the block is left.
    """

    def __init__(self, sink: EpisodeSink) -> None:
        """Write to ``sink``."""
        self._sink = sink
        self._thread = ThreadPoolExecutor(1, "write")
        self._waiting: deque[Future[None]] = deque()
        self._failed = False

    def begin_episode(self, seed: int | None) -> None:
        """Start an episode."""
        self._add(self._sink.begin_episode, seed)

    def extend(self, rows: Rows) -> None:
        """Add steps to the episode."""
        self._add(self._sink.extend, rows)

    def end_episode(self) -> None:
        """Finish the episode."""
        self._add(self._sink.end_episode)

    def __enter__(self) -> WriteBehind:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for the last write."""
        try:
            wait(self._waiting)
        except BaseException:  # after Ctrl-C the sink is closed next, so stop the writes
            for write in self._waiting:
                write.cancel()
            wait(self._waiting)
            raise
        finally:
            self._thread.shutdown(wait=False)  # an interrupted join cannot be repeated
        while error is None and self._waiting:
            self._waiting.popleft().result()

    def _add(self, write: Callable[..., None], *arguments: Any) -> None:
        while len(self._waiting) >= WRITE_BEHIND:
            self._waiting[0].result()
            self._waiting.popleft()
        self._waiting.append(self._thread.submit(self._write, write, *arguments))

    def _write(self, write: Callable[..., None], *arguments: Any) -> None:
        if self._failed:  # a later episode would take the place of the lost one
            return
        try:
            write(*arguments)
        except BaseException:
            self._failed = True
            raise
