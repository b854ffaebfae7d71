"""The wrapper for one environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, SupportsFloat, final

import gymnasium as gym

from spie_robo.editing.by_name import (
    GuardOption,
    recorded_editor,
    recorded_geometry,
    recorded_guard,
    resolve_editor,
    resolve_guard,
)
from spie_robo.editing.guarded_editor import GuardedEditor, OnError
from spie_robo.types import ImageEditor, References
from spie_robo.wrappers.cameras import CameraNames, find_cameras
from spie_robo.wrappers.geometry_sources import GeometryOption, GeometrySource
from spie_robo.wrappers.look_seeds import LookSeeds, SeedPer
from spie_robo.wrappers.moments import EditedMoment, Moment, MomentEditor
from spie_robo.wrappers.recorder import RecordOption, open_recorders, whole_or_dropped


@final
class RealismWrapper(
    gym.ObservationWrapper[Any, Any, Any],
    gym.utils.RecordConstructorArgs,
):
    """Makes the camera images of an environment look real, and keeps all else as it is.

    Images are found in the observation by their shape: a uint8 ``Box`` of shape (height, width,
    3), alone or in (nested) ``Dict`` observations; an env that only renders is wrapped in
    :class:`gymnasium.wrappers.AddRenderObservation` first. The observation space, rewards,
    actions, terminations and the env's own random numbers do not change. Each step adds to the
    info:

    * ``info["realism"]``: ``{camera: GuardedEdit}``: the image, whether it is an edit or the raw
      frame, the guard's verdict, the seed, and the error if the editor failed.
    * ``info["raw"]``: ``{camera: uint8 (height, width, 3)}``: what the env rendered.

    Equal reset seeds give equal looks. An editor given by name is loaded at the first reset.

    The spec keeps the editor's name or id, so ``gym.make(env.spec)`` builds the env again; settings
    that an ``Editor`` was given in Python are not part of its id. Of an editor or guard that is an
    object of your own, or a ``geometry`` that is more than a plain function, it keeps a note: then
    ``gym.make(env.spec)`` raises an :class:`~spie_robo.errors.EnvError` that names the object. It
    does not keep ``record``: a rebuilt env would write to the same store.

    Example:
        >>> import gymnasium as gym, numpy as np
        >>> import spie_robo.envs
        >>> from spie_robo.types import EditResult
        >>> from spie_robo.wrappers import RealismWrapper
        >>> class Negative:
        ...     id = "negative"
        ...     def edit(self, frames, references=None, instruction=None, seeds=None):
        ...         return [EditResult(255 - frame.rgb, 0, "", self.id, 1) for frame in frames]
        >>> env = RealismWrapper(gym.make("SpieRobo/Reach-v0"), Negative(), guard=None)
        >>> observation, info = env.reset(seed=0)
        >>> observation in env.observation_space
        True
        >>> np.array_equal(observation["wrist"], 255 - info["raw"]["wrist"])
        True
        >>> info["realism"]["wrist"].edited
        True
        >>> env.close()
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        editor: str | ImageEditor = "embedded",
        *,
        references: References | None = None,
        instruction: str | None = None,
        guard: GuardOption = "default",
        cameras: CameraNames | None = None,
        seed_per: SeedPer = "episode",
        retries: int = 1,
        on_error: OnError = "raise",
        geometry: GeometryOption = None,
        record: RecordOption = None,
    ) -> None:
        """Wrap ``env``.

        Args:
            env: An environment with camera images in its observations.
            editor: What ``Editor.from_pretrained`` takes (``"embedded"``, ``"embedded-labs"`` for
                another lab at every reset, a folder, a Hub id), or an editor.
            references: Photos of the look to give; None uses the editor's own.
            instruction: Text for the editor; None uses the editor's own.
            guard: ``"default"`` is ``GeometryGuard()``; None accepts every edit.
            cameras: Which images to edit, by name or ``{camera: key}``; None takes all.
            seed_per: How often the look changes: every ``"episode"`` or every ``"step"``.
            retries: Further seeds to try for an edit that the guard rejects.
            on_error: On a failing editor, ``"raise"``, or ``"passthrough"`` the raw frame.
            geometry: Where each frame's geometry comes from: None for ``info["geometry"]``,
                :class:`~spie_robo.wrappers.GeometryKeys` for observation keys, or
                ``function(env, observation, info) -> {camera: Geometry}``.
            record: Path of an episode store, or an open writer, that episodes go to as they
                happen; one that fails, or is not over at :meth:`close` or a reset, is dropped.

        Raises:
            EnvError: If the env has no images, lacks a named camera, or its images are too small.
            ConfigError: If a setting is out of its range.
        """
        made = resolve_editor(editor)
        guarded = GuardedEditor(
            made, resolve_guard(guard, made), references, instruction, retries, on_error
        )
        gym.utils.RecordConstructorArgs.__init__(
            self,
            editor=recorded_editor(editor),
            references=str(references) if isinstance(references, Path) else references,
            instruction=instruction,
            guard=recorded_guard(guard),
            cameras=cameras,
            seed_per=seed_per,
            retries=retries,
            on_error=on_error,
            geometry=recorded_geometry(geometry),
        )
        gym.ObservationWrapper.__init__(self, env)
        found = find_cameras(env.observation_space, cameras)
        self._moments = MomentEditor(found, guarded, GeometrySource(geometry))
        self._seeds = LookSeeds(seed_per)
        self._recorders = open_recorders(record, self, guarded, found, 1)
        self._autoreset, self._restarts = _resets_itself(env), False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the env, choose the look of the episode, and edit the first frames."""
        with whole_or_dropped(self._recorders):
            observation, info = self.env.reset(seed=seed, options=options)
            result, edited = self._begin(observation, info, seed)
        return result, {**info, **edited.info()}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the env and edit the new frames."""
        began, self._restarts = self._restarts, False
        with whole_or_dropped(self._recorders):
            observation, reward, terminated, truncated, info = self.env.step(action)
            over = bool(terminated or truncated)
            if began:
                result, edited = self._begin(observation, info, None)
            else:
                edited = self._edit(observation, info)
                result = self._moments.replace(observation, edited)
                for recorder in self._recorders:
                    recorder.step(action, float(reward), over, result, edited, info)
        self._restarts = over and self._autoreset
        return result, reward, terminated, truncated, {**info, **edited.info()}

    def observation(self, observation: Any) -> Any:
        """Edit an observation outside of a step, with the episode's look and no info."""
        return self._moments.replace(observation, self._edit(observation, {}))

    def close(self) -> None:
        """Close the store, without the episode in progress, and the env."""
        for recorder in self._recorders:
            recorder.close()
        super().close()

    def _begin(
        self, observation: Any, info: dict[str, Any], seed: int | None
    ) -> tuple[Any, EditedMoment]:
        """The first moment of an episode."""
        self._restarts = False
        self._seeds.begin(seed, lambda: self.env.np_random_seed)
        edited = self._edit(observation, info)
        result = self._moments.replace(observation, edited)
        for recorder in self._recorders:
            recorder.begin(result, edited, seed)
        return result, edited

    def _edit(self, observation: Any, info: dict[str, Any]) -> EditedMoment:
        return self._moments.edit(self.env, [Moment(observation, info, self._seeds.next())])[0]


def _resets_itself(env: gym.Env[Any, Any]) -> bool:
    """Whether a step after an episode's end begins the next, as ``Autoreset`` has it."""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.wrappers.Autoreset):
            return True
        env = env.env
    return False
