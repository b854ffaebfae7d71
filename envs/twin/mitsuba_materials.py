"""This module says what shapes are made of, as Mitsuba BSDFs.

Surfaces and the background take the style's materials; robots and objects keep their own colours
and textures.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.scene_state import Shape
from spie_robo.envs.twin.mitsuba_variant import mitsuba
from spie_robo.envs.twin.sensor import srgb_to_linear
from spie_robo.envs.twin.style import Color, Material, Style
from spie_robo.envs.twin.textures import texture

Bsdf = dict[str, Any]
BsdfOf = Callable[[Shape, Color], Bsdf]
"""The BSDF of a shape, or of the part of it that has this colour."""

METRES_A_REPEAT = 1.5
"""A procedural texture covers this much of a surface before it repeats."""

INSTANCES = 4096
"""Instance scenes tell this many instances apart."""

_FINE, _COARSE = 768, 384


def styled_bsdf(shape: Shape, color: Color, style: Style) -> Bsdf:
    """Return what a shape is made of in a style.

    Args:
        shape: The shape.
        color: Its colour, or that of a part of its mesh.
        style: The lab.
    """
    if shape.role == "surface":
        return _material_bsdf(style.table, shape)
    if shape.role == "background":
        return _material_bsdf(style.floor if _lies_flat(shape) else style.wall, shape)
    roughness = style.object_roughness
    if shape.role == "robot":
        roughness = 0.35
    base = _plain(color) if shape.texture is None else _own_texture(shape, color)
    bsdf = _principled(base, roughness, 0.5)
    if shape.opacity < 1:
        return {"type": "mask", "opacity": shape.opacity, "material": bsdf}
    return bsdf


def two_sided(bsdf: Bsdf) -> Bsdf:
    """The same on both sides of a face: where a simulator's mesh is open, its inside shows too."""
    if bsdf["type"] == "mask":
        return {**bsdf, "material": two_sided(bsdf["material"])}
    return {"type": "twosided", "material": bsdf}


def instance_bsdf(shape: Shape, color: Color) -> Bsdf:
    """An albedo that tells which instance a pixel shows; see :func:`instances_of`."""
    value = (shape.instance + 1) / INSTANCES
    return {"type": "diffuse", "reflectance": {"type": "rgb", "value": [value] * 3}}


def flat_bsdf(shape: Shape, color: Color) -> Bsdf:
    """A matt surface of the simulator's own colour, as simulators draw it."""
    base = _plain(color) if shape.texture is None else _own_texture(shape, color)
    return {"type": "diffuse", "reflectance": base}


def instances_of(albedo: NDArray[np.float32]) -> NDArray[np.int32]:
    """Instance ids of the albedo that :func:`instance_bsdf` gave them; -1 where nothing is."""
    return np.asarray(np.rint(albedo * INSTANCES) - 1, np.int32)


def linear_color(color: Color) -> NDArray[np.float32]:
    """A colour in linear light, float32 (3,)."""
    return srgb_to_linear(np.array(color, np.float32))


def rgb_value(color: NDArray[np.float32]) -> dict[str, Any]:
    """A spectrum of linear rgb."""
    return {"type": "rgb", "value": [float(channel) for channel in color]}


def _lies_flat(shape: Shape) -> bool:
    """Return whether the direction that a shape is thinnest in is about vertical."""
    extents = np.array(shape.size if shape.kind == "box" else [1.0, 1.0, 0.0])
    if shape.triangles is not None:
        extents = np.ptp(shape.triangles.vertices, axis=0) * np.array(shape.size)
    return bool(abs(shape.pose[2, int(np.argmin(extents))]) > 0.7)


def _material_bsdf(material: Material, shape: Shape) -> Bsdf:
    metric = shape.triangles is not None and shape.triangles.texcoords is not None
    if metric:
        return _metric_bsdf(material)
    if max(shape.size) < 1.0 or (material.pattern == "plain" and not _lies_flat(shape)):
        return _principled(_plain(material.color), material.roughness, material.specular)
    scale = max(1, round(max(shape.size) / METRES_A_REPEAT))
    base = {
        "type": "bitmap",
        "bitmap": _bitmap(material, _COARSE),
        "to_uv": mitsuba().ScalarTransform4f().scale([scale, scale, 1]),
        "raw": True,
    }
    return _principled(base, material.roughness, material.specular)


def _metric_bsdf(material: Material) -> Bsdf:
    """A material on texture coordinates in metres.

    The texture's middle lies at the shape's, and it goes on mirrored, or a seam would cross every
    table.
    """
    placed = mitsuba().ScalarTransform4f().translate([0.5, 0.5, 0])
    base = {
        "type": "bitmap",
        "bitmap": _bitmap(material, _FINE),
        "to_uv": placed @ mitsuba().ScalarTransform4f().scale([1 / METRES_A_REPEAT] * 2 + [1]),
        "wrap_mode": "mirror",
        "raw": True,
    }
    return _principled(base, material.roughness, material.specular)


@functools.lru_cache(maxsize=12)
def _bitmap(material: Material, pixels: int) -> Any:
    return mitsuba().Bitmap(srgb_to_linear(texture(material, pixels, pixels)))


def _own_texture(shape: Shape, color: Color) -> dict[str, Any]:
    assert shape.texture is not None
    image = shape.texture.astype(np.float32) / 255 * np.array(color, np.float32)
    repeats = [*shape.texture_repeats, 1]
    return {
        "type": "bitmap",
        "bitmap": mitsuba().Bitmap(srgb_to_linear(np.clip(image, 0, 1))),
        "to_uv": mitsuba().ScalarTransform4f().scale(repeats),
        "raw": True,
    }


def _plain(color: Color) -> dict[str, Any]:
    return {"type": "rgb", "value": linear_color(color).tolist()}


def _principled(base_color: dict[str, Any], roughness: float, specular: float) -> Bsdf:
    return {
        "type": "principled",
        "base_color": base_color,
        "roughness": roughness,
        "specular": specular,
    }
