"""Small envs, editors and guards that make every effect of the wrappers visible."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.utils.env_checker import check_env

import spie_robo.editor
from spie_robo.editing.by_name import editor_by_name
from spie_robo.types import Deviation, EditResult, Geometry, GuardVerdict

SIZE = 24


class NegativeEditor:
    """Inverts colours; the seed shows in the low bits, so that equal seeds mean equal looks."""

    id = "negative@1"

    def __init__(self):
        self.batches = []

    def edit(self, frames, references=None, instruction=None, seeds=None):
        self.batches.append([frame.camera for frame in frames])
        return [
            EditResult((255 - f.rgb) ^ np.uint8(s % 13), s, instruction or "", self.id, 1)
            for f, s in zip(frames, seeds, strict=True)
        ]


class BrokenEditor:
    id = "broken@1"

    def edit(self, frames, references=None, instruction=None, seeds=None):
        raise RuntimeError("out of memory")


class LoadableEditor:
    """Stands in for ``spie_robo.editor.Editor``."""

    loaded: list[str] = []  # noqa: RUF012

    @staticmethod
    def from_pretrained(name):
        LoadableEditor.loaded.append(name)
        editor = NegativeEditor()
        editor.name = name
        return editor


class FakeGuard:
    """Accepts what ``accepts`` says and keeps the frames that it saw."""

    def __init__(self, accepts=lambda frame, edit: True):
        self.accepts = accepts
        self.frames = []

    def judge(self, frame, edit):
        self.frames.append(frame)
        accepted = self.accepts(frame, edit)
        source = "simulator" if frame.geometry is not None else "estimate"
        deviation = Deviation("moved_px", float("nan") if accepted else 2.0, 1.0)
        return GuardVerdict(accepted, (deviation,), "measured", source)

    def judge_batch(self, frames, edits):
        return [self.judge(f, e) for f, e in zip(frames, edits, strict=True)]


class PlainImageEnv(gym.Env):
    """The observation is the image; an episode has three steps."""

    metadata = {"render_modes": []}  # noqa: RUF012
    action_space = Discrete(2)
    observation_space = Box(0, 255, (SIZE, SIZE, 3), np.uint8)
    length = 3

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.colour = int(self.np_random.integers(100))
        return self.observe(), self.describe()

    def step(self, action):
        self.steps += 1
        self.colour += int(self.np_random.integers(1, 3)) + int(action)
        return self.observe(), float(self.colour), self.steps >= self.length, False, self.describe()

    def image(self, offset=0):
        image = np.full((SIZE, SIZE, 3), self.colour + offset, np.uint8)
        image[: self.steps + 1] += 50
        return image

    def observe(self):
        return self.image()

    def describe(self):
        return {"success": self.steps == self.length}


class DictImageEnv(PlainImageEnv):
    """Two cameras, one of them nested, proprioception, and geometry in the info."""

    observation_space = Dict(
        front=Box(0, 255, (SIZE, SIZE, 3), np.uint8),
        sensors=Dict(wrist=Box(0, 255, (SIZE, SIZE + 8, 3), np.uint8)),
        icon=Box(0, 255, (8, 8, 3), np.uint8),
        mask=Box(0, 255, (SIZE, SIZE, 1), np.uint8),
        state=Box(0, 1000, (2,), np.float32),
    )

    def observe(self):
        wrist = np.full((SIZE, SIZE + 8, 3), self.colour + 5, np.uint8)
        return {
            "front": self.image(),
            "sensors": {"wrist": wrist},
            "icon": np.zeros((8, 8, 3), np.uint8),
            "mask": np.full((SIZE, SIZE, 1), self.steps, np.uint8),
            "state": np.array([self.colour, self.steps], np.float32),
        }

    def describe(self):
        depth = np.full((SIZE, SIZE), 1.0 + self.steps, np.float32)
        return {**super().describe(), "geometry": {"front": Geometry(depth=depth)}}


class DictImageEnvFlat(DictImageEnv):
    """Without nested spaces, which Stable-Baselines3 does not take."""

    observation_space = Dict(
        {key: space for key, space in DictImageEnv.observation_space.items() if key != "sensors"}
    )

    def observe(self):
        observation = super().observe()
        del observation["sensors"]
        return observation


def assert_check_env_clean(env: gym.Env, **kwargs: Any) -> None:
    """``check_env`` without a warning, but the one that it gives for every wrapped env."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*is different from the unwrapped version.*")
        check_env(env, **kwargs)


@pytest.fixture
def toys(monkeypatch):
    """Everything above, with two registered envs and an editor that loads by name."""
    registered = {"test/PlainImage-v0": PlainImageEnv, "test/DictImage-v0": DictImageEnv}
    for name, kind in registered.items():
        # A string, so that the spec has a JSON form.
        gym.register(name, entry_point=f"{kind.__module__}:{kind.__name__}")
    # Not setattr, which would first import the real one, and torch with it.
    monkeypatch.setitem(vars(spie_robo.editor), "Editor", LoadableEditor)
    monkeypatch.setattr(LoadableEditor, "loaded", [])
    editor_by_name.cache_clear()
    yield SimpleNamespace(
        NegativeEditor=NegativeEditor,
        BrokenEditor=BrokenEditor,
        LoadableEditor=LoadableEditor,
        FakeGuard=FakeGuard,
        PlainImageEnv=PlainImageEnv,
        DictImageEnv=DictImageEnv,
        DictImageEnvFlat=DictImageEnvFlat,
        check_env=assert_check_env_clean,
        size=SIZE,
    )
    editor_by_name.cache_clear()
    for name in registered:
        gym.registry.pop(name, None)
