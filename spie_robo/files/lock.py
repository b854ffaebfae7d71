"""One writer at a time: an advisory lock beside a store, or a run, that says who holds it.

For ``episodes.zarr`` the lock is ``.episodes.zarr.lock``. It lies beside the store and not inside,
so that a store is nothing but zarr, and so that creating one can be guarded too. A run's lies among
its logs: the folder around it may not be writable.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import final

from filelock import FileLock, Timeout

from spie_robo.errors import StoreLockedError
from spie_robo.files.atomic import write_failure


@final
class StoreLock:
    """The right to write one store or run, from construction until :meth:`release`.

    The operating system drops it when the process ends, however that happens.

    Raises:
        StoreLockedError: If another writer has it; the message names process, host and time.
        StoreError: If the lock file cannot be written.
    """

    def __init__(self, store: Path) -> None:
        """Take the lock of ``store`` or raise."""
        self._holder = store.with_name(f".{store.name}.lock.json")
        lock_file = store.with_name(f".{store.name}.lock")
        try:
            store.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(lock_file, thread_local=False)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise StoreLockedError(
                f"{store} is being written by {self._describe_holder()}. Wait until that process "
                "has finished or stop it, or write to another path."
            ) from error
        except OSError as error:
            raise write_failure(lock_file, error) from error
        self._sign()

    def __enter__(self) -> StoreLock:
        """Hold it for a ``with`` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let the next writer in."""
        self.release()

    def release(self) -> None:
        """Let the next writer in."""
        if self._lock.is_locked:
            with suppress(OSError):
                self._holder.unlink()
            self._lock.release()

    def remove(self) -> None:
        """Let the next writer in and leave no file of the lock behind."""
        if self._lock.is_locked:
            with suppress(OSError):
                self._holder.unlink()
            with suppress(OSError):  # while it is held, so that nobody's lock is deleted
                Path(self._lock.lock_file).unlink()
            self._lock.release()

    def _sign(self) -> None:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        try:
            self._holder.write_text(json.dumps(holder), encoding="utf-8")
        except OSError as error:
            self._lock.release()
            raise write_failure(self._holder, error) from error

    def _describe_holder(self) -> str:
        try:
            holder = json.loads(self._holder.read_text(encoding="utf-8"))
            return f"process {holder['pid']} on host {holder['host']} since {holder['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process that has not signed its lock yet"
