"""The one way bytes reach a store: whole files, synced, renamed into place.

A file under a store is replaced, never written in place. Whoever is killed leaves the old file or
the new one, and at most a stray ``.*.partial`` that the next writer removes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TypeVar, final

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

from spie_robo.data.store.headers import is_readable, require_inside
from spie_robo.files.atomic import PARTIAL_SUFFIX, atomic_write, sync_directory

DISK_THREADS = 4
"""Writes that wait for the disk together; each waits several milliseconds and needs no core."""

Result = TypeVar("Result")


def to_the_end(work: Callable[[], Result]) -> Result:
    """Do ``work`` to its end even if Ctrl-C comes meanwhile, which is raised afterwards.

    Zarr writes in threads of its own, and an exception here does not stop them: a clean-up that
    begins while they are still writing would remove rows that are about to be committed. A second
    Ctrl-C does not wait.
    """
    future: Future[Result] = Future()

    def run() -> None:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work())
            except BaseException as error:  # it belongs to the caller
                future.set_exception(error)

    # No executor: one that is interrupted while it starts or joins a thread forgets that thread.
    try:
        Thread(target=run, name="store").start()
        return future.result()
    except BaseException:
        if not future.cancel():  # it has begun
            wait([future])
        raise


def at_once(works: Iterable[Callable[[], object]]) -> None:
    """Do all of ``works``, a few at a time, in threads; raise the first error once all are over.

    For code that runs inside :func:`to_the_end`, where no Ctrl-C comes.
    """
    with ThreadPoolExecutor(DISK_THREADS, "disk") as pool:
        futures = [pool.submit(work) for work in works]
    for future in futures:
        future.result()


def remove_partial_files(root: Path) -> None:
    """Delete what writes that were cut short left under ``root``, before it is written again.

    Raises:
        StoreCorruptError: If a link leads out of ``root``: a writer would change what is there.
    """
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink():
                require_inside(root, path)
            elif name.startswith(".") and name.endswith(PARTIAL_SUFFIX):
                with suppress(OSError):
                    path.unlink()


@final
class DurableStore(WrapperStore[LocalStore]):
    """A zarr store in a local folder whose every write goes through :func:`atomic_write`.

    Directories are synced by :meth:`sync`, which the writer calls before each commit record: what
    a commit refers to is on disk before the commit is.
    """

    def __init__(self, store: LocalStore, touched: set[Path] | None = None) -> None:
        """Wrap ``store``; ``touched`` is shared between views of the same folder."""
        super().__init__(store)
        self._touched: set[Path] = set() if touched is None else touched

    def _with_store(self, store: LocalStore) -> DurableStore:
        return DurableStore(store, self._touched)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes of one file inside the folder, or None if there is none."""
        if not is_readable(str(self._store.root), key, set()):
            return None
        return await self._store.get(key, prototype, byte_range)

    async def set(self, key: str, value: Buffer) -> None:
        """Replace the file of ``key``."""
        self._check_writable()
        path = self._store.root / key
        replaced = path.exists()
        await asyncio.to_thread(atomic_write, path, value.as_buffer_like())
        self._touched.update([path.parent] if replaced else self._directories(path))

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write the file of ``key`` unless there is one."""
        if not (self._store.root / key).exists():
            await self.set(key, value)

    async def _set_many(self, values: Iterable[tuple[str, Buffer]]) -> None:
        for key, value in values:
            await self.set(key, value)

    def sync(self) -> None:
        """Wait until every file written so far can be found again after a power cut."""
        directories = [path for path in sorted(self._touched) if path.is_dir()]
        at_once(partial(sync_directory, directory) for directory in directories)
        self._touched.clear()

    def _directories(self, path: Path) -> list[Path]:
        root = self._store.root
        return [parent for parent in path.parents if parent == root or root in parent.parents]
