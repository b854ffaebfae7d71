"""Shared by every simulator that is built on MuJoCo: from an image's key to its view."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from spie_robo.errors import EnvError
from spie_robo.simulators.mujoco_scene import MujocoRenderers, MujocoWorld, is_fixed, up_axis
from spie_robo.simulators.orientation import ROTATED, UPRIGHT, Orientation
from spie_robo.simulators.views import (
    CameraView,
    ObservedCamera,
    ViewRequest,
    resized,
    simulator_camera,
)

_UPSIDE_DOWN = -0.2
"""Height of a fixed camera's up axis below which it hangs upside down; -1 is just so."""


class MujocoSimulator(ABC):
    """Answers requests for a simulator that is built on MuJoCo.

    A subclass says where its envs keep the MuJoCo world, and how they store their pictures.
    """

    def __init__(self, cameras: Mapping[str, str] | None, stored: Orientation = UPRIGHT) -> None:
        """Choose the cameras; nothing is drawn yet.

        Args:
            cameras: ``{camera of the wrapper: camera of the model}``, where names differ.
            stored: How the env's pictures lie in memory, compared with what MuJoCo draws.
        """
        self._cameras = dict(cameras or {})
        self._stored = stored
        self._renderers = MujocoRenderers()
        self._warned: set[str] = set()

    @property
    @abstractmethod
    def name(self) -> str:
        """The name that people use."""

    @abstractmethod
    def find(self, env: Any) -> MujocoWorld | None:
        """Return the MuJoCo world inside an env; None if it has none."""

    def views(self, request: ViewRequest) -> Mapping[str, CameraView]:
        """Return what MuJoCo knows about the cameras of a request, by name.

        Raises:
            EnvError: If there is no MuJoCo world in the env, or MuJoCo cannot draw here.
        """
        if not request.live:
            return {}
        scene = self.find(request.env)
        if scene is None:
            raise EnvError(
                f"geometry: expected a {self.name} environment, found no MuJoCo model in "
                f"{request.env}. Give it: geometry=MuJoCo(model, data)."
            )
        found = {}
        for camera in request.cameras:
            source = self._source(scene, camera, len(request.cameras))
            if source is not None:
                found[camera.name] = self._view(scene, camera, source)
        return found

    def close(self) -> None:
        """Free the renderers."""
        self._renderers.close()

    def _view(self, scene: MujocoWorld, camera: ObservedCamera, source: Any) -> CameraView:
        # In the size that the env draws: what was squeezed afterwards is squeezed alike.
        height, width = scene.native_size or (camera.height, camera.width)
        drawn = self._renderers.geometry(scene, source, height, width)
        mounted = ROTATED if _hangs_upside_down(scene, source) else UPRIGHT
        upright = mounted.turn_geometry(resized(drawn, camera.height, camera.width))
        orientation = Orientation(
            self._stored.rows != mounted.rows, self._stored.columns != mounted.columns
        )
        return CameraView(upright, orientation)

    def _source(self, scene: MujocoWorld, camera: ObservedCamera, count: int) -> Any:
        """Return the camera that took an image: a name, or what ``env.render()`` looks through."""
        known = scene.camera_names
        name = simulator_camera(camera, known, self._cameras)
        if name is not None and name not in known:
            raise EnvError(
                f"geometry: camera {camera.name!r}: expected one of the model's cameras {known}, "
                f"got {name!r}."
            )
        if name is not None:
            return name
        if scene.render_camera is not None and (count == 1 or camera.path[-1:] == ("pixels",)):
            return scene.render_camera
        if camera.name not in self._warned:
            self._warned.add(camera.name)
            gym.logger.warn(
                "%s",
                f"geometry: no camera of the {self.name} model is called {camera.name!r}, so its "
                f"edits are judged without depth and segmentation. The model has {known}. Say "
                f"which it is: geometry={type(self).__name__}(cameras={{{camera.name!r}: ...}}).",
            )
        return None


def _hangs_upside_down(scene: MujocoWorld, source: Any) -> bool:
    """Return whether a camera that stands still has its up axis below the horizon."""
    number = scene.camera_names.index(source) if isinstance(source, str) else source
    number = getattr(number, "fixedcamid", number)  # an MjvCamera; -1 if it is free
    if number < 0 or not is_fixed(scene.model, number):
        return False
    return bool(up_axis(scene.model, scene.data, number)[2] < _UPSIDE_DOWN)
