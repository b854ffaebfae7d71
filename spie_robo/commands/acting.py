"""Make the environment, policy and store that a command names."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from spie_robo.data import EpisodeWriter, StoreMetadata
from spie_robo.data.store.layout import ZarrFormat
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.errors import EnvError
from spie_robo.types import PolicyLike


@final
class RandomPolicy:
    """Uniform actions from an action space; equal seeds give equal actions."""

    def __init__(self, space: gym.Space[Any]) -> None:
        """Act in ``space``, a Box of numbers in most robots' environments."""
        self._space = space

    def reset(self, seed: int | None = None) -> None:
        """Start the sequence of actions that belongs to ``seed``."""
        self._space.seed(seed)

    def act(self, observation: Mapping[str, Any]) -> NDArray[np.float32]:
        """Return the next action; the observation does not matter."""
        action: NDArray[np.float32] = self._space.sample()
        return action


def make_env(
    env_id: str, guarded: GuardedEditor | None, image_size: int | None = None
) -> gym.Env[Any, Any]:
    """Make an environment, wrapped in a :class:`RealismWrapper` if there is an editor.

    Args:
        env_id: A Gymnasium id; ``module:id`` imports the module first.
        guarded: Editor and guard for its frames; None leaves them raw.
        image_size: ``width`` and ``height`` for the environment; None leaves them to it.

    Raises:
        EnvError: If there is no such environment, or it cannot be made or wrapped.
    """
    import spie_robo.envs  # registers the SpieRobo ids

    size: dict[str, Any] = {} if image_size is None else {"width": image_size, "height": image_size}
    try:
        env = gym.make(env_id, **size)
    except (gym.error.Error, ImportError, TypeError) as error:
        ids = ", ".join(spie_robo.envs.ENV_IDS)
        raise EnvError(
            f"Environment {env_id!r} cannot be made: {error} Use one of {ids}, another Gymnasium "
            "id, or module:id for one that a module registers."
        ) from error
    if guarded is None:
        return env
    from spie_robo.wrappers import RealismWrapper

    return RealismWrapper(
        env,
        guarded.editor,
        references=guarded.references,
        instruction=guarded.instruction,
        guard=guarded.guard,
        retries=guarded.retries,
    )


def make_policy(name: str, env: gym.Env[Any, Any], *, other_env: bool = False) -> PolicyLike:
    """Load the policy that ``--policy`` names.

    Args:
        name: ``expert``, ``random``, or the folder of a learned policy.
        env: The environment that it acts in.
        other_env: Let a learned policy act in an environment of another id than its own.

    Raises:
        EnvError: If the environment has no scripted expert, or the policy is of another one.
        ConfigError: If there is no policy in that folder.
        TrainingError: If the policy's files are damaged.
    """
    if name == "random":
        return RandomPolicy(env.action_space)
    if name != "expert":
        from spie_robo.policies.policy import load_policy

        learned = load_policy(name)
        learned.check_env(env, other_env=other_env)
        return learned
    from spie_robo.envs.experts import make_expert

    expert: PolicyLike = make_expert(env)
    return expert


@contextmanager
def new_store(
    out: Path, metadata: StoreMetadata, zarr_format: ZarrFormat = 3
) -> Iterator[EpisodeWriter]:
    """Yield a writer of a new store, which is removed again if no episode gets into it.

    Raises:
        StoreError: If something is at ``out`` already.
    """
    with EpisodeWriter.create(out, metadata, zarr_format=zarr_format) as writer:
        try:
            yield writer
        finally:
            if writer.n_episodes == 0:
                shutil.rmtree(out, ignore_errors=True)
