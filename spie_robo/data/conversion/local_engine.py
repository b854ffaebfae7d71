"""Edit blocks in this process, while earlier blocks are judged.

The editor runs in the caller's thread and nowhere else: it need not know of threads, and Ctrl-C
stops it as ever. Two helper threads each carry one block through its attempts; they judge, one at
a time, and ask the caller's thread for edits. So one block is edited while the one before it is
judged, and each block gets the very calls that it would get alone.
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
"""Blocks that are read and not yet written: one edited, one judged, one to go on with."""


@final
class LocalEngine:
    """Edits with an editor and a guard of this process.

    Args:
        guarded: Makes and judges the edits.
        timeout: Seconds that a call of the editor may take; None for no limit
            (:mod:`spie_robo.data.conversion.time_limit` says how it is kept).
    """

    def __init__(self, guarded: GuardedEditor, timeout: float | None = None) -> None:
        """Use ``guarded``, a call of whose editor takes ``timeout`` seconds at most."""
        self._described = guarded
        self._guarded = replace(guarded, editor=_Limited(guarded.editor, timeout))

    @property
    def description(self) -> EditorDescription:
        """Its editor and guard, and how they are used."""
        return self._described.description

    def edit(self, task: EditTask, blocks: Iterable[Block]) -> Iterator[tuple[Block, Edits]]:
        """Every block with its edits, in order.

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
    """Where helper threads leave calls for the thread that serves them."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._closed = Event()

    def ask(self, call: Callable[[], Any]) -> Any:
        """Have ``call`` made, and wait for what it gives or raises."""
        answer: Future[Any] = Future()
        self._calls.put((call, answer))
        if self._closed.is_set():  # nobody may ever look again
            answer.cancel()
        return answer.result()

    def wake(self, _: object = None) -> None:
        """Make :meth:`serve` return: there is news."""
        self._calls.put(None)

    def serve(self) -> None:
        """Make the next call, or return at news."""
        asked = self._calls.get()
        if asked is None:
            return
        call, answer = asked
        try:
            answer.set_result(call())
        except BaseException as error:  # it belongs to the thread that asked
            answer.set_exception(error)
            if not isinstance(error, Exception):  # Ctrl-C belongs to this one
                raise

    def close(self) -> None:
        """Turn away all who wait."""
        self._closed.set()
        with suppress(Empty):
            while True:
                asked = self._calls.get_nowait()
                if asked is not None:
                    asked[1].cancel()


@final
@dataclass(frozen=True)
class _Limited:
    """An editor whose calls may take so long and no longer."""

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
    """An editor whose calls are made at the desk."""

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
