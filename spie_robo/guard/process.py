"""The guard in a process of its own: it judges one batch while the editor makes the next.

A thread would do, but for Python's lock: editor and guard are made of many short calls that wait
for one another, which costs the editor a tenth of its speed even where a core is idle.

``guard --pickle--> child``, then ``(threads, frames, images) --> verdicts`` for each batch, over a
socket that nothing else knows. The child imports this package and not the caller's script, gets no
Ctrl-C, and ends when the other end of the socket is closed, whatever closed it.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import Lock
from types import TracebackType
from typing import Any, TypeAlias, final

from spie_robo.errors import SpieRoboError
from spie_robo.types import EditResult, Frame, Guard, GuardVerdict

_COMMAND = "import sys; from spie_robo.guard.process import serve; serve(int(sys.argv[1]))"
_SECONDS_TO_END = 5.0
_Answer: TypeAlias = "list[GuardVerdict] | Exception"


@final
class GuardProcess:
    """A guard that judges elsewhere; implements ``types.Guard`` with the wrapped one's verdicts.

    If its process is killed, the wrapped guard judges here from then on, and a warning says so.

    Args:
        guard: Judges in the other process; it is pickled.

    Example:
        >>> import numpy as np
        >>> from spie_robo.guard import GeometryGuard
        >>> from spie_robo.types import EditResult, Frame
        >>> frame = Frame(np.zeros((64, 64, 3), np.uint8))
        >>> with GuardProcess(GeometryGuard()) as guard:
        ...     guard.judge(frame, EditResult(frame.rgb, 0, "", "identity", 0)).accepted
        True
    """

    def __init__(self, guard: Guard) -> None:
        """Start the process, which takes seconds to get ready; the first batch waits for it."""
        self._guard, self._lock = guard, Lock()
        self._connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                # -P: a folder spie_robo where the user happens to be is not this package.
                [sys.executable, "-P", "-c", _COMMAND, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=_environment(),
            )
        # Plain pickle: multiprocessing's would share tensors, which only its own children can open.
        self._connection.send_bytes(pickle.dumps(guard))

    @property
    def id(self) -> str:
        """The wrapped guard's, so that a store says the same wherever it was judged."""
        return str(getattr(self._guard, "id", type(self._guard).__name__))

    @property
    def description(self) -> dict[str, Any]:
        """The wrapped guard's."""
        return dict(getattr(self._guard, "description", {}))

    def judge(self, frame: Frame, edit: EditResult) -> GuardVerdict:
        """As the wrapped guard."""
        return self.judge_batch([frame], [edit])[0]

    def judge_batch(
        self, frames: Sequence[Frame], edits: Sequence[EditResult]
    ) -> list[GuardVerdict]:
        """As the wrapped guard, torch's number of threads included.

        Raises:
            SpieRoboError: What the wrapped guard raises.
            RuntimeError: In place of any other exception of it.
        """
        import torch

        if not self._connection.closed:
            try:
                with self._lock:
                    self._connection.send((torch.get_num_threads(), list(frames), list(edits)))
                    answer: _Answer = self._connection.recv()
            except (EOFError, OSError):
                self._give_up()
            except BaseException:  # its answer would be taken for that to the next question
                self.close()
                raise
            else:
                if isinstance(answer, Exception):
                    raise answer
                return answer
        return self._guard.judge_batch(frames, edits)

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> GuardProcess:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the process."""
        self.close()

    def _give_up(self) -> None:
        self.close()
        warnings.warn(
            f"The guard's process ended (exit status {self._process.returncode}; -9 is often a "
            "lack of memory). Edits are judged in this process from here on.",
            RuntimeWarning,
            stacklevel=3,
        )


def _environment() -> dict[str, str]:
    """The caller's, with its paths to modules; and threads that wait there sleep.

    They would spin on the cores that the editor's threads need: a third of the speed was left.
    """
    paths = os.pathsep.join(filter(None, sys.path))
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONPATH": paths}


def serve(descriptor: int) -> None:
    """Judge whatever comes in at a socket until it is closed: the other process's whole life.

    Args:
        descriptor: File descriptor of the socket.
    """
    import torch

    with Connection(descriptor) as connection:
        try:
            guard: Guard = connection.recv()
            while True:
                threads, frames, edits = connection.recv()
                if torch.get_num_threads() != threads:
                    torch.set_num_threads(threads)
                connection.send(_judged(guard, frames, edits))
        except (EOFError, OSError):  # the caller is done, or dead
            return


def _judged(guard: Guard, frames: list[Frame], edits: list[EditResult]) -> _Answer:
    try:
        return guard.judge_batch(frames, edits)
    except SpieRoboError as error:
        return error
    except Exception as error:  # of a class that may not survive the way
        return RuntimeError(f"The guard failed: {error!r}.")
