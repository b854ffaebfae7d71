"""How often a policy solves its task, with an interval, and why that number is what it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import gymnasium as gym
from tqdm import tqdm

from spie_robo.errors import ConfigError, EnvError
from spie_robo.files.output import write_json
from spie_robo.policies.config import FIRST_TEST_SEED
from spie_robo.policies.policy import ActingPolicy
from spie_robo.settings.wording import counted
from spie_robo.types import PolicyLike


@final
@dataclass(frozen=True)
class EpisodeOutcome:
    """One episode.

    Attributes:
        seed: Of its reset and of the policy.
        success: Whether the task was solved at some step.
        steps: Its length.
        reward: Sum over its steps.
    """

    seed: int
    success: bool
    steps: int
    reward: float


@final
@dataclass(frozen=True)
class EvaluationResult:
    """Outcomes of some episodes.

    Attributes:
        episodes: In order.
    """

    episodes: tuple[EpisodeOutcome, ...]

    @property
    def successes(self) -> int:
        """Episodes that were solved."""
        return sum(episode.success for episode in self.episodes)

    @property
    def success_rate(self) -> float:
        """Their share."""
        return self.successes / len(self.episodes)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the success rate (Wilson)."""
        return wilson_interval(self.successes, len(self.episodes))

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "success_rate": self.success_rate,
            "interval": list(self.interval),
            "successes": self.successes,
            "episodes": [_plain(asdict(episode)) for episode in self.episodes],
        }

    def __str__(self) -> str:
        """One line for people."""
        low, high = self.interval
        tried = counted(len(self.episodes), "episode")
        return (
            f"{self.successes} of {tried} solved: {self.success_rate:.1%} ({low:.1%} to {high:.1%})"
        )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: a number that is not finite is null."""
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
    """Run a policy; episode i resets the environment and the policy with ``seed + i``.

    An episode is solved if ``info["is_success"]``, or else ``info["success"]``, is true after some
    step, as ``record`` has it.

    Args:
        policy: What acts.
        env: An environment that says whether its task is solved.
        episodes: Episodes to run, 1 or more.
        seed: Of the first episode: demonstrations, which were made from seeds, are no test.
        max_steps: Cut episodes at this length; None leaves it to the environment.
        other_env: Let a learned policy act in an environment of another id than its own.
        on_episode: Called after each episode.
        progress: Show a progress bar.

    Raises:
        ConfigError: If a number is out of range.
        EnvError: If the policy is of another environment, or the environment never says whether
            its task is solved.
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
    """Write a result and what it depends on as JSON, whole or not at all.

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
    steps, reward, success, done = 0, 0.0, False, False
    while not done:
        action = policy.act(observation)
        observation, earned, terminated, truncated, info = env.step(action)
        solved = info.get("is_success", info.get("success"))
        if solved is None:
            raise EnvError(
                f"{env}: expected info['is_success'] or info['success'] after a step, got "
                f"{sorted(info)}. Add one of them with a wrapper."
            )
        steps, reward, success = steps + 1, reward + float(earned), success or bool(solved)
        done = bool(terminated or truncated) or steps == max_steps
    return EpisodeOutcome(seed, success, steps, reward)
