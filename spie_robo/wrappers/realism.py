"""The wrapper for one environment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, SupportsFloat, TypeAlias, final

import gymnasium as gym
import numpy as np

from spie_robo.editing.by_name import (
    GuardOption,
    recorded_editor,
    recorded_geometry,
    recorded_guard,
    resolve_editor,
    resolve_guard,
)
from spie_robo.editing.guarded_editor import GuardedEditor, OnError
from spie_robo.settings.ranges import one_of
from spie_robo.types import RGB, ImageEditor, References
from spie_robo.wrappers.cameras import CameraNames, find_cameras
from spie_robo.wrappers.geometry_sources import GeometryOption, GeometrySource
from spie_robo.wrappers.look_seeds import LookSeeds, SeedPer
from spie_robo.wrappers.moments import EditedMoment, Moment, MomentEditor
from spie_robo.wrappers.recorder import (
    RecordOption,
    Unfinished,
    close_recorders,
    open_recorders,
    whole_or_dropped,
)

Shown: TypeAlias = Literal["raw", "edited"]
"""Kind of picture that ``render()`` shows."""

InfoForm: TypeAlias = Literal["records", "plain"]
"""Form of the entries of the info: records of this package, or numbers and arrays."""


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

    An image may have alpha, be a batch of one, or a torch tensor on any device; what is handed back
    has the same form. The simulator that the env stands on is found by itself, and with it depth,
    segmentation and which way up its pictures lie (:mod:`spie_robo.simulators`). Pictures are
    edited upright, and handed back as the env had them, so that a policy sees what its env shows:
    ``upright=True`` hands them out upright instead, to the observation, the info and the store.

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
        upright: bool = False,
        record: RecordOption = None,
        unfinished: Unfinished = "store",
        shown: Shown = "raw",
        infos: InfoForm = "records",
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
            geometry: Where each frame's geometry comes from: None for ``info["geometry"]`` or
                else the simulator that is found, a simulator or its name, ``"none"`` for no
                geometry, :class:`~spie_robo.wrappers.GeometryKeys` for observation keys, or
                ``function(env, observation, info) -> {camera: Geometry}``.
            upright: Hand out pictures that stand upright, however the env had them.
            record: Path of an episode store, or an open writer, that episodes go to as they
                happen. One that fails is dropped, and a warning says so.
            unfinished: What becomes of an episode that is not over at :meth:`close` or a reset,
                as one that a ``TimeLimit`` around this wrapper ended: ``"store"`` or ``"drop"``.
            shown: What :meth:`render` shows: the env's own ``"raw"`` picture, or the ``"edited"``
                cameras side by side.
            infos: ``"records"``, or ``"plain"`` numbers and arrays, which
                ``gymnasium.wrappers.NumpyToTorch`` around this wrapper can convert.

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
            upright=upright,
            unfinished=unfinished,
            shown=shown,
            infos=infos,
        )
        gym.ObservationWrapper.__init__(self, env)
        self._shown = one_of("shown", shown, ("raw", "edited"))
        self._plain = one_of("infos", infos, ("records", "plain")) == "plain"
        found = find_cameras(env.observation_space, cameras)
        source = GeometrySource(geometry)
        self._moments = MomentEditor(found, guarded, [source], upright)
        self._seeds = LookSeeds(seed_per)
        self._recorders = open_recorders(record, self, guarded, found, 1, unfinished)
        self._autoreset, self._restarts = _resets_itself(env), False
        self._last: EditedMoment | None = None

    @property
    def simulator(self) -> str:
        """The simulator that geometry is read from; empty before the first reset."""
        return self._moments.sources[0].name

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the env, choose the look of the episode, and edit the first frames."""
        with whole_or_dropped(self._recorders):
            for recorder in self._recorders:
                recorder.finish()
            observation, info = self.env.reset(seed=seed, options=options)
            result, edited = self._begin(observation, info, seed)
        return result, {**info, **edited.info(self._plain)}

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
                    recorder.step(action, reward, over, result, edited, info)
        self._restarts = over and self._autoreset
        return result, reward, terminated, truncated, {**info, **edited.info(self._plain)}

    def observation(self, observation: Any) -> Any:
        """Edit an observation outside of a step, with the episode's look and no info."""
        return self._moments.replace(observation, self._edit(observation, {}))

    def render(self) -> Any:
        """Render the env, or show the edited cameras; see ``shown``."""
        if self._shown == "raw" or self._last is None:
            return self.env.render()
        edits, turns = self._last.edits, self._last.orientations
        return side_by_side([turns[name].turn(edit.rgb) for name, edit in edits.items()])

    def close(self) -> None:
        """Close the store, with the episode in progress, and the env."""
        close_recorders(self._recorders)
        self._moments.close()
        super().close()

    def _begin(
        self, observation: Any, info: dict[str, Any], seed: int | None
    ) -> tuple[Any, EditedMoment]:
        """Return the first moment of an episode."""
        self._restarts = False
        self._seeds.begin(seed, lambda: self.env.np_random_seed)
        edited = self._edit(observation, info)
        result = self._moments.replace(observation, edited)
        for recorder in self._recorders:
            recorder.begin(result, edited, seed)
        return result, edited

    def _edit(self, observation: Any, info: dict[str, Any]) -> EditedMoment:
        moment = Moment(observation, info, self._seeds.next(), self.env)
        (self._last,) = self._moments.edit([moment])
        return self._last


def side_by_side(pictures: Sequence[RGB]) -> RGB:
    """Return pictures in a row, lower ones filled up with black at the bottom.

    Args:
        pictures: One or more, uint8 (height, width, 3).
    """
    height = max(picture.shape[0] for picture in pictures)
    filled = [np.pad(p, ((0, height - p.shape[0]), (0, 0), (0, 0))) for p in pictures]
    return np.concatenate(filled, axis=1)


def _resets_itself(env: gym.Env[Any, Any]) -> bool:
    """Return whether a step after an episode's end begins the next, as with ``Autoreset``."""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.wrappers.Autoreset):
            return True
        env = env.env
    return False
