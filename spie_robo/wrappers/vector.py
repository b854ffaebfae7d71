"""The wrapper for vector environments: all envs and cameras of a step in one batch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, final

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from spie_robo.editing.by_name import GuardOption, resolve_editor, resolve_guard
from spie_robo.editing.guarded_editor import GuardedEditor, OnError
from spie_robo.errors import EnvError
from spie_robo.settings.ranges import one_of
from spie_robo.simulators.views import Simulator, to_numpy
from spie_robo.types import ImageEditor, References
from spie_robo.wrappers.cameras import CameraNames, find_cameras
from spie_robo.wrappers.geometry_sources import GeometryKeys, GeometrySource
from spie_robo.wrappers.look_seeds import LookSeeds, SeedPer
from spie_robo.wrappers.moments import EditedMoment, Moment, MomentEditor
from spie_robo.wrappers.realism import InfoForm
from spie_robo.wrappers.recorder import (
    EpisodeRecorder,
    RecordOption,
    Unfinished,
    close_recorders,
    open_recorders,
    whole_or_dropped,
)
from spie_robo.wrappers.vector_infos import (
    FinalObservations,
    env_info,
    env_views,
    final_observations,
)

ResetSeeds: TypeAlias = int | Sequence[int | None] | None
"""One seed, from which env i gets seed + i, or one an env."""


@final
class VectorRealismWrapper(gym.vector.VectorWrapper[Any, Any, Any, Any, Any]):
    """:class:`RealismWrapper` for a vector environment, with one batch a step.

    Works with ``SyncVectorEnv`` and ``AsyncVectorEnv``, shared memory or not, and with every
    autoreset mode; with ``SAME_STEP``, ``infos["final_obs"]`` is edited in the look of the episode
    that ended, and ``infos["final_info"]`` has its record. The infos are vectorised as Gymnasium
    does it: ``infos["realism"][camera]`` is an object array of ``GuardedEdit``, one an env, and
    ``infos["raw"][camera]`` uint8 (envs, height, width, 3), each with its ``_camera`` mask.

    On a GPU edit with this wrapper, in the one process that holds the editor. With
    :class:`RealismWrapper` inside each env of an ``AsyncVectorEnv``, every process loads an editor
    of its own, and needs ``context="spawn"``: CUDA does not survive a fork.

    Env ``i`` has the looks that a :class:`RealismWrapper` would give it from the same reset seed.

    Example:
        >>> import gymnasium as gym, numpy as np
        >>> import spie_robo.envs
        >>> from spie_robo.types import EditResult
        >>> from spie_robo.wrappers import VectorRealismWrapper
        >>> class Negative:
        ...     id = "negative"
        ...     def edit(self, frames, references=None, instruction=None, seeds=None):
        ...         return [EditResult(255 - frame.rgb, 0, "", self.id, 1) for frame in frames]
        >>> envs = gym.make_vec("SpieRobo/Reach-v0", num_envs=2, vectorization_mode="sync")
        >>> envs = VectorRealismWrapper(envs, Negative(), guard=None)
        >>> observations, infos = envs.reset(seed=0)
        >>> np.array_equal(observations["wrist"], 255 - infos["raw"]["wrist"])
        True
        >>> [edit.edited for edit in infos["realism"]["wrist"]]
        [True, True]
        >>> envs.close()
    """

    def __init__(
        self,
        env: gym.vector.VectorEnv[Any, Any, Any],
        editor: str | ImageEditor = "embedded",
        *,
        references: References | None = None,
        instruction: str | None = None,
        guard: GuardOption = "default",
        cameras: CameraNames | None = None,
        seed_per: SeedPer = "episode",
        retries: int = 1,
        on_error: OnError = "raise",
        geometry: Simulator | GeometryKeys | Mapping[str, Any] | str | None = None,
        upright: bool = False,
        record: RecordOption = None,
        unfinished: Unfinished = "store",
        infos: InfoForm = "records",
    ) -> None:
        """Wrap ``env``.

        Args:
            env: A vector environment with camera images in its observations.
            editor: As for :class:`RealismWrapper`, like every argument that is not listed here.
            references: Photos of the look to give.
            instruction: Text for the editor.
            guard: ``"default"``, a guard, or None.
            cameras: Which images to edit.
            seed_per: ``"episode"`` or ``"step"``.
            retries: Further seeds to try for a rejected edit.
            on_error: ``"raise"`` or ``"passthrough"``.
            geometry: None for ``info["geometry"]`` or the simulator that is found, a simulator or
                its name, ``"none"``, or ``GeometryKeys``. Envs in other processes cannot be
                reached, nor can a function reach any: wrap each of them in
                :class:`~spie_robo.wrappers.GeometryInfo` instead.
            upright: Hand out pictures that stand upright.
            record: Path of an episode store or an open writer. The envs' episodes are written in
                the order in which they end.
            unfinished: What becomes of episodes that are reset or closed before their end.
            infos: ``"records"``, or ``"plain"`` numbers and arrays.

        Raises:
            EnvError: If the env has no images, lacks a named camera, or its images are too small.
            ConfigError: If a setting is out of its range.
        """
        if not isinstance(env, gym.vector.VectorEnv):
            raise EnvError(_not_a_vector_env(env))
        super().__init__(env)
        if callable(geometry):
            raise EnvError(
                "geometry: a function cannot reach the envs of a vector env. Wrap each of them: "
                "spie_robo.wrappers.GeometryInfo(env, function)."
            )
        made = resolve_editor(editor)
        guarded = GuardedEditor(
            made, resolve_guard(guard, made), references, instruction, retries, on_error
        )
        found = find_cameras(env.single_observation_space, cameras)
        self._plain = one_of("infos", infos, ("records", "plain")) == "plain"
        self._simulated = _simulated_envs(env)
        sources = [GeometrySource(geometry) for _ in self._simulated]
        self._together = len(sources) != env.num_envs
        sources = sources * env.num_envs if self._together else sources
        self._moments = MomentEditor(found, guarded, sources, upright)
        self._autoreset = autoreset_mode(env.metadata)
        self._seeds = [LookSeeds(seed_per) for _ in range(env.num_envs)]
        self._over: NDArray[np.bool_] = np.zeros(env.num_envs, dtype=np.bool_)
        self._last: list[EditedMoment] = []
        self._recorders: list[EpisodeRecorder] = open_recorders(
            record, env, guarded, found, env.num_envs, unfinished
        )

    def reset(
        self, *, seed: ResetSeeds = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the envs, or those of ``options["reset_mask"]``, and edit their first frames."""
        with whole_or_dropped(self._recorders):
            mask = (options or {}).get("reset_mask")
            chosen = range(self.num_envs) if mask is None else np.flatnonzero(mask).tolist()
            for recorder in [self._recorders[i] for i in chosen] if self._recorders else []:
                recorder.finish()
            return self._reset(seed, options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step the envs and edit all their new frames, final ones too, in one batch."""
        with whole_or_dropped(self._recorders):
            return self._step(actions)

    def close(self, **kwargs: Any) -> None:
        """Close the store, with the episodes in progress, and the envs."""
        close_recorders(self._recorders)
        self._moments.close()
        super().close(**kwargs)

    def _reset(
        self, seed: ResetSeeds, options: dict[str, Any] | None
    ) -> tuple[Any, dict[str, Any]]:
        # Read first: the vector env takes the mask out of the options.
        mask = (options or {}).get("reset_mask")
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        began = np.ones(self.num_envs, np.bool_) if mask is None else np.asarray(mask)
        self._over = self._over & ~began
        reset_seeds = _one_seed_an_env(seed, self.num_envs)
        self._begin(began, reset_seeds)
        views = env_views(self.env.observation_space, observations)
        indices = np.flatnonzero(began).tolist()
        edited = self._moments.edit(
            [self._moment(i, views[i], infos, observations) for i in indices]
        )
        infos = dict(infos)
        # An env that went on keeps the images it had.
        self._last = self._last or edited
        for i, moment in zip(indices, edited, strict=True):
            self._last[i] = moment
            infos = self._add_info(infos, moment.info(self._plain), i)
        result = self._moments.replace_batch(observations, self._last)
        self._record_beginnings(began, result, reset_seeds)
        return result, infos

    def _step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        over_before, self._over = (
            self._over,
            np.logical_or(to_numpy(terminations), to_numpy(truncations)),
        )
        # Final frames first: they still have the seeds of the episodes that ended.
        last = final_observations(infos, self.env.observation_space)
        ended = [] if last is None else np.flatnonzero(self._over).tolist()
        finals = [
            self._moment(i, last.of(i), infos.get("final_info", {}), last.batch, live=False)
            for i in ended
            if last is not None
        ]
        began = self._beginnings(over_before)
        self._begin(began, [None] * self.num_envs)
        views = env_views(self.env.observation_space, observations)
        moments = [self._moment(i, view, infos, observations) for i, view in enumerate(views)]
        edited = self._moments.edit([*moments, *finals])
        self._last = edited[: self.num_envs]
        edited_finals = dict(zip(ended, edited[self.num_envs :], strict=True))
        infos = self._edited_infos(infos, last, edited_finals)
        result = self._moments.replace_batch(observations, self._last)
        if self._recorders:
            # With NEXT_STEP, an env whose episode was over did not step: it was reset.
            reset_instead = self._autoreset == AutoresetMode.NEXT_STEP
            stepped = ~began if reset_instead else np.ones_like(began)
            self._record_steps(stepped, (actions, rewards), result, infos, edited_finals)
            self._record_beginnings(began, result, [None] * self.num_envs)
        return result, rewards, terminations, truncations, infos

    def _moment(
        self, i: int, observation: Any, infos: Mapping[str, Any], batch: Any, live: bool = True
    ) -> Moment:
        env = self._simulated[0 if self._together else i]
        everything = batch if self._together else None
        seed = self._seeds[i].next()
        return Moment(observation, env_info(infos, i), seed, env, i, everything, live)

    def _begin(self, began: NDArray[np.bool_], reset_seeds: Sequence[int | None]) -> None:
        """Choose the look of every env whose episode starts."""
        for i in np.flatnonzero(began).tolist():
            self._seeds[i].begin(reset_seeds[i], partial(self._env_seed, i))

    def _env_seed(self, i: int) -> int | None:
        """Return the seed that env ``i`` chose for itself; None where it is not known."""
        seeds = self.env.np_random_seed
        return seeds[i] if isinstance(seeds, (tuple, list)) else None

    def _beginnings(self, over_before: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the envs whose observation in this step is the first of an episode.

        Args:
            over_before: Envs whose episode ended in the step before this one.
        """
        if self._autoreset == AutoresetMode.SAME_STEP:
            return self._over
        if self._autoreset == AutoresetMode.NEXT_STEP:
            return over_before
        return np.zeros_like(over_before)

    def _edited_infos(
        self,
        infos: Mapping[str, Any],
        last: FinalObservations | None,
        finals: Mapping[int, EditedMoment],
    ) -> dict[str, Any]:
        """Return the infos with the outcome of each frame; ``infos`` itself stays unchanged."""
        result = dict(infos)
        for i, moment in enumerate(self._last):
            result = self._add_info(result, moment.info(self._plain), i)
        if last is None or not finals:
            return result
        result["final_info"] = dict(infos.get("final_info", {}))
        replaced = {i: self._moments.replace(last.of(i), m) for i, m in finals.items()}
        result[last.key] = last.with_changed(replaced)
        for i, moment in finals.items():
            added = moment.info(self._plain)
            result["final_info"] = self._add_info(result["final_info"], added, i)
        return result

    def _record_beginnings(
        self, began: NDArray[np.bool_], result: Any, reset_seeds: Sequence[int | None]
    ) -> None:
        if not self._recorders:
            return
        views = env_views(self.env.observation_space, result)
        for i in np.flatnonzero(began).tolist():
            self._recorders[i].begin(views[i], self._last[i], reset_seeds[i])

    def _record_steps(
        self,
        stepped: NDArray[np.bool_],
        action_reward: tuple[Any, Any],
        result: Any,
        infos: Mapping[str, Any],
        finals: Mapping[int, EditedMoment],
    ) -> None:
        """Record the step of every env that made one."""
        actions = env_views(self.env.action_space, action_reward[0])
        rewards = action_reward[1]
        views = env_views(self.env.observation_space, result)
        for i in np.flatnonzero(stepped).tolist():
            final = finals.get(i)
            observation = views[i]
            if final is not None:
                changed = final_observations(infos, self.env.observation_space)
                observation = views[i] if changed is None else changed.of(i)
            self._recorders[i].step(
                actions[i],
                rewards[i],
                bool(self._over[i]),
                observation,
                self._last[i] if final is None else final,
                env_info(infos if final is None else infos["final_info"], i),
            )


def _simulated_envs(env: gym.vector.VectorEnv[Any, Any, Any]) -> list[Any]:
    """Return each env where they can be reached, or else what simulates all of them."""
    inner: Any = env
    while isinstance(inner, gym.vector.VectorWrapper):
        inner = inner.env
    reached = getattr(inner, "envs", None)
    return list(reached) if reached is not None and len(reached) == env.num_envs else [env]


def _not_a_vector_env(env: Any) -> str:
    """Return why something is no vector env, and what to take in its place."""
    if hasattr(env, "step_wait"):
        return (
            f"Expected a gymnasium.vector.VectorEnv, got Stable-Baselines3's {type(env).__name__}. "
            "Use spie_robo.wrappers.stable_baselines3.VecRealismWrapper(env, editor)."
        )
    return (
        f"Expected a gymnasium.vector.VectorEnv, got {env!r}. Use RealismWrapper for a single one."
    )


def autoreset_mode(metadata: Mapping[str, Any]) -> AutoresetMode:
    """Return the moment at which a vector env resets an env whose episode is over.

    Args:
        metadata: Metadata of the vector env, with the mode as its name or its value.

    Raises:
        EnvError: If it is none of Gymnasium's modes.
    """
    mode = metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    if isinstance(mode, AutoresetMode):
        return mode
    text = str(getattr(mode, "value", mode)).rsplit(".", 1)[-1]
    for known in AutoresetMode:
        if re.sub(r"[^a-z]", "", text.lower()) == re.sub(r"[^a-z]", "", known.name.lower()):
            return known
    names = ", ".join(known.name for known in AutoresetMode)
    raise EnvError(
        f"The vector env's metadata['autoreset_mode']: expected one of {names}, got {mode!r}."
    )


def _one_seed_an_env(seed: ResetSeeds, count: int) -> list[int | None]:
    """Return the reset seed of each env, as Gymnasium's vector envs spread them."""
    if seed is None:
        return [None] * count
    if isinstance(seed, (int, np.integer)):
        return [int(seed) + i for i in range(count)]
    return [None if one is None else int(one) for one in seed]
