"""A :class:`SceneState` and a :class:`Style` as a Mitsuba 3 scene: camera, lights, shapes."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.scene_state import TABLE_POINT, CameraPose, SceneState
from spie_robo.envs.twin.mitsuba_materials import (
    flat_bsdf,
    instance_bsdf,
    linear_color,
    rgb_value,
    styled_bsdf,
)
from spie_robo.envs.twin.mitsuba_shapes import scene_shapes
from spie_robo.envs.twin.mitsuba_variant import mitsuba, transform
from spie_robo.envs.twin.style import Lamp, Style

_BLOCK_SIZE = 32
"""Pixels. Each block has random numbers of its own, and left alone Mitsuba shrinks the blocks until
every thread has one: then the image would depend on the number of cores."""

_FAR = 100.0

_ABOVE_CAMERAS = 0.15
"""Metres."""

_CENTRES = {"type": "stratified", "sample_count": 1, "jitter": False}
"""A sampler whose one ray goes through the middle of each pixel."""


def build_scene(
    state: SceneState, camera: CameraPose, style: Style, samples: int, seed: int
) -> Any:
    """The scene as one camera sees it, ready for ``mitsuba.render``.

    Args:
        state: What is where.
        camera: Where to look from.
        style: What it is made of and lit by.
        samples: Samples per pixel.
        seed: Seed of the sampler.

    Returns:
        A ``mitsuba.Scene`` whose integrator also yields albedo and shading normals.
    """
    integrator = {
        "type": "aov",
        "aovs": "albedo:albedo,normal:sh_normal",
        "block_size": _BLOCK_SIZE,
        "image": {"type": "path", "max_depth": 4, "block_size": _BLOCK_SIZE},
    }
    scene: dict[str, Any] = {
        "type": "scene",
        "integrator": integrator,
        "sensor": _camera(camera, samples, seed),
        **_lights(style, state),
        **dict(scene_shapes(state, functools.partial(styled_bsdf, style=style))),
    }
    built = mitsuba().load_dict(scene)
    _order_lamps(built, style)
    return built


def build_flat_scene(
    state: SceneState, camera: CameraPose, sun: tuple[float, float, float], ambient: float
) -> Any:
    """A scene as plain simulators draw it: own colours, no gloss, light from one direction.

    Args:
        state: What is where.
        camera: Where to look from.
        sun: Direction that the light travels in, world frame.
        ambient: Share of the light that comes from everywhere, 0 to 1.
    """
    sunlight = np.pi * (1 - ambient)
    scene: dict[str, Any] = {
        "type": "scene",
        "integrator": {
            "type": "aov",
            "aovs": "albedo:albedo,normal:sh_normal",
            "block_size": _BLOCK_SIZE,
            "image": {"type": "path", "max_depth": 2, "block_size": _BLOCK_SIZE},
        },
        "sensor": _camera(camera, samples=4, seed=0),
        "ambient": {"type": "constant", "radiance": {"type": "rgb", "value": ambient}},
        "sun": {
            "type": "directional",
            "direction": list(sun),
            "irradiance": {"type": "rgb", "value": sunlight},
        },
        **dict(scene_shapes(state, flat_bsdf)),
    }
    return mitsuba().load_dict(scene)


def build_instance_scene(state: SceneState, camera: CameraPose) -> Any:
    """A scene whose albedo channel shows each instance in a flat colour of its own.

    It shares every line of geometry with :func:`build_scene`; the alignment test reads it with
    :func:`spie_robo.envs.twin.mitsuba_materials.instances_of`.
    """
    scene: dict[str, Any] = {
        "type": "scene",
        "integrator": {"type": "aov", "aovs": "albedo:albedo", "image": {"type": "direct"}},
        "sensor": {**_camera(camera, samples=1, seed=0), "sampler": _CENTRES},
        **dict(scene_shapes(state, instance_bsdf)),
    }
    return mitsuba().load_dict(scene)


def _camera(camera: CameraPose, samples: int, seed: int) -> dict[str, Any]:
    # Mitsuba's camera looks along +z with +x to the left: OpenCV's, turned half around z.
    to_world = np.linalg.inv(camera.extrinsics) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    return {
        "type": "perspective",
        "fov": camera.vertical_fov,
        "fov_axis": "y",
        "near_clip": camera.near,
        "far_clip": max(_FAR, camera.far),
        "to_world": transform(to_world),
        "sampler": {"type": "independent", "sample_count": samples, "seed": seed},
        "film": {
            "type": "hdrfilm",
            "width": camera.width,
            "height": camera.height,
            "rfilter": {"type": "box"},
            "pixel_format": "rgb",
            "component_format": "float32",
        },
    }


def _lights(style: Style, state: SceneState) -> dict[str, Any]:
    """Ambient light and lamps that together light a white sheet at the focus to radiance 1."""
    total = style.ambient_strength + sum(lamp.strength for lamp in style.lamps)
    ambient = style.ambient_strength / total * linear_color(style.ambient)
    lights: dict[str, Any] = {"ambient": {"type": "constant", "radiance": rgb_value(ambient)}}
    for index, offset in enumerate(_lamp_offsets(style, state)):
        lamp = style.lamps[index]
        radiance = lamp.strength / total * linear_color(lamp.color)
        lights[f"lamp_{index}"] = {
            "type": "rectangle",
            "to_world": _lamp_pose(lamp, offset + state.focus),
            "emitter": {
                "type": "area",
                "radiance": rgb_value(radiance / _form_factor(lamp, offset)),
            },
        }
    return lights


def _lamp_offsets(style: Style, state: SceneState) -> list[NDArray[np.float64]]:
    """Return where each lamp hangs, seen from the focus; all hang above all cameras.

    A camera above a lamp would see its black back instead of the scene.
    """
    offsets = [np.array(lamp.position) - TABLE_POINT for lamp in style.lamps]
    eyes = [float(np.linalg.inv(camera.extrinsics)[2, 3]) for camera in state.cameras]
    if not offsets or not eyes:
        return offsets
    missing = max(eyes) + _ABOVE_CAMERAS - state.focus[2] - min(offset[2] for offset in offsets)
    raised = np.array([0.0, 0.0, max(0.0, missing)])
    return [offset + raised for offset in offsets]


def _order_lamps(scene: Any, style: Style) -> None:
    """Let equal scenes draw equal random numbers.

    Mitsuba lists the emitters of a scene by their addresses, which differ from run to run, and
    the path tracer picks them by number. Where the list is not the usual one, lamps swap places.
    """
    listed = [shape.id() for shape in scene.shapes() if shape.is_emitter()]
    wanted = [f"lamp_{index}" for index in reversed(range(len(style.lamps)))]
    if listed == wanted:
        return
    parameters = mitsuba().traverse(scene)
    names = ("to_world", "emitter.radiance.value")
    values = {
        (key, name): type(parameters[f"{key}.{name}"])(parameters[f"{key}.{name}"])
        for key in wanted
        for name in names
    }
    for slot, key in zip(listed, wanted, strict=True):
        for name in names:
            parameters[f"{slot}.{name}"] = values[key, name]
    parameters.update()


def _lamp_pose(lamp: Lamp, position: NDArray[np.float64]) -> Any:
    pose = np.diag([lamp.size / 2, -lamp.size / 2, -1.0, 1.0])
    pose[:3, 3] = position
    return transform(pose)


def _form_factor(lamp: Lamp, offset: NDArray[np.float64]) -> float:
    """Share of the focus's hemisphere (cosine-weighted) that a small lamp fills."""
    distance = float(np.linalg.norm(offset))
    cosine = offset[2] / distance
    return float(lamp.size**2 * cosine**2 / (np.pi * distance**2 + lamp.size**2))
