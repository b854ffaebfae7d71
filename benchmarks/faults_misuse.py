"""What people do to it by accident: long episodes, deleted stores, folders that may not be read."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faults_jobs as jobs
import gymnasium as gym
import numpy as np
from faults_fakes import Swap
from faults_jobs import Outcome

from spie_robo.data import EpisodeStore, EpisodeWriter, verify_store
from spie_robo.data.store import layout
from spie_robo.editing.description import references_digest
from spie_robo.errors import SpieRoboError
from spie_robo.types import Geometry
from spie_robo.wrappers import RealismWrapper

SIDE = 128
CHUNK_BYTES, FILE_BYTES = layout.CHUNK_BYTES, layout.FILE_BYTES
EPISODE_CAP_MIB = 1024
"""Memory that an episode of any length may take while it is recorded."""

_NOBODY = 65534


class LongEnv(gym.Env[Any, Any]):
    """Two cameras of noise with depth and segmentation; an episode of many steps."""

    def __init__(self, steps: int) -> None:
        """An episode of ``steps`` steps."""
        image = gym.spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
        self.observation_space = gym.spaces.Dict({"front": image, "wrist": image})
        self.action_space = gym.spaces.Box(-1, 1, (7,), np.float32)
        self.steps = steps

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Begin."""
        super().reset(seed=seed)
        self.now = 0
        return self._observe()

    def step(self, action: Any) -> Any:
        """One step on."""
        self.now += 1
        observation, info = self._observe()
        return observation, 0.0, self.now >= self.steps, False, info

    def _observe(self) -> Any:
        draw = self.np_random
        frames = {c: draw.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for c in ("front", "wrist")}
        geometry = {
            camera: Geometry(
                depth=draw.random((SIDE, SIDE), np.float32),
                segmentation=draw.integers(0, 9, (SIDE, SIDE), np.int32),
            )
            for camera in frames
        }
        return frames, {"geometry": geometry}


def long_episode(folder: Path, seed: int, trials: int) -> Outcome:
    """One episode of ``trials`` thousand steps with ``record=``, in a child with a cap."""
    steps = 1000 * trials
    answer = jobs.ask_patiently(_record_long, folder / "s.zarr", steps, seed)
    if answer is None:
        return Outcome(trials, 0, "the child died")
    peak, found, raw = answer
    kept = trials if found == steps and peak < EPISODE_CAP_MIB else 0
    detail = f"{found} steps, {raw:.0f} MiB of rows: +{peak:.0f} MiB of {EPISODE_CAP_MIB} allowed"
    return Outcome(trials, kept, detail)


def _record_long(path: Path, steps: int, seed: int) -> tuple[float, int, float]:
    # As shipped: the other faults cut stores into tiny chunks.
    layout.CHUNK_BYTES, layout.FILE_BYTES = CHUNK_BYTES, FILE_BYTES
    env = RealismWrapper(LongEnv(steps), Swap(), guard=None, record=path)
    env.reset(seed=seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    over, action = False, np.zeros(7, np.float32)
    while not over:
        over = env.step(action)[2]
    env.close()
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    store = EpisodeStore.open(path)
    row = store.read_rows(0, 0, 1)
    raw = sum(value.nbytes for value in row.values()) * steps / 2**20
    return peak, store.episode_length(0), raw


def misuse(folder: Path, seed: int, trials: int) -> Outcome:
    """Each mistake in a child: an error by name, and nothing half-made is left."""
    kept, failures = 0, []
    for number in range(trials):
        name, mistake = list(MISTAKES.items())[number % len(MISTAKES)]
        place = folder / f"{number}"
        place.mkdir()
        place.chmod(0o755)
        answer = jobs.ask(mistake, place)
        kept += answer == "kept"
        failures += [] if answer == "kept" else [f"{name}: {answer or 'the child died'}"]
    return Outcome(trials, kept, "; ".join(sorted(set(failures))) or ", ".join(MISTAKES))


def _named(action: Callable[[], Any]) -> str:
    try:
        action()
    except SpieRoboError:
        return "kept"
    except Exception as error:
        return f"{error!r:.100}"
    return "it was accepted"


def _deleted(place: Path, what: str) -> str:
    path = place / "s.zarr"
    jobs.record(path, 2)
    writer = EpisodeWriter.open(path)
    gone = path / what if what else path
    shutil.rmtree(gone)
    answer = _named(lambda: writer.add_episode({"a": np.zeros((3, 2))}))
    writer.close()
    return f"{gone.name} came back" if gone.exists() else answer


def deleted_store(place: Path) -> str:
    return _deleted(place, "")


def deleted_data(place: Path) -> str:
    return _deleted(place, "data")


def deleted_meta(place: Path) -> str:
    return _deleted(place, "meta")


def unreadable_store(place: Path) -> str:
    path = place / "s.zarr"
    jobs.record(path, 1)
    path.chmod(0)
    os.seteuid(_NOBODY)
    actions = (EpisodeStore.open, EpisodeWriter.open, verify_store)
    answers = {_named(lambda a=action: a(path)) for action in actions}  # type: ignore[misc]
    return "; ".join(sorted(answers))


def read_only_target(place: Path) -> str:
    place.chmod(0o555)
    os.seteuid(_NOBODY)
    return _named(lambda: EpisodeWriter.create(place / "s.zarr"))


def unreadable_photos(place: Path) -> str:
    photos = place / "photos"
    photos.mkdir()
    photos.chmod(0)
    os.seteuid(_NOBODY)
    return _named(lambda: references_digest(photos))


def optimised_python(place: Path) -> str:
    code = (
        "import sys, numpy as np\n"
        "from spie_robo.data import EpisodeStore, EpisodeWriter\n"
        "from spie_robo.errors import StoreError\n"
        "try:\n"
        "    with EpisodeWriter.create(sys.argv[1]) as writer:\n"
        "        writer.add_episode({'a': np.ones((3, 1))})\n"
        "    print('kept' if len(EpisodeStore.open(sys.argv[1])) == 1 else 'lost')\n"
        "except StoreError as error:\n"
        "    print('kept' if 'PYTHONOPTIMIZE' in str(error) else error)\n"
    )
    command = [sys.executable, "-O", "-c", code, str(place / "s.zarr")]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


MISTAKES: dict[str, Callable[[Path], str]] = {
    mistake.__name__: mistake
    for mistake in (
        deleted_store, deleted_data, deleted_meta, unreadable_store, read_only_target,
        unreadable_photos, optimised_python,
    )
}  # fmt: skip
