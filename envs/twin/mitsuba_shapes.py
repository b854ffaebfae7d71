"""The shapes of a :class:`SceneState` as entries of a Mitsuba scene.

Meshes become shape groups that are built once per process, so that a frame costs only the
placing of instances and not the loading of a hundred thousand triangles.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.scene_state import SceneState, Shape, TriangleMesh
from spie_robo.envs.twin.mitsuba_materials import BsdfOf, flat_bsdf, instance_bsdf, two_sided
from spie_robo.envs.twin.mitsuba_variant import mitsuba, transform
from spie_robo.envs.twin.obj_mesh import load_obj
from spie_robo.envs.twin.style import Color
from spie_robo.envs.twin.triangle_meshes import unit_sphere

_KEPT_GROUPS = 512

_load_parts = functools.cache(load_obj)


def scene_shapes(state: SceneState, bsdf_of: BsdfOf) -> Iterator[tuple[str, Any]]:
    """Names and entries of all shapes.

    Args:
        state: What is where.
        bsdf_of: What each is made of.
    """
    for index, shape in enumerate(state.shapes):
        key = f"shape_{index}"
        if shape.kind in ("mesh", "ellipsoid"):
            group = _mesh_group(shape, bsdf_of)
            pose = transform(shape.pose @ np.diag([*shape.size, 1.0]))
            # Mitsuba finds a group only if it is a child of the scene and comes first.
            yield f"{key}_group", group
            yield key, {"type": "instance", "group": group, "to_world": pose}
            continue
        bsdf = bsdf_of(shape, shape.color)
        for part, (kind, local) in enumerate(_primitives(shape)):
            pose = transform(shape.pose @ local)
            yield f"{key}_{part}", {"type": kind, "to_world": pose, "bsdf": bsdf}


def _primitives(shape: Shape) -> list[tuple[str, NDArray[np.float64]]]:
    if shape.kind == "box":
        return [("cube", np.diag([*(edge / 2 for edge in shape.size), 1.0]))]
    if shape.kind == "sphere":
        return [("sphere", np.diag([shape.size[0]] * 3 + [1.0]))]
    length, radius = shape.size
    side = np.diag([radius, radius, length, 1.0])
    side[2, 3] = -length / 2
    if shape.kind == "capsule":
        caps = [np.diag([radius] * 3 + [1.0]) for _ in range(2)]
        caps[0][2, 3], caps[1][2, 3] = length / 2, -length / 2
        return [("cylinder", side), ("sphere", caps[0]), ("sphere", caps[1])]
    top = np.diag([radius, radius, 1.0, 1.0])
    top[2, 3] = length / 2
    bottom = np.diag([radius, -radius, -1.0, 1.0])
    bottom[2, 3] = -length / 2
    return [("cylinder", side), ("disk", top), ("disk", bottom)]


def _mesh_group(shape: Shape, bsdf_of: BsdfOf) -> Any:
    """The shape group of a mesh; robots and objects look alike in every style: it is kept."""
    lab_material = shape.role in ("surface", "background")
    if bsdf_of in (instance_bsdf, flat_bsdf) or lab_material:
        return _build_group(shape, bsdf_of)
    key = (_mesh_key(shape), _look_key(shape), repr(bsdf_of(shape, shape.color).get("roughness")))
    if key not in _group_cache:
        _group_cache[key] = _build_group(shape, bsdf_of)
        while len(_group_cache) > _KEPT_GROUPS:
            _group_cache.popitem(last=False)
    _group_cache.move_to_end(key)
    return _group_cache[key]


_group_cache: OrderedDict[tuple[str, str, str], Any] = OrderedDict()


def _mesh_key(shape: Shape) -> str:
    if shape.triangles is not None:
        return shape.triangles.digest
    return shape.mesh or shape.kind


def _look_key(shape: Shape) -> str:
    texture = 0 if shape.texture is None else hash(shape.texture.tobytes())
    return repr((shape.role, shape.color, shape.opacity, texture, shape.texture_repeats))


def _build_group(shape: Shape, bsdf_of: BsdfOf) -> Any:
    group: dict[str, Any] = {"type": "shapegroup"}
    for index, (mesh, color) in enumerate(_parts(shape)):
        bsdf = bsdf_of(shape, color)
        if shape.triangles is not None:
            bsdf = two_sided(bsdf)
        group[f"part_{index}"] = _build_mesh(f"part_{index}", mesh, bsdf)
    return mitsuba().load_dict(group)


def _parts(shape: Shape) -> list[tuple[TriangleMesh, Color]]:
    """The meshes of a shape, each of one colour."""
    if shape.kind == "ellipsoid":
        return [(unit_sphere(), shape.color)]
    if shape.triangles is not None:
        return [(shape.triangles, shape.color)]
    return [
        (TriangleMesh(part.vertices, part.normals), part.color) for part in _load_parts(shape.mesh)
    ]


def _build_mesh(name: str, triangles: TriangleMesh, bsdf: dict[str, Any]) -> Any:
    mi = mitsuba()
    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict(bsdf)
    count = len(triangles.vertices)
    mesh = mi.Mesh(
        name,
        count,
        count // 3,
        has_vertex_normals=True,
        has_vertex_texcoords=triangles.texcoords is not None,
        props=properties,
    )
    parameters = mi.traverse(mesh)
    parameters["vertex_positions"] = triangles.vertices.ravel()
    parameters["vertex_normals"] = triangles.normals.ravel()
    if triangles.texcoords is not None:
        parameters["vertex_texcoords"] = triangles.texcoords.ravel()
    parameters["faces"] = np.arange(count, dtype=np.uint32)
    parameters.update()
    return mesh
