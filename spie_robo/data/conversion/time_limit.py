"""A limit on the time that one call of an editor may take in this process.

Two clocks run. At the limit a signal interrupts whatever Python code the main thread is in, and
the call fails like any other. An editor that is stuck in native code never comes back to see that
signal: ``GRACE_SECONDS`` later a watchdog prints where every thread is and ends the process, which
loses nothing that was committed (a kill at any moment is survived).
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
"""Time between the signal and the end of the process."""


@contextmanager
def time_limit(seconds: float | None, editor: str) -> Iterator[None]:
    """Limit the time that the body of a ``with`` statement takes.

    Args:
        seconds: The limit; None for no limit. There is none either outside the main thread, which
            is the only one that a signal can interrupt.
        editor: Id of the editor that is called, for the message.

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
    # Notebooks and tests put objects without a file descriptor in the place of sys.stderr.
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
