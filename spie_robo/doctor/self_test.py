"""Test the embedded editor and the guard on simulator frames, for ``spie-robo doctor``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import final

import numpy as np

from spie_robo.types import Frame

SECONDS = 10.0
MOST_FRAMES = 20


@final
@dataclass(frozen=True)
class SelfTest:
    """The result of the self-test.

    Attributes:
        frames: Number of edited frames.
        accepted: Number of edits that the guard accepted.
        unchanged: Whether an edit equals its raw frame.
        milliseconds: Median time of an edit and its verdict, without loading.
    """

    frames: int
    accepted: int
    unchanged: bool
    milliseconds: float


def run_self_test(seconds: float = SECONDS) -> SelfTest:
    """Edit frames of the Reach task one by one, for about ``seconds``.

    Raises:
        SpieRoboError: If the environment, the editor or the guard fails.
        ImportError: If a package is missing.
    """
    from spie_robo.editor import Editor
    from spie_robo.guard import GeometryGuard

    start = time.perf_counter()
    frame = simulator_frame()
    editor, guard = Editor.from_pretrained("embedded"), GeometryGuard()
    editor.edit([frame], seeds=[0])  # load everything before the clock starts
    times: list[float] = []
    accepted, unchanged = 0, False
    while not times or (
        len(times) < MOST_FRAMES and time.perf_counter() - start + times[-1] < seconds
    ):
        before = time.perf_counter()
        edit = editor.edit([frame], seeds=[len(times)])[0]
        verdict = guard.judge(frame, edit)
        times.append(time.perf_counter() - before)
        accepted += verdict.accepted
        unchanged = unchanged or np.array_equal(edit.rgb, frame.rgb)
    return SelfTest(len(times), accepted, unchanged, 1000 * float(np.median(times)))


def simulator_frame() -> Frame:
    """Return the first frame of the Reach task's front camera, with its geometry."""
    import gymnasium as gym

    import spie_robo.envs  # noqa: F401 - registers the environments

    env = gym.make("SpieRobo/Reach-v0")
    try:
        observation, info = env.reset(seed=0)
        return Frame(observation["front"], "front", info["geometry"]["front"])
    finally:
        env.close()
