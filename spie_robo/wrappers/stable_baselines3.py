"""The wrapper for Stable-Baselines3's vector environments, which are not Gymnasium's.

A ``VecEnv`` resets an env in the step that ends its episode and puts the last observation into
that env's info as ``terminal_observation``; infos are a list of dictionaries. Import this module by
its name: it needs the package ``stable-baselines3``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import gymnasium as gym
import numpy as np

from spie_robo.editing.by_name import GuardOption, resolve_editor, resolve_guard
from spie_robo.editing.guarded_editor import GuardedEditor, OnError
from spie_robo.errors import EnvError, MissingExtraError
from spie_robo.settings.ranges import one_of
from spie_robo.simulators.views import Simulator
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
from spie_robo.wrappers.vector_infos import env_views

try:
    from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvWrapper
except ImportError as error:
    raise MissingExtraError(
        "VecRealismWrapper needs Stable-Baselines3: pip install stable-baselines3."
    ) from error

FINAL = "terminal_observation"
"""Key of an info that holds the last observation of the episode that ended."""


@final
class VecRealismWrapper(VecEnvWrapper):  # type: ignore[misc, unused-ignore]  # optional
    """:class:`~spie_robo.wrappers.RealismWrapper` for a ``VecEnv``, with one batch a step.

    The edit of an env's last observation, ``infos[i]["terminal_observation"]``, has the look of
    the episode that ended. ``infos[i]["realism"]`` and ``infos[i]["raw"]`` are as those of
    :class:`~spie_robo.wrappers.RealismWrapper`; ``infos[i]["terminal_info"]`` holds those of the
    last frame.

    Use it before ``VecTransposeImage`` and ``VecFrameStack``: images have their channels last here.
    """

    def __init__(
        self,
        venv: VecEnv,
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
        """Wrap ``venv``.

        Args:
            venv: A ``DummyVecEnv``, ``SubprocVecEnv`` or what wraps one, with camera images.
            editor: As for ``VectorRealismWrapper``, like every argument.
            references: Photos of the look to give.
            instruction: Text for the editor.
            guard: ``"default"``, a guard, or None.
            cameras: Which images to edit.
            seed_per: ``"episode"`` or ``"step"``.
            retries: Further seeds to try for a rejected edit.
            on_error: ``"raise"`` or ``"passthrough"``.
            geometry: As for ``VectorRealismWrapper``.
            upright: Hand out pictures that stand upright.
            record: Path of an episode store or an open writer.
            unfinished: What becomes of episodes that are reset or closed before their end.
            infos: ``"records"``, or ``"plain"`` numbers and arrays.

        Raises:
            EnvError: If it is no ``VecEnv``, or has no images, or they are too small.
            ConfigError: If a setting is out of its range.
        """
        if not isinstance(venv, VecEnv):
            raise EnvError(
                f"Expected a VecEnv of Stable-Baselines3, got {venv!r}. Use RealismWrapper or "
                "VectorRealismWrapper for envs of Gymnasium."
            )
        super().__init__(venv)
        made = resolve_editor(editor)
        guarded = GuardedEditor(
            made, resolve_guard(guard, made), references, instruction, retries, on_error
        )
        self._plain = one_of("infos", infos, ("records", "plain")) == "plain"
        found = find_cameras(venv.observation_space, cameras)
        self._simulated: Sequence[Any] = getattr(venv.unwrapped, "envs", [None] * venv.num_envs)
        sources = [GeometrySource(geometry) for _ in range(venv.num_envs)]
        self._moments = MomentEditor(found, guarded, sources, upright)
        self._looks = [LookSeeds(seed_per) for _ in range(venv.num_envs)]
        self._last: list[EditedMoment] = []
        self._actions: Any = None
        self._recorders: list[EpisodeRecorder] = open_recorders(
            record, _described(venv), guarded, found, venv.num_envs, unfinished
        )

    def reset(self) -> Any:
        """Reset the envs, choose their looks, and edit their first frames."""
        with whole_or_dropped(self._recorders):
            for recorder in self._recorders:
                recorder.finish()
            # Read first: a reset forgets the seeds that venv.seed() gave.
            reset_seeds = list(getattr(self.venv.unwrapped, "_seeds", [None] * self.num_envs))
            observations = self.venv.reset()
            for seeds, reset_seed in zip(self._looks, reset_seeds, strict=True):
                seeds.begin(reset_seed)
            infos = getattr(self.venv, "reset_infos", [{}] * self.num_envs)
            self._last = self._edit(observations, infos)
            result = self._moments.replace_batch(observations, self._last)
            self.reset_infos = [
                {**info, **moment.info(self._plain)}
                for info, moment in zip(infos, self._last, strict=True)
            ]
            self._begin(range(self.num_envs), result, reset_seeds)
        return result

    def step_async(self, actions: Any) -> None:
        """Send the actions."""
        self._actions = actions
        self.venv.step_async(actions)

    def step_wait(self) -> tuple[Any, Any, Any, list[dict[str, Any]]]:
        """Edit all the new frames, last ones of episodes too, in one batch."""
        with whole_or_dropped(self._recorders):
            observations, rewards, dones, infos = self.venv.step_wait()
            ended = np.flatnonzero(dones).tolist()
            # Last frames first: they still have the seeds of the episodes that ended.
            finals = [self._moment(i, infos[i][FINAL], infos[i], live=False) for i in ended]
            for i in ended:
                self._looks[i].begin(None)
            views = self._rows(observations)
            # The info of an env that was reset is that of its last step.
            first = getattr(self.venv, "reset_infos", [{}] * self.num_envs)
            known = [first[i] if dones[i] else infos[i] for i in range(self.num_envs)]
            moments = [self._moment(i, view, known[i]) for i, view in enumerate(views)]
            edited = self._moments.edit([*moments, *finals])
            self._last = edited[: self.num_envs]
            last_frames = dict(zip(ended, edited[self.num_envs :], strict=True))
            result = self._moments.replace_batch(observations, self._last)
            new_infos = self._infos(infos, last_frames)
            self._record(result, rewards, dones, new_infos, last_frames)
        return result, rewards, dones, new_infos

    def close(self) -> None:
        """Close the store, with the episodes in progress, and the envs."""
        close_recorders(self._recorders)
        self._moments.close()
        self.venv.close()

    def _edit(self, observations: Any, infos: Sequence[Mapping[str, Any]]) -> list[EditedMoment]:
        rows = self._rows(observations)
        return self._moments.edit(
            [
                self._moment(i, row, info)
                for i, (row, info) in enumerate(zip(rows, infos, strict=True))
            ]
        )

    def _moment(
        self, i: int, observation: Any, info: Mapping[str, Any], live: bool = True
    ) -> Moment:
        seed = self._looks[i].next()
        return Moment(observation, info, seed, self._simulated[i], i, live=live)

    def _rows(self, observations: Any) -> list[Any]:
        batched = gym.vector.utils.batch_space(self.venv.observation_space, self.num_envs)
        return env_views(batched, observations)

    def _infos(
        self, infos: Sequence[dict[str, Any]], finals: Mapping[int, EditedMoment]
    ) -> list[dict[str, Any]]:
        """Return the infos with the outcome of each frame; ``infos`` stay unchanged."""
        result = []
        for i, info in enumerate(infos):
            added = {**info, **self._last[i].info(self._plain)}
            if i in finals:
                added[FINAL] = self._moments.replace(info[FINAL], finals[i])
                added["terminal_info"] = finals[i].info(self._plain)
            result.append(added)
        return result

    def _begin(self, indices: Any, result: Any, reset_seeds: Sequence[int | None]) -> None:
        views = self._rows(result) if self._recorders else []
        for i in indices if self._recorders else []:
            self._recorders[i].begin(views[i], self._last[i], reset_seeds[i])

    def _record(
        self,
        result: Any,
        rewards: Any,
        dones: Any,
        infos: Sequence[dict[str, Any]],
        finals: Mapping[int, EditedMoment],
    ) -> None:
        views = self._rows(result) if self._recorders else []
        for i, recorder in enumerate(self._recorders):
            over = bool(dones[i])
            observation = infos[i][FINAL] if over else views[i]
            edited = finals[i] if over else self._last[i]
            recorder.step(self._actions[i], rewards[i], over, observation, edited, infos[i])
        self._begin(np.flatnonzero(dones).tolist(), result, [None] * self.num_envs)


def _described(venv: VecEnv) -> Any:
    """Return the first env for the store's metadata, where it can be reached."""
    reached = getattr(venv.unwrapped, "envs", None)
    return reached[0] if reached else _Unnamed()


@final
class _Unnamed:
    """Stands for an env in another process, of which nothing is known."""

    spec = None
    metadata: Mapping[str, Any] = {}
