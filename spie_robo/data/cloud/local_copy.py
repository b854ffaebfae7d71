"""Read a store that may be in object storage, through a temporary local copy.

``s3://BUCKET/KEY -> staging folder -> info, verify or report -> the copy is deleted``
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

from spie_robo.data.cloud import object_storage
from spie_robo.errors import StoreError
from spie_robo.settings.locations import Location

_ROOT_HEADERS = ("zarr.json", ".zgroup")


@final
@dataclass(frozen=True)
class LocalCopy:
    """A store on this machine.

    Attributes:
        path: Local folder of the store.
        source: Address that it was copied from; None if it is not a copy.
        sizes: Size of each of its files by name, bytes, if it was copied; some may be missing here.
    """

    path: Path
    source: Location | None = None
    sizes: Mapping[str, int] | None = None

    def named(self, text: str) -> str:
        """Replace the folder's path in a text by the address that the user gave."""
        return text if self.source is None else text.replace(str(self.path), str(self.source))


@contextmanager
def local_copy(
    store: Path,
    purpose: str,
    wanted: Callable[[str], bool] | None = None,
    *,
    progress: bool = True,
) -> Iterator[LocalCopy]:
    """Provide a store to read; one in object storage is copied here and deleted afterwards.

    After an interruption the next call continues the copy. The copy is also deleted if it turns out
    to be no store, or damaged, because copying it again would not help.

    Args:
        store: A local path, or ``s3://BUCKET/KEY``.
        purpose: Name of the reader; every reader has its own copy.
        wanted: Whether a file is read, by its name below the store; None copies all.
        progress: Show a progress bar.

    Raises:
        StoreError: If there is no store, it cannot be copied, or reading it raises one; the
            message names the address instead of the copy.
        MissingExtraError: If obstore is not installed.
    """
    source = Location.of(store)
    if source is None:
        yield LocalCopy(store)
        return
    sizes = object_storage.sizes(source)
    if not any(name in sizes for name in _ROOT_HEADERS):
        raise StoreError(
            f"{source}: expected an episode store, found objects without zarr.json or .zgroup. "
            f"Check the key; `spie-robo convert {source} OUT` reads other formats."
        )
    with object_storage.staging(purpose, source) as folder:
        path = object_storage.fetch(source, folder, wanted, progress=progress).absolute()
        copy = LocalCopy(path, source, sizes)
        try:
            yield copy
        except StoreError as error:
            shutil.rmtree(folder)
            raise type(error)(copy.named(str(error))) from None
        shutil.rmtree(folder)
