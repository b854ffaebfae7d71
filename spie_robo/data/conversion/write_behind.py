"""Write episodes in a thread of its own, so that editing need not wait for the disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, final

from spie_robo.data.conversion.engine import Rows
from spie_robo.data.protocols import EpisodeSink

AHEAD = 4
"""Writes that may wait; whoever adds another waits for the oldest."""


@final
class WriteBehind:
    """Passes episodes on to a sink, in order, in one other thread.

    Leaving the ``with`` block waits for the last write, whatever ended the block: an episode that
    was edited is kept. After a failed write nothing more is written.

    Args:
        sink: Takes the episodes; it is the other thread's until the block is left.
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
        """Add steps to it."""
        self._add(self._sink.extend, rows)

    def end_episode(self) -> None:
        """Finish it."""
        self._add(self._sink.end_episode)

    def __enter__(self) -> WriteBehind:
        """Itself."""
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
        except BaseException:  # Ctrl-C: the sink is closed next, and must not be written meanwhile
            for write in self._waiting:
                write.cancel()
            wait(self._waiting)
            raise
        finally:
            self._thread.shutdown(wait=False)  # a join that is interrupted does not join again
        while error is None and self._waiting:
            self._waiting.popleft().result()

    def _add(self, write: Callable[..., None], *arguments: Any) -> None:
        while len(self._waiting) >= AHEAD:
            self._waiting[0].result()
            self._waiting.popleft()
        self._waiting.append(self._thread.submit(self._write, write, *arguments))

    def _write(self, write: Callable[..., None], *arguments: Any) -> None:
        if self._failed:  # an episode after the lost one would be taken for it
            return
        try:
            write(*arguments)
        except BaseException:
            self._failed = True
            raise
