"""Depth, segmentation and matrices of any MuJoCo scene, drawn by ``mujoco.Renderer``.

What MuJoCo does (seen on releases 3.3.0, 3.8.1 and 4.0.0): its pictures stand upright; depth is in
metres along the optical axis, and a pixel that sees nothing has the far plane's distance, which is
``zfar`` times the model's extent; the segmentation holds pairs (id, type of object), (-1, -1) for
nothing; cameras look along -z.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.errors import EnvError
from spie_robo.simulators.pinhole import frustum_intrinsics, look_extrinsics, seen
from spie_robo.types import Geometry

NOTHING = -1
"""Segmentation id of a pixel in which nothing was drawn."""

_INVISIBLE = 0.2
"""Opacity below which a thing is a helper that nobody sees, such as robosuite's grip sites."""


@final
@dataclass(frozen=True, eq=False)
class MujocoWorld:
    """A MuJoCo world as an env draws it.

    Attributes:
        model: A ``mujoco.MjModel``.
        data: Its ``mujoco.MjData``.
        option: The ``mujoco.MjvOption`` that the env draws with; None for MuJoCo's own.
        render_camera: What ``env.render()`` looks through: an ``MjvCamera``, an id, or None.
        native_size: (height, width) in which the env draws; None if unknown.
        gl_context: The class of ``mujoco.gl_context.GLContext`` that the env draws with; None for
            the one that ``MUJOCO_GL`` names.
        make_current: Makes the env's own GL context current, where the env does not do so before
            each picture.
    """

    model: Any
    data: Any
    option: Any = None
    render_camera: Any = None
    native_size: tuple[int, int] | None = None
    gl_context: Any = None
    make_current: Callable[[], Any] | None = None

    @property
    def camera_names(self) -> list[str]:
        """Names of the cameras of the model."""
        return [self.model.camera(i).name for i in range(self.model.ncam)]


@final
@dataclass
class MujocoRenderers:
    """Draws the geometry of MuJoCo scenes; keeps a renderer for each size of one model."""

    _model: Any = None
    _renderers: dict[tuple[int, int], Any] = field(default_factory=dict)
    _labels: SegmentLabels | None = None

    def geometry(self, scene: MujocoWorld, camera: Any, height: int, width: int) -> Geometry:
        """Return what a camera of a scene sees.

        Args:
            scene: The world.
            camera: An ``MjvCamera``, or the name or number of a camera of the model.
            height: Rows of the picture, 1 or more.
            width: Columns of the picture, 1 or more.

        Returns:
            The geometry of the picture that MuJoCo draws, upright. Segmentation ids are those of
            :class:`SegmentLabels`.

        Raises:
            EnvError: If MuJoCo cannot draw here.
        """
        with _current_context_kept(scene.make_current):
            return self._drawn(scene, camera, height, width)

    def _drawn(self, scene: MujocoWorld, camera: Any, height: int, width: int) -> Geometry:
        renderer = self._renderer(scene, height, width)
        renderer.update_scene(scene.data, camera, scene.option)
        _hide_invisible(renderer.scene)
        renderer.enable_depth_rendering()
        depth = renderer.render()
        renderer.disable_depth_rendering()
        renderer.enable_segmentation_rendering()
        objects = renderer.render()
        renderer.disable_segmentation_rendering()
        # The labels belong to the model, which the renderer has just been made for.
        labels = self._labels or SegmentLabels.of(scene.model)
        ids = labels.ids(objects)
        far = scene.model.vis.map.zfar * scene.model.stat.extent
        metres = seen(depth, far)
        metres[ids == NOTHING] = np.nan
        intrinsics, extrinsics = _matrices(renderer.scene, height, width)
        return Geometry(metres, ids, labels.names, intrinsics, extrinsics)

    def close(self) -> None:
        """Free the renderers."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers, self._model, self._labels = {}, None, None

    def _renderer(self, scene: MujocoWorld, height: int, width: int) -> Any:
        if scene.model is not self._model:  # robosuite, for one, makes a new one at every reset
            self.close()
            self._model, self._labels = scene.model, SegmentLabels.of(scene.model)
        if (height, width) not in self._renderers:
            self._renderers[height, width] = _new_renderer(scene, height, width)
        return self._renderers[height, width]


@final
@dataclass(frozen=True, eq=False)
class SegmentLabels:
    """One id and name for each thing that MuJoCo draws.

    A body with all its geoms is one thing and has the number of the body. What is fixed to the
    world (floor, walls, lamps) would all be body 0: there each geom is a thing of its own. Sites
    and the rest have ids above those.

    Attributes:
        names: What each id is called.
    """

    names: dict[int, str]
    _of_geom: NDArray[np.int32]
    _first_other: int

    @staticmethod
    def of(model: Any) -> SegmentLabels:
        """Number and name everything in a model."""
        bodies = np.asarray(model.geom_bodyid, np.int32)
        fixed = np.arange(model.ngeom, dtype=np.int32) + np.int32(model.nbody)
        of_geom = np.where(bodies == 0, fixed, bodies).astype(np.int32)
        names = {NOTHING: "background"}
        for body in range(1, model.nbody):
            names[body] = model.body(body).name or f"body_{body}"
        for geom in np.flatnonzero(bodies == 0).tolist():
            names[model.nbody + geom] = model.geom(geom).name or f"world_{geom}"
        first_other = int(model.nbody + model.ngeom)
        for site in range(model.nsite):
            names[first_other + site] = model.site(site).name or f"site_{site}"
        return SegmentLabels(names, of_geom, first_other)

    def ids(self, objects: NDArray[Any]) -> NDArray[np.int32]:
        """Return ids, int32 (height, width), of MuJoCo's pairs.

        Args:
            objects: (height, width, 2): number and type of the object in each pixel.
        """
        import mujoco

        # As numbers: from release 4 on, an enum equals a NumPy integer from one side only.
        geom, site = int(mujoco.mjtObj.mjOBJ_GEOM), int(mujoco.mjtObj.mjOBJ_SITE)
        numbers, types = objects[..., 0], objects[..., 1]
        ids = np.full(numbers.shape, NOTHING, np.int32)
        is_geom, is_site = types == geom, types == site
        ids[is_geom] = self._of_geom[numbers[is_geom]]
        ids[is_site] = self._first_other + numbers[is_site]
        # Tendons, skins and what else there is have no name; each type counts as one thing.
        other = (types >= 0) & ~is_geom & ~is_site
        ids[other] = self._first_other + len(self.names) + types[other]
        return ids


def up_axis(model: Any, data: Any, camera: int) -> NDArray[np.float64]:
    """Return where "up" of a camera's picture points in the world, (3,)."""
    return np.array(np.reshape(data.cam_xmat[camera], (3, 3))[:, 1], np.float64)


def is_fixed(model: Any, camera: int) -> bool:
    """Return whether a camera is mounted to the world, or to what is welded to it."""
    return bool(model.body_weldid[model.cam_bodyid[camera]] == 0)


def _hide_invisible(scene: Any) -> None:
    """Collapse what is all but transparent: depth and segmentation would draw it as solid."""
    for geom in scene.geoms[: scene.ngeom]:
        if geom.rgba[3] < _INVISIBLE:
            geom.mat[:] = 0.0


def _new_renderer(scene: MujocoWorld, height: int, width: int) -> Any:
    import mujoco

    with _room_for(scene.model, height, width), _drawn_with(scene.gl_context):
        try:
            return mujoco.Renderer(scene.model, height, width)
        except Exception as error:  # each GL library fails in its own way
            raise EnvError(
                f"MuJoCo cannot draw the geometry of a {width}x{height} picture: {error!r}. Set "
                "MUJOCO_GL=egl (package libegl1) or osmesa (libosmesa6) before mujoco is imported, "
                'or edit without it: geometry="none".'
            ) from error


@contextmanager
def _current_context_kept(make_current: Callable[[], Any] | None) -> Iterator[None]:
    """Leave the GL context current that was current before.

    robosuite and dm_control do not make theirs current before each picture: their next one would
    be drawn in the context of the renderer here, with whatever textures have the same numbers.
    """
    restore = make_current or _egl_restorer()
    try:
        yield
    finally:
        if restore is not None:
            restore()


def _egl_restorer() -> Callable[[], Any] | None:
    """Return what makes the current EGL context current again; None if there is none."""
    egl = sys.modules.get("OpenGL.EGL")
    context = egl.eglGetCurrentContext() if egl is not None else None
    if egl is None or not context:
        return None
    display = egl.eglGetCurrentDisplay()
    surfaces = egl.eglGetCurrentSurface(egl.EGL_DRAW), egl.eglGetCurrentSurface(egl.EGL_READ)
    return lambda: egl.eglMakeCurrent(display, *surfaces, context)


@contextmanager
def _drawn_with(gl_context: Any) -> Iterator[None]:
    """Let a renderer be made with the GL library that the env draws with.

    Gymnasium tries one library after the other; MuJoCo's renderer knows only ``MUJOCO_GL``.
    """
    import mujoco

    module = sys.modules[mujoco.Renderer.__module__].gl_context
    before = getattr(module, "GLContext", None)
    if gl_context is not None:
        module.GLContext = gl_context
    try:
        yield
    finally:
        module.GLContext = before


@contextmanager
def _room_for(model: Any, height: int, width: int) -> Iterator[None]:
    """Let a renderer of this size be made, and leave the model as it was."""
    limits = model.vis.global_
    before = (limits.offheight, limits.offwidth)
    limits.offheight, limits.offwidth = max(before[0], height), max(before[1], width)
    try:
        yield
    finally:
        limits.offheight, limits.offwidth = before


def _matrices(
    scene: Any, height: int, width: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return intrinsics (3, 3) and extrinsics (4, 4) of the camera that a scene is drawn with."""
    # Two eyes for stereo; a picture is drawn from the middle between them.
    left, right = scene.camera[0], scene.camera[1]
    position = (np.array(left.pos) + np.array(right.pos)) / 2
    centre = (left.frustum_center + right.frustum_center) / 2
    bottom, top, near = left.frustum_bottom, left.frustum_top, left.frustum_near
    half = float(left.frustum_width) or 0.5 * (top - bottom) * width / height
    intrinsics = frustum_intrinsics(centre - half, centre + half, bottom, top, near, height, width)
    return intrinsics, look_extrinsics(position, left.forward, left.up)
