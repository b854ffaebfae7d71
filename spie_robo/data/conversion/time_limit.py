"""Limit the time that one call of an editor may take in this process.

Two clocks run. At the limit a signal interrupts the Python code of the main thread, and the call
fails like any other. An editor that hangs in native code does not see that signal:
``GRACE_SECONDS`` later a watchdog prints the stack of every thread and ends the process, which
loses no committed data (a store survives a kill at any moment).
"""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from spie_robo.errors import EditorError

GRACE_SECONDS = 30.0
"""Time between the signal and the end of the process, seconds."""


@contextmanager
def time_limit(seconds: float | None, editor: str) -> Iterator[None]:
    """Limit the time that the body of a ``with`` statement may take.

    Args:
        seconds: The limit; None for no limit. Outside the main thread there is no limit, because
            signals interrupt only the main thread.
        editor: Id of the editor, for the message.

    Raises:
        EditorError: In the body, when its time is up.

    Example:
        >>> import time
        >>> from spie_robo.errors import EditorError
        >>> try:
        ...     with time_limit(0.05, "stuck"):
        ...         time.sleep(5)
        ... except EditorError as error:
        ...     print(error)
        Editor 'stuck' gave no edits within 0.05 s, and was stopped. Look at why it hangs, or raise --edit-timeout.
    """  # noqa: E501
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(number: int, frame: FrameType | None) -> None:
        raise EditorError(
            f"Editor {editor!r} gave no edits within {seconds:g} s, and was stopped. Look at why "
            "it hangs, or raise --edit-timeout."
        )

    before = signal.signal(signal.SIGALRM, expire)
    # Notebooks and tests replace sys.stderr by objects without a file descriptor.
    stderr = sys.__stderr__
    if stderr is not None:
        faulthandler.dump_traceback_later(seconds + GRACE_SECONDS, exit=True, file=stderr)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
