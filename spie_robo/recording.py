"""``spie-robo record``: from names and numbers to an environment, a policy and a store.

``RecordConfig -> environment (wrapped if there is an editor), policy, writer -> record_episodes``
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from spie_robo import __version__
from spie_robo.config import EditConfig, RecordConfig
from spie_robo.data import EpisodeWriter, RecordSummary, StoreMetadata, record_episodes
from spie_robo.data.store.layout import ZarrFormat
from spie_robo.editing.description import Maker
from spie_robo.errors import EnvError
from spie_robo.types import Guard, ImageEditor, PolicyLike


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
        """The next action; the observation does not matter."""
        action: NDArray[np.float32] = self._space.sample()
        return action


@final
@dataclasses.dataclass(frozen=True)
class EditSetup:
    """An editor and a guard as :class:`EditConfig` describes them.

    Attributes:
        editor: Makes the edits; None leaves the frames raw.
        guard: Judges them; None accepts all.
        config: What was asked for.
    """

    editor: ImageEditor | None
    guard: Guard | None
    config: EditConfig

    @property
    def metadata(self) -> StoreMetadata:
        """What a store says about its edits, for :meth:`EpisodeWriter.create`."""
        if self.editor is None:
            return StoreMetadata(provenance={"spie_robo": __version__})
        maker, config = Maker.of(self.editor, self.guard), self.config
        provenance = {"spie_robo": __version__, **maker.provenance, "retries": config.retries}
        if config.references is not None:
            provenance["references"] = config.references.name
        return StoreMetadata(
            editor_id=maker.editor,
            instruction=config.instruction or maker.instruction,
            provenance=provenance,
        )


def load_edit_setup(config: EditConfig) -> EditSetup:
    """Load the editor and the guard.

    Raises:
        EditorError: If there is no such editor.
        ReferencePhotoError: If there are no usable reference photos.
    """
    if config.editor is None:
        return EditSetup(None, None, config)
    from spie_robo.editor import Editor
    from spie_robo.editor.references import load_references
    from spie_robo.guard import GeometryGuard

    if config.references is not None:
        load_references(config.references)  # a folder without photos is refused before any work
    editor = Editor.from_pretrained(
        config.editor,
        base=config.base,
        steps=config.steps,
        batch_size=config.frames_per_pass,
        protect=config.protect,
    )
    guard = GeometryGuard(protect=config.protect) if config.guard else None
    return EditSetup(editor, guard, config)


def make_env(env_id: str, setup: EditSetup, image_size: int | None = None) -> gym.Env[Any, Any]:
    """Make an environment, wrapped in a :class:`RealismWrapper` if there is an editor.

    Args:
        env_id: A Gymnasium id; ``module:id`` imports the module first.
        setup: The editor and the guard.
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
    if setup.editor is None:
        return env
    from spie_robo.wrappers import RealismWrapper

    return RealismWrapper(
        env,
        setup.editor,
        references=setup.config.references,
        instruction=setup.config.instruction,
        guard=setup.guard,
        retries=setup.config.retries,
    )


def make_policy(name: str, env: gym.Env[Any, Any], *, other_env: bool = False) -> PolicyLike:
    """The policy that ``--policy`` names.

    Args:
        name: ``expert``, ``random``, or the folder of a learned policy.
        env: Where it is to act.
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
    """A writer of a new store, which is removed again if no episode gets into it.

    Raises:
        StoreError: If something is at ``out`` already.
    """
    with EpisodeWriter.create(out, metadata, zarr_format=zarr_format) as writer:
        try:
            yield writer
        finally:
            if writer.n_episodes == 0:
                shutil.rmtree(out, ignore_errors=True)


def record(config: RecordConfig, *, progress: bool = True) -> RecordSummary:
    """Record episodes as ``config`` says.

    Raises:
        EnvError: If the environment cannot be made, has no images or no expert.
        EditorError: If there is no such editor, or it fails.
        StoreError: If something is at ``config.out`` already, or the disk is full.
    """
    setup = load_edit_setup(config.edit)
    env = make_env(config.env, setup, config.image_size)
    try:
        policy = make_policy(config.policy, env, other_env=config.other_env)
        provenance = {**setup.metadata.provenance, "policy": config.policy}
        metadata = dataclasses.replace(setup.metadata, provenance=provenance)
        with new_store(config.out, metadata, config.zarr_format) as writer:
            return record_episodes(
                env,
                policy,
                config.episodes,
                config.edit.seed,
                writer,
                max_steps=config.max_steps,
                progress=progress,
            )
    finally:
        env.close()
