"""Read every committed byte of a store and report what is damaged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from spie_robo.data.store import EpisodeStore
from spie_robo.errors import StoreCorruptError


@dataclass(frozen=True)
class VerifyReport:
    """What :func:`verify_store` found.

    Attributes:
        path: The store.
        episodes: Committed episodes.
        steps: Committed steps.
        chunks: Chunks that were read.
        problems: One sentence for each damaged thing; empty if there is none.
    """

    path: Path
    episodes: int
    steps: int
    chunks: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything that was committed is there and intact."""
        return not self.problems

    def __str__(self) -> str:
        """The report for people."""
        size = f"{self.episodes} episodes, {self.steps} steps, {self.chunks} chunks read"
        if self.ok:
            return f"{self.path}: intact ({size})"
        return "\n".join([f"{self.path}: {len(self.problems)} problems ({size})", *self.problems])


def verify_store(path: str | Path, *, progress: bool = False) -> VerifyReport:
    """Check every committed chunk of a store against its checksum.

    Args:
        path: Folder of the store. It is only read.
        progress: Show a progress bar.

    Raises:
        StoreError: If there is no store at ``path``. Damage does not raise: it is reported.
    """
    path = Path(path).absolute()
    try:
        store = EpisodeStore.open(path, allow_unfinished=True)
    except StoreCorruptError as error:
        return VerifyReport(path, 0, 0, 0, (str(error),))
    problems: list[str] = []
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
    return VerifyReport(path, len(store), store.n_steps, chunks, tuple(problems))
