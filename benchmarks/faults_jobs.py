"""What the faults are done to: small recordings, conversions and checkpoints, each in a child.

The parent forks before anything has started a thread and never opens a store itself: reading and
checking happen in children too. A trial costs a fork and not an import.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import torch._dynamo  # AdamW imports it on first use: seconds in every child
from faults_fakes import Even, Swap
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from spie_robo.data import (
    ConversionConfig,
    EpisodeStore,
    EpisodeWriter,
    convert_store,
    record_episodes,
    verify_store,
)
from spie_robo.data.conversion.local_engine import LocalEngine
from spie_robo.data.formats import export_episodes
from spie_robo.data.store import layout
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.policies import checkpoint as policy_checkpoint
from spie_robo.policies.base import PolicySpec, build_policy
from spie_robo.training import checkpoint as training_checkpoint
from spie_robo.training.config import TrainConfig

SIZE = 16
EPISODES = 3
EPOCHS = 30
ENV = "SpieRoboFaults/Fake-v0"


@dataclass(frozen=True)
class Outcome:
    """What a fault did.

    Attributes:
        trials: How often it was injected.
        kept: How often the promised result followed.
        detail: Anything else to tell.
    """

    trials: int
    kept: int
    detail: str


class FakeEnv(gym.Env[Any, Any]):
    """Noise for frames; episodes of two to six steps."""

    def __init__(self) -> None:
        """One camera and a state."""
        image = gym.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        state = gym.spaces.Box(-10, 10, (3,), np.float32)
        self.observation_space = gym.spaces.Dict({"front": image, "state": state})
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Choose a length."""
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(2, 7))
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        """The reward is the action's first number."""
        self.left -= 1
        return self._observation(), float(action[0]), self.left == 0, False, {}

    def _observation(self) -> dict[str, Any]:
        return {
            "front": self.np_random.integers(0, 256, (SIZE, SIZE, 3), np.uint8),
            "state": self.np_random.normal(size=3).astype(np.float32),
        }


class Policy:
    """Actions that depend on the seed and the step alone."""

    def reset(self, seed: int | None = None) -> None:
        """Begin the sequence of ``seed``."""
        self.rng = np.random.default_rng(seed)

    def act(self, observation: Any) -> Any:
        """The next action."""
        return self.rng.normal(size=2).astype(np.float32)


def prepare() -> None:
    """Small chunks, so that a few steps cross many borders; the fake environment by its name."""
    layout.CHUNK_BYTES = 3 * SIZE * SIZE * 3
    layout.FILE_BYTES = 4 * layout.CHUNK_BYTES
    layout.FILE_BYTES_V2 = layout.CHUNK_BYTES
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    gym.register(ENV, FakeEnv)


def record(path: Path, episodes: int = EPISODES, on_episode: Callable[[], None] | None = None):
    """Record, or go on recording, until there are ``episodes``."""
    writer = EpisodeWriter.open(path) if path.exists() else EpisodeWriter.create(path)
    with writer:
        while (done := writer.n_episodes) < episodes:
            record_episodes(FakeEnv(), Policy(), 1, done, writer, progress=False)
            if on_episode is not None:
                on_episode()


def convert(source: Path, out: Path, editor: Any = None, timeout: float | None = None) -> None:
    """Convert, or go on converting."""
    options = ConversionConfig(batch_size=2, seed=3)
    engine = LocalEngine(GuardedEditor(editor or Swap(), Even()), timeout)
    convert_store(source, out, engine, options, progress=False)


def export(source: Path, out: Path, name: str = "diffusion-policy") -> None:
    """Write a data set of a foreign format, unless it is there."""
    if not out.exists():
        export_episodes(EpisodeStore.open(source), out, name, progress=False)


def train(out: Path, epochs: int = EPOCHS) -> None:
    """A run of ``spie_robo.training``'s checkpoints over a network of its own."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(24, 48), nn.Linear(48, 2))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    parameters, config = dict(network.named_parameters()), TrainConfig()
    found = training_checkpoint.epochs_folder(out).checkpoints()
    position = training_checkpoint.Position()
    if found:
        position = training_checkpoint.load_training_state(found[-1], parameters, optimizer, config)

    def write_adapter(folder: Path) -> None:
        folder.mkdir(parents=True)
        save_file({k: v.detach() for k, v in parameters.items()}, folder / "adapter.safetensors")

    for epoch in range(position.epoch, epochs):
        loss = _step(network, optimizer, epoch)
        history = (*position.history, {"loss": loss})
        position = training_checkpoint.Position(epoch + 1, 0, history)
        training_checkpoint.save_training_state(
            out, position, parameters, optimizer, config, write_adapter
        )


def train_policy(out: Path, steps: int = EPOCHS) -> None:
    """A run of ``spie_robo.policies``' checkpoints, and the policy's folder at the end."""
    torch.manual_seed(0)
    spec = PolicySpec("bc", (), ("state",), 3, 2, horizon=2, action_steps=2, width=4, hidden=8)
    policy = build_policy(spec)
    average = AveragedModel(policy)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-2)
    for parameter in policy.parameters():
        parameter.requires_grad_(True)
    found = policy_checkpoint.steps_folder(out).checkpoints()
    progress = policy_checkpoint.Progress()
    if found:
        progress = policy_checkpoint.load_policy_state(found[-1], policy, average, optimizer, {})
    for step in range(progress.step, steps):
        generator = torch.Generator().manual_seed(step)
        for parameter in policy.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
        average.update_parameters(policy)
        progress = policy_checkpoint.Progress(step + 1, step + 1, 0, 0.0)
        policy_checkpoint.save_policy_state(out, progress, policy, average, optimizer, {})
    policy_checkpoint.save_policy(out, policy)


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> float:
    generator = torch.Generator().manual_seed(epoch)
    loss = network(torch.randn(8, 24, generator=generator)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def files(path: Path) -> dict[str, bytes]:
    """Every file below a folder, by name; a file is itself."""
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(p.relative_to(path)): p.read_bytes() for p in found}


def state(path: Path) -> dict[str, Any]:
    """What a child tells of a store: fingerprint, episodes, whether it is whole."""
    if not path.exists():
        return {"episodes": 0, "ok": True, "fingerprint": ""}
    store = EpisodeStore.open(path, allow_unfinished=True)
    lengths = {store.array(key)._array.shape[0] for key in store.keys}
    return {
        "episodes": len(store),
        "ok": verify_store(path).ok,
        "fingerprint": store.fingerprint(),
        "even": lengths <= {store.n_steps},
    }


def start(job: Callable[..., Any], *arguments: Any, pipe: int | None = None) -> int:
    """Fork a child that does ``job``; its answer goes to ``pipe`` as JSON. Returns its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setpgid(0, 0)
        answer = job(*arguments)
        if pipe is not None:
            os.write(pipe, json.dumps(answer).encode())
        status = answer if isinstance(answer, int) and pipe is None else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def finish(child: int, patience: float = 60.0) -> int:
    """Exit status of a child, the negative signal if one ended it; -100 if it hung."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -100


def ask_patiently(job: Callable[..., Any], *arguments: Any) -> Any:
    """:func:`ask` for work of many minutes."""
    return ask(job, *arguments, patience=7200.0)


def ask(job: Callable[..., Any], *arguments: Any, patience: float = 60.0) -> Any:
    """What ``job`` returns, done in a child; None if the child failed."""
    reader, writer = os.pipe()
    child = start(job, *arguments, pipe=writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read()  # until the child closes it: answers may exceed a pipe's buffer
    status = finish(child, patience)
    return json.loads(answer) if status == 0 and answer else None
