"""Edit blocks in this process while earlier blocks are judged.

The editor runs only in the caller's thread: it need not be thread-safe, and Ctrl-C stops it as
usual. Two helper threads each carry one block through its attempts; they judge, one at a time, and
ask the caller's thread for edits. So one block is edited while the block before it is judged, and
each block gets exactly the calls that it would get alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event, Lock
from typing import Any, final

from spie_robo.data.conversion.engine import Block, Edits, EditTask
from spie_robo.data.conversion.time_limit import time_limit
from spie_robo.editing.description import EditorDescription
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.types import EditResult, Frame, Guard, GuardVerdict, ImageEditor, References

BLOCKS_AHEAD = 3
"""Blocks that are read and not yet written: one edited, one judged, one waiting."""


@final
class LocalEngine:
    """Edit with an editor and a guard in this process.

    Args:
        guarded: The editor and its guard.
        timeout: Seconds that a call of the editor may take
            (:mod:`spie_robo.data.conversion.time_limit`); None for no limit.
    """

    def __init__(self, guarded: GuardedEditor, timeout: float | None = None) -> None:
        """Use ``guarded`` and limit each call of its editor to ``timeout`` seconds."""
        self._described = guarded
        self._guarded = replace(guarded, editor=_Limited(guarded.editor, timeout))

    @property
    def description(self) -> EditorDescription:
        """Description of editor, guard and their use."""
        return self._described.description

    def edit(self, task: EditTask, blocks: Iterable[Block]) -> Iterator[tuple[Block, Edits]]:
        """Yield every block with its edits, in order.

        Raises:
            EditorError: If the editor fails.
        """
        guarded = self._guarded
        if guarded.guard is None:
            for block in blocks:
                yield block, task.edit(guarded, block)
            return
        desk = _Desk()
        asking = replace(
            guarded,
            editor=_Asking(guarded.editor, desk),
            guard=_InTurn(guarded.guard, Lock()),
        )
        threads = ThreadPoolExecutor(2, "judge")
        try:
            yield from _in_order(iter(blocks), threads, partial(task.edit, asking), desk)
        finally:
            desk.close()
            threads.shutdown(wait=True, cancel_futures=True)


def _in_order(
    blocks: Iterator[Block],
    threads: ThreadPoolExecutor,
    edit: Callable[[Block], Edits],
    desk: _Desk,
) -> Iterator[tuple[Block, Edits]]:
    window: deque[tuple[Block, Future[Edits]]] = deque()
    while True:
        while len(window) < BLOCKS_AHEAD and (block := next(blocks, None)) is not None:
            future = threads.submit(edit, block)
            future.add_done_callback(desk.wake)
            window.append((block, future))
        if not window:
            return
        if window[0][1].done():
            block, future = window.popleft()
            yield block, future.result()
        else:
            desk.serve()


@final
class _Desk:
    """A queue of calls that helper threads leave for the thread that runs the editor."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._closed = Event()

    def ask(self, call: Callable[[], Any]) -> Any:
        """Queue ``call``, wait for it, and return or raise its result."""
        answer: Future[Any] = Future()
        self._calls.put((call, answer))
        if self._closed.is_set():  # the queue may not be served again
            answer.cancel()
        return answer.result()

    def wake(self, _: object = None) -> None:
        """Make :meth:`serve` return."""
        self._calls.put(None)

    def serve(self) -> None:
        """Run the next queued call, or return when woken."""
        asked = self._calls.get()
        if asked is None:
            return
        call, answer = asked
        try:
            answer.set_result(call())
        except BaseException as error:  # raised in the thread that asked
            answer.set_exception(error)
            if not isinstance(error, Exception):  # Ctrl-C is also raised here
                raise

    def close(self) -> None:
        """Cancel all waiting calls."""
        self._closed.set()
        with suppress(Empty):
            while True:
                asked = self._calls.get_nowait()
                if asked is not None:
                    asked[1].cancel()


@final
@dataclass(frozen=True)
class _Limited:
    """An editor with a limit on the time of each call."""

    editor: ImageEditor
    timeout: float | None

    @property
    def id(self) -> str:
        return self.editor.id

    def edit(
        self,
        frames: Sequence[Frame],
        references: References | None = None,
        instruction: str | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[EditResult]:
        with time_limit(self.timeout, self.id):
            return self.editor.edit(frames, references, instruction, seeds)


@final
@dataclass(frozen=True)
class _Asking:
    """An editor whose calls run in the caller's thread."""

    editor: ImageEditor
    desk: _Desk

    @property
    def id(self) -> str:
        return self.editor.id

    def edit(
        self,
        frames: Sequence[Frame],
        references: References | None = None,
        instruction: str | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[EditResult]:
        call = partial(self.editor.edit, frames, references, instruction, seeds)
        edits: list[EditResult] = self.desk.ask(call)
        return edits


@final
@dataclass(frozen=True)
class _InTurn:
    """A guard that judges for one thread at a time."""

    guard: Guard
    lock: Lock

    def judge(self, frame: Frame, edit: EditResult) -> GuardVerdict:
        with self.lock:
            return self.guard.judge(frame, edit)

    def judge_batch(
        self, frames: Sequence[Frame], edits: Sequence[EditResult]
    ) -> list[GuardVerdict]:
        with self.lock:
            return self.guard.judge_batch(frames, edits)
