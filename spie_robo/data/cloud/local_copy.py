"""Look at a store that may be in object storage: a copy on this machine, for as long as it takes.

``s3://BUCKET/KEY -> staging folder -> info, verify or report -> nothing is left here``
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
        path: Its folder.
        source: Where it was copied from; None if it was here all along.
        sizes: Bytes of each of its files by name, if it was copied: not all of them need be here.
    """

    path: Path
    source: Location | None = None
    sizes: Mapping[str, int] | None = None

    def named(self, text: str) -> str:
        """A text about the folder, with the address that the user gave in its place."""
        return text if self.source is None else text.replace(str(self.path), str(self.source))


@contextmanager
def local_copy(
    store: Path,
    purpose: str,
    wanted: Callable[[str], bool] | None = None,
    *,
    progress: bool = True,
) -> Iterator[LocalCopy]:
    """A store to read; one in object storage is copied here, and goes when it has been read.

    Whoever is cut off finds what was copied by then the next time. It goes too if the store turns
    out to be no store, or damaged: copying it again would not help.

    Args:
        store: A path of this machine, or ``s3://BUCKET/KEY``.
        purpose: Who reads it; every reader has a copy of its own.
        wanted: Which files are read, by their names below the store; None copies all.
        progress: Show a progress bar.

    Raises:
        StoreError: If there is no store, it cannot be copied, or reading it raises one: the
            message names the address and not the copy.
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
