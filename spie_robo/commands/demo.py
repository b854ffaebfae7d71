"""``spie-robo demo``: edited, guarded, recorded episodes and their report, in one folder."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from spie_robo.commands.base import Command, episodes_kept, quoted
from spie_robo.editing.request import EditRequest
from spie_robo.errors import ConfigError
from spie_robo.settings.field_types import Count, Text
from spie_robo.settings.locations import require_here
from spie_robo.settings.ranges import require_at_least, require_text

if TYPE_CHECKING:
    import gymnasium as gym
    from numpy.typing import NDArray

    from spie_robo.data import RecordSummary
    from spie_robo.editing.guarded_editor import GuardedEditor
    from spie_robo.types import PolicyLike

MARK = ".spie-robo-demo"
"""A file in every demo folder: only a folder that has it is overwritten."""


_LOCK = "demo"
"""Name of the lock of a demo folder, before the endings of a lock's files."""


@final
@dataclass(frozen=True)
class DemoCommand:
    """Settings of ``spie-robo demo``."""

    out: Path
    """Folder for episodes.zarr and report.html."""
    env: Text = "SpieRobo/Push-v0"
    """Id of an environment with a scripted expert."""
    episodes: Count = 3
    """Episodes to record."""
    max_steps: Count = 60
    """Most steps of an episode."""
    edit: EditRequest = field(default_factory=EditRequest)
    """Settings of the edits."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_here(self)
        require_text("env", self.env)
        require_at_least("episodes", self.episodes, 1)
        require_at_least("max_steps", self.max_steps, 1)


@final
@dataclass(frozen=True)
class DemoResult:
    """The files of a finished demo.

    Attributes:
        store: The episodes.
        report: The page that shows them.
        summary: What was recorded.
    """

    store: Path
    report: Path
    summary: RecordSummary


def run_demo(options: DemoCommand, *, progress: bool = True) -> DemoResult:
    """Let an expert act in an environment whose frames are edited, and show what came out.

    Args:
        options: The settings.
        progress: Show a progress bar.

    Raises:
        ConfigError: If ``options.out`` holds something that no demo wrote.
        EditorError: If there is no such editor, or it fails.
        EnvError: If the environment cannot be made or has no expert.
        StoreError: If the disk is full.
        StoreLockedError: If another demo runs in the same folder.
    """
    from spie_robo.commands.acting import make_env, make_policy
    from spie_robo.reporting import write_report

    _require_own(options.out)
    guarded = options.edit.load()
    store, report = options.out / "episodes.zarr", options.out / "report.html"
    env = make_env(options.env, guarded)
    try:
        policy = make_policy("expert", env)
        with _held(options.out):
            _empty(options.out)  # last: until the new demo can begin, an older one stays
            summary = _record(options, guarded, env, policy, store, progress)
            write_report(store, report)
    finally:
        env.close()
    return DemoResult(store, report, summary)


def _record(
    options: DemoCommand,
    guarded: GuardedEditor | None,
    env: gym.Env[Any, Any],
    policy: PolicyLike,
    store: Path,
    progress: bool,
) -> RecordSummary:
    from tqdm import tqdm

    from spie_robo.commands.acting import new_store
    from spie_robo.data.recording import metadata_of, record_episodes

    metadata = metadata_of(guarded)
    provenance = {**metadata.provenance, "policy": "expert", "command": "spie-robo demo"}
    metadata = dataclasses.replace(metadata, provenance=provenance)
    total = options.episodes * options.max_steps
    with (
        new_store(store, metadata) as writer,
        tqdm(total=total, desc="demo", unit="step", disable=not progress) as bar,
    ):

        def advance(episode: int, step: int, row: Mapping[str, NDArray[Any]]) -> None:
            bar.n = episode * options.max_steps + step + 1
            bar.refresh()

        summary = record_episodes(
            env,
            policy,
            options.episodes,
            options.edit.seed,
            writer,
            max_steps=options.max_steps,
            on_step=advance,
            progress=False,
        )
        bar.update(total - bar.n)  # episodes end early when the task is solved
        return summary


def _require_own(out: Path) -> None:
    """Raise unless ``out`` is free, or was written by a demo."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: expected a folder, there is a file. Choose another --out.")
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise ConfigError(
            f"{out}: it holds something that no demo wrote, and is left alone. Choose another "
            "--out, or empty it."
        )


@contextmanager
def _held(out: Path) -> Iterator[None]:
    """Make ``out`` a demo folder and hold it: one demo at a time runs there."""
    from spie_robo.files.lock import StoreLock

    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / MARK).touch()
    except OSError as error:
        raise ConfigError(
            f"{out}: it cannot be written: {error.strerror}. Choose another --out."
        ) from error
    with StoreLock(out / _LOCK) as lock:
        try:
            yield
        finally:
            lock.remove()


def _empty(out: Path) -> None:
    """Delete what an earlier demo left."""
    try:
        for path in out.iterdir():  # not the folder itself: it may be a link, or where we stand
            if path.name == MARK or path.name.startswith(f".{_LOCK}."):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    except OSError as error:
        raise ConfigError(
            f"{out}: it cannot be written: {error.strerror}. Choose another --out."
        ) from error


def _run(options: DemoCommand) -> int:
    result = run_demo(options)
    print(f"{result.report}: {result.summary}; {options.edit}. Open it in a browser.")
    print(f"Next: spie-robo info {quoted(result.store)}")
    return 0


COMMAND = Command(
    DemoCommand,
    _run,
    "Record an edited, guarded episode and write its report.",
    lambda options: episodes_kept(options.out / "episodes.zarr") + " Run it again to start over.",
)
