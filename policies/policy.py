"""Act with a trained policy: keep the history of observations and the chunks of actions."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from spie_robo.data.store.fields import split_observation
from spie_robo.errors import EnvError, TrainingError
from spie_robo.policies.base import Policy, PolicySpec
from spie_robo.policies.cache import resize_frames
from spie_robo.policies.checkpoint import read_policy

_Seen = tuple[dict[str, NDArray[np.uint8]], NDArray[np.float32]]


@final
class ActingPolicy:
    """A trained policy that acts; it satisfies :class:`spie_robo.types.PolicyLike`.

    It executes ``action_steps`` of each predicted chunk before it predicts again. Actions are a
    function of the observations and of the episode's seed.

    Args:
        policy: The trained network.
        name: Name of the policy, for messages.
    """

    def __init__(self, policy: Policy, name: str = "policy") -> None:
        """Start an episode with seed 0."""
        self._policy = policy.eval()
        self._name = name
        self._device = next(policy.parameters()).device
        self._seen: deque[_Seen] = deque(maxlen=policy.spec.observation_horizon)
        self._queue: deque[NDArray[np.float32]] = deque()
        self._generator = torch.Generator().manual_seed(0)

    @property
    def spec(self) -> PolicySpec:
        """Settings of the policy."""
        return self._policy.spec

    @property
    def needs_observation(self) -> bool:
        """True if the next :meth:`act` reads its observation.

        If it does not, the observation may be anything, so that no costly renderer need run.
        """
        return len(self._queue) < self.spec.observation_horizon

    def reset(self, seed: int | None = None) -> None:
        """Forget the last episode and seed a diffusion policy's noise (None: 0)."""
        self._seen.clear()
        self._queue.clear()
        self._generator.manual_seed(0 if seed is None else seed)

    def act(self, observation: Mapping[str, Any]) -> NDArray[np.float32]:
        """Return the next action, float32 (A,), and predict a new chunk if needed.

        Args:
            observation: Observation of the environment; see :attr:`needs_observation`.

        Raises:
            EnvError: If the observation lacks a camera or state of the policy, or has one of
                another size, or a state that is not finite.
            TrainingError: If the policy's action is not finite.
        """
        if self.needs_observation:
            seen = self._look(observation)
            # Start as in training: the first observation also stands for those before it.
            missing = self.spec.observation_horizon - 1 if not self._seen else 0
            self._seen.extend([seen] * (missing + 1))
        if not self._queue:
            self._queue.extend(self._predict())
        return self._queue.popleft()

    def check_env(self, env: gym.Env[Any, Any], *, other_env: bool = False) -> None:
        """Refuse an environment that the policy does not belong to.

        Args:
            env: Environment to act in.
            other_env: Accept an environment of another id, e.g. one with another look.

        Raises:
            EnvError: If actions are no Box or have another size than the policy's, or, unless
                ``other_env``, it learnt from episodes of an environment of another id.
        """
        env_id, own = env.spec.id if env.spec is not None else "", self.spec.env_id
        if own and env_id and own != env_id and not other_env:
            raise EnvError(
                f"{self._name} is a policy of another environment: it learnt in {own}, this is "
                f"{env_id}. Choose {own}, or allow it here with --other-env."
            )
        space = env.action_space
        if not isinstance(space, gym.spaces.Box):
            raise EnvError(
                f"{self._name} gives {self.spec.action_dim} continuous numbers an action, and this "
                f"environment takes choices: {space}. Policies act in environments whose action "
                "space is a Box."
            )
        if space.shape != (self.spec.action_dim,):
            raise EnvError(
                f"{self._name} is a policy of another environment: it gives "
                f"{self.spec.action_dim} numbers an action{self._origin()}, this one takes "
                f"{env.action_space}."
            )

    def _predict(self) -> list[NDArray[np.float32]]:
        images = {
            name: torch.from_numpy(np.stack([seen[0][name] for seen in self._seen])[None])
            for name in self.spec.cameras
        }
        state = torch.from_numpy(np.stack([seen[1] for seen in self._seen])[None])
        chunk = self._policy.act_chunk(
            {name: image.to(self._device) for name, image in images.items()},
            state.to(self._device),
            self._generator,
        )
        actions: NDArray[np.float32] = chunk[0].float().cpu().numpy()
        if not np.isfinite(actions).all():
            raise TrainingError(
                f"{self._name}: its actions are not finite: its training diverged. Train it "
                "again with a lower --learning-rate."
            )
        return list(actions)

    def _look(self, observation: Mapping[str, Any]) -> _Seen:
        """Return the cameras and the state of an observation, at the policy's image size."""
        # The observation must have the policy's cameras and states.
        numbers, images = split_observation(observation)
        for name in self.spec.cameras:
            if name not in images:
                raise EnvError(
                    f"{self._name} is a policy of another environment: it needs the camera "
                    f"{name!r}{self._origin()}, the observation has {sorted(images)}."
                )
        for key in self.spec.state_keys:
            if key not in numbers:
                raise EnvError(
                    f"{self._name} is a policy of another environment: it needs {key!r}"
                    f"{self._origin()}, the observation has {sorted(numbers)}."
                )
        # Join the states, which must be finite and of the policy's size.
        parts = [np.asarray(numbers[key], np.float32).ravel() for key in self.spec.state_keys]
        state = np.concatenate([np.empty(0, np.float32), *parts])
        if len(state) != self.spec.state_dim:
            raise EnvError(
                f"{self._name} is a policy of another environment: it expects a state of "
                f"{self.spec.state_dim} numbers{self._origin()}, got {len(state)}."
            )
        if not np.isfinite(state).all():
            raise EnvError(
                f"{self._name}: expected finite numbers in {', '.join(self.spec.state_keys)}, got "
                f"{state}."
            )
        side = self.spec.image_size
        return {name: resize_frames(images[name], side) for name in self.spec.cameras}, state

    def _origin(self) -> str:
        return f" (as in {self.spec.env_id})" if self.spec.env_id else ""


def load_policy(folder: str | Path) -> ActingPolicy:
    """Load the policy that ``spie-robo policy train`` wrote into a folder.

    Raises:
        ConfigError: If there is no policy in the folder.
        TrainingError: If one of its files is damaged.

    Example:
        >>> import tempfile, numpy as np
        >>> from spie_robo.data import EpisodeWriter
        >>> from spie_robo.policies import PolicyTrainConfig, load_policy, train_policy
        >>> store = Path(tempfile.mkdtemp()) / "sim.zarr"
        >>> image, state = np.zeros((96, 96, 3), np.uint8), np.ones(14, np.float32)
        >>> with EpisodeWriter.create(store) as writer:
        ...     rows = {"front_rgb": np.stack([image] * 9), "state": np.stack([state] * 9)}
        ...     writer.add_episode({**rows, "action": np.eye(9, 4, dtype=np.float32)}, seed=0)
        >>> folder = store.with_name("policy")
        >>> summary = train_policy(PolicyTrainConfig((store,), folder, steps=1, batch_size=2))
        >>> policy = load_policy(folder)
        >>> policy.reset(seed=0)
        >>> policy.act({"front": image, "state": state}).shape
        (4,)
    """
    policy = read_policy(Path(folder))
    policy.to("cuda" if torch.cuda.is_available() else "cpu")
    return ActingPolicy(policy, str(folder))
