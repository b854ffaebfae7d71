"""Read every committed byte of a store and report what is damaged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from spie_robo.data.store.checksums import changed_headers
from spie_robo.data.store.episode_store import EpisodeStore
from spie_robo.data.store.headers import read_header
from spie_robo.errors import StoreCorruptError, StoreError
from spie_robo.settings.locations import staging_of
from spie_robo.settings.wording import counted

_FINISH = "Run the same convert command again to finish it, or delete it."


@dataclass(frozen=True)
class VerifyReport:
    """The result of :func:`verify_store`.

    Attributes:
        path: The store.
        episodes: Committed episodes.
        steps: Committed steps.
        chunks: Chunks that were read.
        problems: One sentence for each damaged part; empty if there is none.
        complete: False if a conversion is running or was interrupted.
    """

    path: Path
    episodes: int
    steps: int
    chunks: int
    problems: tuple[str, ...]
    complete: bool = True

    @property
    def ok(self) -> bool:
        """True if all committed data is present and intact."""
        return not self.problems

    def __str__(self) -> str:
        """Return the report as text."""
        size = f"{counted(self.episodes, 'episode')}, {counted(self.steps, 'step')}"
        size += f", {counted(self.chunks, 'chunk')} read"
        found = "intact" if self.ok else counted(len(self.problems), "problem")
        lines = [f"{self.path}: {found} ({size})", *self.problems]
        if not self.complete:
            lines.append(f"{self.path} is an unfinished conversion. {_FINISH}")
        return "\n".join(lines)


def verify_store(path: str | Path, *, progress: bool = False) -> VerifyReport:
    """Check every committed chunk of a store against its checksum.

    Args:
        path: Folder of the store. It is only read.
        progress: Show a progress bar.

    Raises:
        StoreError: If there is no store at ``path``. Damage is reported, not raised.
    """
    # Open the store, or report why it cannot be opened.
    path = Path(path).absolute()
    staging = staging_of(path)
    if os.path.exists(staging) and not os.path.exists(path):  # False without permission to look
        raise StoreError(
            f"{path} is an unfinished conversion, whose edits are in {staging}. {_FINISH}"
        )
    try:
        store = EpisodeStore.open(path, allow_unfinished=True)
    except StoreCorruptError as error:
        return VerifyReport(path, 0, 0, 0, (str(error),))
    # Check the headers.
    problems = [*_header_problems(path, store.zarr_format)]
    if not problems:  # else these headers are already reported in more detail
        problems += [
            f"{folder}: its header is not the one that was committed."
            for folder in changed_headers(path, store.commit.headers, store.zarr_format)
        ]
    if store.zarr_format == 2:
        problems += _missing_attributes(store)
    # Check every chunk.
    chunks = 0
    for key in tqdm(store.keys, desc="verify", unit="array", disable=not progress):
        try:
            array = store.array(key)
        except StoreCorruptError as error:
            problems.append(str(error))
            continue
        found = (array.problem(chunk) for chunk in range(array.n_chunks))
        problems += [problem for problem in found if problem is not None]
        chunks += array.n_chunks
    complete = store.commit.complete
    return VerifyReport(path, len(store), store.n_steps, chunks, tuple(problems), complete)


def _header_problems(path: Path, zarr_format: int) -> Iterator[str]:
    """Yield the damage of headers that reading rows does not need and other programs do."""
    group = ".zgroup" if zarr_format == 2 else "zarr.json"
    for name in ("data", "meta"):
        folder = path / name
        if not (folder / group).is_file():
            yield f"{folder / group}: the header of the group is missing."
        for file in (*folder.glob("*.json"), *folder.glob(".z*"), *folder.glob("*/.zattrs")):
            document = read_header(path, file.relative_to(path).as_posix())
            if not isinstance(document, dict):
                yield f"{file}: it is not a JSON object."
            elif file.name == group and document.get("zarr_format") != zarr_format:
                yield f"{file}: expected zarr_format {zarr_format}, got {document}."
            elif file.name == "zarr.json" and document.get("node_type") != "group":
                yield f"{file}: expected the header of a group, got {document}."


def _missing_attributes(store: EpisodeStore) -> Iterator[str]:
    """Yield the files of attributes that are missing in zarr 2, where even an empty one exists.

    An array outside the commit may have been interrupted while it was made; that is no damage.
    """
    arrays = [f"data/{key}" for key in store.commit.arrays]
    if arrays:
        arrays += [f"meta/{name}" for name in store.commit.meta_crc32]
    for name in ("data", "meta", *arrays):
        attributes = store.path / name / ".zattrs"
        if not attributes.is_file():
            yield f"{attributes}: the file of attributes is missing."
