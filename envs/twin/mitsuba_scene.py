"""A :class:`SceneState` and a :class:`Style` as a Mitsuba 3 scene.

Meshes become shape groups that are built once per process, so that a frame costs only the
placing of instances and not the loading of a hundred thousand triangles.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.scene_state import CameraPose, SceneState, Shape
from spie_robo.envs.twin.obj_mesh import load_obj
from spie_robo.envs.twin.sensor import srgb_to_linear
from spie_robo.envs.twin.style import Color, Lamp, Material, Style
from spie_robo.envs.twin.textures import texture
from spie_robo.errors import MissingExtraError

Bsdf = dict[str, Any]

_BLOCK_SIZE = 32
"""Pixels. Each block has random numbers of its own, and left alone Mitsuba shrinks the blocks until
every thread has one: then the image would depend on the number of cores."""

_DRAWN_SPHERE = 0.966
"""TinyRenderer draws a sphere as a hull of 42 vertices inside it, whose silhouette has the area of
a sphere this much smaller. The twin follows what the simulator's camera shows."""


@functools.cache
def mitsuba() -> Any:
    """Mitsuba in its scalar variant, which needs no LLVM.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import mitsuba as mi
    except ImportError as error:
        raise MissingExtraError(
            "The photoreal twin needs Mitsuba 3: pip install 'spie-robo[photoreal]'."
        ) from error
    mi.set_variant("scalar_rgb")
    mi.set_log_level(mi.LogLevel.Error)
    return mi


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
        **_lights(style),
        **dict(_shapes(state, functools.partial(_styled_bsdf, style=style))),
    }
    built = mitsuba().load_dict(scene)
    _order_lamps(built, style)
    return built


def build_instance_scene(state: SceneState, camera: CameraPose) -> Any:
    """A scene whose albedo channel shows each instance in a flat colour of its own.

    It shares every line of geometry with :func:`build_scene`; the alignment test reads it.
    Instance ``i`` has albedo ``(i + 1) / 100``.
    """
    scene: dict[str, Any] = {
        "type": "scene",
        "integrator": {"type": "aov", "aovs": "albedo:albedo", "image": {"type": "direct"}},
        "sensor": _camera(camera, samples=1, seed=0),
        **dict(_shapes(state, _instance_bsdf)),
    }
    return mitsuba().load_dict(scene)


_TABLE_POINT = np.array([0.4, 0.0, 0.0])


def _camera(camera: CameraPose, samples: int, seed: int) -> dict[str, Any]:
    # Mitsuba's camera looks along +z with +x to the left: OpenCV's, turned half around z.
    to_world = np.linalg.inv(camera.extrinsics) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    return {
        "type": "perspective",
        "fov": camera.vertical_fov,
        "fov_axis": "y",
        "near_clip": camera.near,
        "far_clip": 100.0,
        "to_world": _transform(to_world),
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


def _transform(matrix: NDArray[np.floating[Any]]) -> Any:
    return mitsuba().ScalarTransform4f(matrix.tolist())


def _lights(style: Style) -> dict[str, Any]:
    """Ambient light and lamps that together light a white sheet on the table to radiance 1."""
    total = style.ambient_strength + sum(lamp.strength for lamp in style.lamps)
    ambient = style.ambient_strength / total * _linear(style.ambient)
    lights: dict[str, Any] = {"ambient": {"type": "constant", "radiance": _rgb(ambient)}}
    for index, lamp in enumerate(style.lamps):
        share = lamp.strength / total
        lights[f"lamp_{index}"] = {
            "type": "rectangle",
            "to_world": _lamp_pose(lamp),
            "emitter": {
                "type": "area",
                "radiance": _rgb(share * _linear(lamp.color) / _form_factor(lamp)),
            },
        }
    return lights


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


def _lamp_pose(lamp: Lamp) -> Any:
    pose = np.diag([lamp.size / 2, -lamp.size / 2, -1.0, 1.0])
    pose[:3, 3] = lamp.position
    return _transform(pose)


def _form_factor(lamp: Lamp) -> float:
    """Share of the table point's hemisphere (cosine-weighted) that a small lamp fills."""
    offset = np.array(lamp.position) - _TABLE_POINT
    distance = float(np.linalg.norm(offset))
    cosine = offset[2] / distance
    return float(lamp.size**2 * cosine**2 / (np.pi * distance**2 + lamp.size**2))


def _shapes(
    state: SceneState, bsdf_of: Callable[[Shape, Color], Bsdf]
) -> Iterator[tuple[str, Any]]:
    for index, shape in enumerate(state.shapes):
        key = f"shape_{index}"
        if shape.kind == "mesh":
            group = _mesh_group(shape, bsdf_of)
            pose = _transform(shape.pose @ np.diag([*shape.size, 1.0]))
            # Mitsuba finds a group only if it is a child of the scene and comes first.
            yield f"{key}_group", group
            yield key, {"type": "instance", "group": group, "to_world": pose}
            continue
        bsdf = bsdf_of(shape, shape.color)
        for part, (kind, local) in enumerate(_primitives(shape)):
            pose = _transform(shape.pose @ local)
            yield f"{key}_{part}", {"type": kind, "to_world": pose, "bsdf": bsdf}


def _primitives(shape: Shape) -> list[tuple[str, NDArray[np.float64]]]:
    if shape.kind == "box":
        return [("cube", np.diag([*(edge / 2 for edge in shape.size), 1.0]))]
    if shape.kind == "sphere":
        return [("sphere", np.diag([_DRAWN_SPHERE * shape.size[0]] * 3 + [1.0]))]
    length, radius = shape.size
    side = np.diag([radius, radius, length, 1.0])
    side[2, 3] = -length / 2
    top = np.diag([radius, radius, 1.0, 1.0])
    top[2, 3] = length / 2
    bottom = np.diag([radius, -radius, -1.0, 1.0])
    bottom[2, 3] = -length / 2
    return [("cylinder", side), ("disk", top), ("disk", bottom)]


def _mesh_group(shape: Shape, bsdf_of: Callable[[Shape, Color], Bsdf]) -> Any:
    """The shape group of a mesh; robots keep their material in every style, so it is cached."""
    if bsdf_of is _instance_bsdf:
        return _build_group(shape, bsdf_of)
    key = (shape.mesh, shape.name)
    if key not in _group_cache:
        _group_cache[key] = _build_group(shape, bsdf_of)
    return _group_cache[key]


_group_cache: dict[tuple[str, str], Any] = {}


def _build_group(shape: Shape, bsdf_of: Callable[[Shape, Color], Bsdf]) -> Any:
    mi = mitsuba()
    group: dict[str, Any] = {"type": "shapegroup"}
    for index, part in enumerate(_load_parts(shape.mesh)):
        properties = mi.Properties()
        properties["bsdf"] = mi.load_dict(bsdf_of(shape, part.color))
        count = len(part.vertices)
        mesh = mi.Mesh(
            f"part_{index}", count, count // 3, has_vertex_normals=True, props=properties
        )
        parameters = mi.traverse(mesh)
        parameters["vertex_positions"] = part.vertices.ravel()
        parameters["vertex_normals"] = part.normals.ravel()
        parameters["faces"] = np.arange(count, dtype=np.uint32)
        parameters.update()
        group[f"part_{index}"] = mesh
    return mi.load_dict(group)


_load_parts = functools.cache(load_obj)


def _styled_bsdf(shape: Shape, color: Color, style: Style) -> Bsdf:
    surfaces = {"table": style.table, "wall": style.wall, "floor": style.floor}
    if shape.name in surfaces:
        return _material_bsdf(surfaces[shape.name], shape)
    roughness = 0.35 if shape.kind == "mesh" else style.object_roughness
    return _principled({"type": "rgb", "value": _linear(color).tolist()}, roughness, 0.5)


def _instance_bsdf(shape: Shape, color: Color) -> Bsdf:
    value = (shape.instance + 1) / 100
    return {"type": "diffuse", "reflectance": {"type": "rgb", "value": [value] * 3}}


def _material_bsdf(material: Material, shape: Shape) -> Bsdf:
    if max(shape.size) < 1.0 or (material.pattern == "plain" and shape.name == "wall"):
        base: dict[str, Any] = {"type": "rgb", "value": _linear(material.color).tolist()}
        return _principled(base, material.roughness, material.specular)
    repeats = max(1, round(max(shape.size) / 1.5))
    base = {
        "type": "bitmap",
        "bitmap": _bitmap(material),
        "to_uv": mitsuba().ScalarTransform4f().scale([repeats, repeats, 1]),
        "raw": True,
    }
    return _principled(base, material.roughness, material.specular)


@functools.lru_cache(maxsize=32)
def _bitmap(material: Material) -> Any:
    return mitsuba().Bitmap(srgb_to_linear(texture(material)))


def _principled(base_color: dict[str, Any], roughness: float, specular: float) -> Bsdf:
    return {
        "type": "principled",
        "base_color": base_color,
        "roughness": roughness,
        "specular": specular,
    }


def _linear(color: Color) -> NDArray[np.float32]:
    return srgb_to_linear(np.array(color, np.float32))


def _rgb(color: NDArray[np.float32]) -> dict[str, Any]:
    return {"type": "rgb", "value": [float(channel) for channel in color]}
