"""Measure how often a policy solves its task, with a confidence interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import gymnasium as gym
from tqdm import tqdm

from spie_robo.data.store.fields import one_number, success_of
from spie_robo.errors import ConfigError, EnvError
from spie_robo.files.output import write_json
from spie_robo.policies.config import FIRST_TEST_SEED
from spie_robo.policies.policy import ActingPolicy
from spie_robo.settings.wording import counted
from spie_robo.types import PolicyLike


@final
@dataclass(frozen=True)
class EpisodeOutcome:
    """The outcome of one episode.

    Attributes:
        seed: Seed of the reset and of the policy.
        success: Whether the task was solved at some step.
        steps: Number of steps.
        reward: Sum of the rewards.
    """

    seed: int
    success: bool
    steps: int
    reward: float


@final
@dataclass(frozen=True)
class EvaluationResult:
    """The outcomes of some episodes.

    Attributes:
        episodes: Outcomes in order.
    """

    episodes: tuple[EpisodeOutcome, ...]

    @property
    def successes(self) -> int:
        """Number of solved episodes."""
        return sum(episode.success for episode in self.episodes)

    @property
    def success_rate(self) -> float:
        """Share of solved episodes."""
        return self.successes / len(self.episodes)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the success rate."""
        return wilson_interval(self.successes, len(self.episodes))

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "success_rate": self.success_rate,
            "interval": list(self.interval),
            "successes": self.successes,
            "episodes": [_plain(asdict(episode)) for episode in self.episodes],
        }

    def __str__(self) -> str:
        """Return the result in one line."""
        low, high = self.interval
        tried = counted(len(self.episodes), "episode")
        return (
            f"{self.successes} of {tried} solved: {self.success_rate:.1%} ({low:.1%} to {high:.1%})"
        )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Replace numbers that are not finite by null, because JSON has no infinity."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def evaluate_policy(
    policy: PolicyLike,
    env: gym.Env[Any, Any],
    episodes: int,
    seed: int = FIRST_TEST_SEED,
    *,
    max_steps: int | None = None,
    other_env: bool = False,
    on_episode: Callable[[EpisodeOutcome], None] | None = None,
    progress: bool = True,
) -> EvaluationResult:
    """Run a policy; episode i resets environment and policy with ``seed + i``.

    As in ``record``, an episode is solved if ``info["is_success"]``, or else ``info["success"]``,
    is true after some step.

    Args:
        policy: Policy that acts.
        env: Environment that reports whether its task is solved.
        episodes: Number of episodes, 1 or more.
        seed: Seed of the first episode; take seeds that no demonstration used.
        max_steps: Most steps of an episode; None leaves it to the environment.
        other_env: Allow a learned policy in an environment of another id than its own.
        on_episode: Function that is called after each episode.
        progress: Show a progress bar.

    Raises:
        ConfigError: If a number is out of range.
        EnvError: If the policy is of another environment, or the environment does not report
            whether its task is solved.
    """
    if episodes < 1 or seed < 0 or (max_steps is not None and max_steps < 1):
        raise ConfigError(
            "Expected episodes and max_steps of 1 or more and a seed of 0 or more, got "
            f"episodes={episodes}, max_steps={max_steps}, seed={seed}."
        )
    if isinstance(policy, ActingPolicy):
        policy.check_env(env, other_env=other_env)
    outcomes: list[EpisodeOutcome] = []
    with tqdm(total=episodes, desc="evaluate", unit="episode", disable=not progress) as bar:
        for i in range(episodes):
            outcomes.append(_run_episode(policy, env, seed + i, max_steps))
            if on_episode is not None:
                on_episode(outcomes[-1])
            bar.set_postfix(solved=sum(o.success for o in outcomes))
            bar.update()
    return EvaluationResult(tuple(outcomes))


def write_result(file: Path, result: EvaluationResult, settings: Mapping[str, Any]) -> None:
    """Write a result and its settings as JSON, whole or not at all.

    Raises:
        ConfigError: If the file cannot be written.
    """
    write_json(file, {**settings, **result.to_json()})


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute Wilson's score interval of a success rate.

    Raises:
        ConfigError: If there are no trials, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ConfigError(f"Expected 0 <= successes <= trials > 0, got {successes} of {trials}.")
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def _run_episode(
    policy: PolicyLike, env: gym.Env[Any, Any], seed: int, max_steps: int | None
) -> EpisodeOutcome:
    observation, _ = env.reset(seed=seed)
    policy.reset(seed=seed)
    steps, reward, done = 0, 0.0, False
    success: bool | None = None
    info: Mapping[str, Any] = {}
    while not done:
        action = policy.act(observation)
        observation, earned, terminated, truncated, info = env.step(action)
        solved = success_of(info)
        # Some envs say it in the last step alone: a step that says nothing is not solved.
        success = success if solved is None else bool(success) or solved
        steps, reward = steps + 1, reward + one_number(earned, "reward")
        done = bool(terminated or truncated) or steps == max_steps
    if success is None:
        raise EnvError(
            f"{env}: expected info['is_success'] or info['success'] after some step, the last of "
            f"{steps} gave {sorted(info)}. Add one of them with a wrapper."
        )
    return EpisodeOutcome(seed, success, steps, reward)
