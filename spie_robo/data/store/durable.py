"""Write the files of a store whole: under another name, synced, then renamed into place.

A file of a store is replaced, never written in place. A killed writer leaves the old file or the
new one, and at most a stray ``.*.partial`` that the next writer removes.
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
"""Writes that wait for the disk at the same time; each takes milliseconds and hardly any CPU."""

Result = TypeVar("Result")


def to_the_end(work: Callable[[], Result]) -> Result:
    """Finish ``work`` even if Ctrl-C comes meanwhile, and raise the interrupt afterwards.

    Zarr writes in threads of its own, which an exception here does not stop: a clean-up that began
    before they end would remove rows that are about to be committed. A second Ctrl-C does not
    wait.
    """
    future: Future[Result] = Future()

    def run() -> None:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work())
            except BaseException as error:  # raised in the caller's thread
                future.set_exception(error)

    # Use no executor: if starting or joining a thread is interrupted, it forgets that thread.
    try:
        Thread(target=run, name="store").start()
        return future.result()
    except BaseException:
        if not future.cancel():  # it has begun
            wait([future])
        raise


def at_once(works: Iterable[Callable[[], object]]) -> None:
    """Run ``works`` in a few threads and raise the first error after all have ended.

    Call it inside :func:`to_the_end`, where Ctrl-C does not interrupt it.
    """
    with ThreadPoolExecutor(DISK_THREADS, "disk") as pool:
        futures = [pool.submit(work) for work in works]
    for future in futures:
        future.result()


def remove_partial_files(root: Path) -> None:
    """Delete the files that interrupted writes left under ``root``.

    Raises:
        StoreCorruptError: If a link leads out of ``root``, where a writer would change files.
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
    """A zarr store in a local folder that writes every file with :func:`atomic_write`.

    :meth:`sync` syncs the folders; the writer calls it before each commit record, so that
    everything in a commit is on disk before the commit is.
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
        """Return the bytes of one file inside the folder, or None if there is none."""
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
        """Write the file of ``key`` unless it exists."""
        if not (self._store.root / key).exists():
            await self.set(key, value)

    async def _set_many(self, values: Iterable[tuple[str, Buffer]]) -> None:
        for key, value in values:
            await self.set(key, value)

    def sync(self) -> None:
        """Sync folders, so that a power cut loses no file written so far."""
        directories = [path for path in sorted(self._touched) if path.is_dir()]
        at_once(partial(sync_directory, directory) for directory in directories)
        self._touched.clear()

    def _directories(self, path: Path) -> list[Path]:
        root = self._store.root
        return [parent for parent in path.parents if parent == root or root in parent.parents]
