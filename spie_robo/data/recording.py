"""Run a policy in an environment and record the steps as episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from spie_robo import __version__
from spie_robo.data.store.fields import observation_row, outcome_row
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.data.store.row_spool import RowSpool
from spie_robo.data.store.success import SuccessColumn, as_the_store_expects
from spie_robo.data.store.writer import EpisodeWriter
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.errors import ConfigError, EnvError
from spie_robo.guard.acceptance import AcceptanceMonitor
from spie_robo.settings.wording import counted
from spie_robo.types import GuardedEdit, PolicyLike

StepListener = Callable[[int, int, Mapping[str, NDArray[Any]]], None]
"""Function that is called with (episode, step, row) after each step."""


@dataclass(frozen=True)
class RecordSummary:
    """Counts of what :func:`record_episodes` wrote.

    Attributes:
        episodes: Number of episodes.
        steps: Number of steps.
        successes: Episodes solved at some step; 0 if the environment does not report success.
        frames: Edited camera frames, rejected ones included.
        accepted: Frames whose edit the guard accepted.
        concern: Why most edits were rejected and what to try; empty if they were not.
    """

    episodes: int
    steps: int
    successes: int
    frames: int
    accepted: int
    concern: str = ""

    def __str__(self) -> str:
        """Return the counts in one line."""
        size = f"{counted(self.episodes, 'episode')}, {counted(self.steps, 'step')}"
        line = f"{size}, {self.successes} solved"
        if self.frames:
            line += f", {self.accepted / self.frames:.1%} of {self.frames} edits accepted"
        return f"{line}\n  note: {self.concern.rstrip('.')}" if self.concern else line

    def plus(self, other: RecordSummary) -> RecordSummary:
        """Return the sum of two summaries."""
        return RecordSummary(
            self.episodes + other.episodes,
            self.steps + other.steps,
            self.successes + other.successes,
            self.frames + other.frames,
            self.accepted + other.accepted,
        )


def record_episodes(
    env: gym.Env[Any, Any],
    policy: PolicyLike,
    episodes: int,
    seed: int,
    writer: EpisodeWriter,
    *,
    max_steps: int | None = None,
    on_step: StepListener | None = None,
    progress: bool = True,
) -> RecordSummary:
    """Record episodes into a store; each is durable as soon as it ends.

    Episode i resets environment and policy with ``seed + i``, and the store keeps that seed.
    Frames of a wrapped environment are recorded raw and edited, with their verdicts; an
    environment without an editor gives only ``<camera>_rgb``.

    Args:
        env: An environment with camera images; see
            :func:`spie_robo.data.store.fields.observation_row`.
        policy: Policy that chooses the actions.
        episodes: Number of episodes, 1 or more.
        seed: Seed of the first episode.
        writer: An open store, whose metadata gets the environment and the cameras.
        max_steps: Most steps of an episode; None leaves it to the environment.
        on_step: Function that receives each row after it is written.
        progress: Show a progress bar.

    Raises:
        ConfigError: If ``episodes``, ``seed`` or ``max_steps`` is out of range.
        EnvError: If the environment has no camera images.
        StoreError: If the rows do not fit the store, or the disk is full.
    """
    if episodes < 1 or seed < 0 or (max_steps is not None and max_steps < 1):
        raise ConfigError(
            "Expected episodes and max_steps of 1 or more and a seed of 0 or more, got "
            f"episodes={episodes}, max_steps={max_steps}, seed={seed}."
        )
    writer.metadata = with_env(writer.metadata, env)
    total, monitor = RecordSummary(0, 0, 0, 0, 0), AcceptanceMonitor()
    with tqdm(total=episodes, desc="record", unit="episode", disable=not progress) as bar:
        for i in range(episodes):
            writer.begin_episode(seed + i)
            try:
                done = _record_episode(
                    env, policy, i, seed + i, writer, monitor, max_steps, on_step
                )
                writer.end_episode()
            except BaseException:
                writer.discard_episode()
                raise
            total = total.plus(done)
            bar.set_postfix(steps=total.steps, solved=total.successes)
            bar.update()
    return replace(total, concern=monitor.concern)


def _record_episode(
    env: gym.Env[Any, Any],
    policy: PolicyLike,
    episode: int,
    seed: int,
    writer: EpisodeWriter,
    monitor: AcceptanceMonitor,
    max_steps: int | None,
    on_step: StepListener | None,
) -> RecordSummary:
    observation, info = env.reset(seed=seed)
    policy.reset(seed=seed)
    rows, success = RowSpool(writer.path.parent), SuccessColumn()
    done = False
    step, frames, accepted = 0, 0, 0
    while not done:
        row = observation_row(observation, info)
        action = policy.act(observation)
        next_observation, reward, terminated, truncated, next_info = env.step(action)
        row |= outcome_row(action, reward, next_info)
        writer.metadata = writer.metadata.including(info.get("geometry", {}))
        if not rows:  # found out now, and not after a whole episode
            writer.require_fits(as_the_store_expects(row, writer.keys))
        rows.append(success.split(row))
        if on_step is not None:
            on_step(episode, step, row)
        edits: Mapping[str, GuardedEdit] = info.get("realism", {})
        monitor.count(edits.values())
        frames += len(edits)
        accepted += sum(e.edited for e in edits.values())
        step += 1
        done = bool(terminated or truncated) or step == max_steps
        observation, info = next_observation, next_info
    # Now that all steps have said whether they solved the task, or none.
    for block in success.added_to(rows.blocks()):
        writer.extend(block)
    rows.clear()
    return RecordSummary(1, step, int(success.solved), frames, accepted)


def metadata_of(guarded: GuardedEditor | None) -> StoreMetadata:
    """Return the metadata of a new store for a guarded editor.

    Args:
        guarded: The guarded editor; None leaves the frames raw.
    """
    if guarded is None:
        return StoreMetadata(provenance={"spie_robo": __version__})
    description = guarded.description
    provenance = {
        "spie_robo": __version__,
        **description.provenance,
        "retries": guarded.retries,
    }
    if isinstance(guarded.references, (str, Path)):
        provenance["references"] = Path(guarded.references).name
    return StoreMetadata(
        editor_id=description.editor,
        instruction=description.instruction or description.own_instruction,
        provenance=provenance,
    )


def with_env(metadata: StoreMetadata, env: gym.Env[Any, Any]) -> StoreMetadata:
    """Add the settings that rebuild the environment.

    Raises:
        EnvError: If the store was recorded in another environment.
    """
    spec = env.spec
    if spec is None:
        return metadata
    if metadata.env_id and metadata.env_id != spec.id:
        raise EnvError(
            f"The store was recorded in {metadata.env_id}, this is {spec.id}. Record each "
            "environment into a store of its own."
        )
    kwargs = {key: value for key, value in spec.kwargs.items() if _is_plain(value)}
    wrappers = [wrapper.name for wrapper in spec.additional_wrappers]
    env_spec = {
        "kwargs": kwargs,
        "max_episode_steps": spec.max_episode_steps,
        "wrappers": wrappers,
        "steps_per_second": env.metadata.get("render_fps"),
    }
    return replace(metadata, env_id=spec.id, env_spec=env_spec)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    if isinstance(value, float):
        return bool(np.isfinite(value))
    return value is None or isinstance(value, (str, int, bool))
