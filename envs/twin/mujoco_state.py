"""A MuJoCo model and its data as a :class:`SceneState`: what its own renderer would draw.

``MjModel, MjData --mjv_updateScene--> abstract geoms --MujocoShapes--> Shapes``

MuJoCo's abstract visualisation says what is visible (groups, sites, tendons), where, and in which
colour; it needs no graphics. Meshes and textures come from the model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.scene_state import Role, SceneState, Shape, ShapeKind, TriangleMesh
from spie_robo.envs.twin.containment import surrounds
from spie_robo.envs.twin.mujoco_cameras import CameraName, camera_pose
from spie_robo.envs.twin.mujoco_roles import geom_names, geom_roles
from spie_robo.envs.twin.rooms import build_room, lamp_focus
from spie_robo.envs.twin.triangle_meshes import (
    box_mesh,
    plane_mesh,
    unit_sphere,
    with_cube_texcoords,
    with_metric_texcoords,
)
from spie_robo.errors import EnvError, MissingExtraError

if TYPE_CHECKING:
    import mujoco

_MAX_GEOMS = 20_000

Wear = Literal["lab", "cube", "own"]
"""Texture coordinates of a mesh: the lab's metres, a cube map's faces, or its own."""


@final
class MujocoShapes:
    """Reads scene states off a MuJoCo simulation, as often as it moves.

    Instance ids are the geom's own for geoms; sites follow after the last geom, tendons after the
    last site. Floor and walls that the room adds belong to no instance (-1).

    Args:
        model: The model; it may change (colours, textures) between states.
        data: The data whose poses are read.
        roles: See :func:`spie_robo.envs.twin.mujoco_roles.geom_roles`.
        room: Add floor and walls where the simulator shows sky.
        option: What to show, as for ``mujoco.Renderer``; None: its default.

    Raises:
        MissingExtraError: If MuJoCo is not installed.

    Example:
        >>> import mujoco
        >>> from spie_robo.envs.twin import NAMED_STYLES, MujocoShapes, TwinRenderer
        >>> model = mujoco.MjModel.from_xml_string(
        ...     '<mujoco><worldbody><geom type="sphere" size=".1"/></worldbody></mujoco>'
        ... )
        >>> data = mujoco.MjData(model)
        >>> mujoco.mj_forward(model, data)
        >>> state = MujocoShapes(model, data).state([-1], height=64, width=64)
        >>> TwinRenderer().render(state, "free", NAMED_STYLES["oak-lab"]).shape
        (64, 64, 3)
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        *,
        roles: Mapping[str, Role] | None = None,
        room: bool = True,
        option: mujoco.MjvOption | None = None,
    ) -> None:
        """Work out the roles; shapes are read by :meth:`state`."""
        self._mujoco = load_mujoco()
        self._model, self._data, self._with_room = model, data, room
        self._roles = geom_roles(model, roles)
        self._option = self._mujoco.MjvOption() if option is None else option
        self._abstract = self._mujoco.MjvScene(model, _MAX_GEOMS)
        self._meshes: dict[tuple[int, Wear], TriangleMesh] = {}
        self._fixed: tuple[tuple[Shape, ...], tuple[float, float, float]] | None = None

    def state(
        self, cameras: Sequence[CameraName | mujoco.MjvCamera], height: int, width: int
    ) -> SceneState:
        """Return what is visible now.

        Room and lamps are placed when this is first called and stay there until :meth:`refit`.

        Args:
            cameras: Names or numbers of the model's cameras, -1 for its free camera, or
                ``mujoco.MjvCamera`` objects.
            height: Pixels.
            width: Pixels.

        Raises:
            EnvError: If a camera is unknown or not a pinhole, or the model shows a height field, a
                skin or a flexible body.
        """
        wanted = list(cameras) or [-1]
        poses = []
        for camera in wanted:
            self._update(camera)
            poses.append(camera_pose(self._abstract, self._model, camera, height, width))
        geoms = [self._abstract.geoms[index] for index in range(self._abstract.ngeom)]
        shapes = tuple(shape for geom in geoms for shape in self._shape(geom))
        if not shapes:
            raise EnvError("The MuJoCo model shows nothing: no geom is in the groups 0 to 2.")
        eyes = [np.asarray(np.linalg.inv(pose.extrinsics)[:3, 3], np.float64) for pose in poses]
        if self._fixed is None:
            room = build_room(shapes, eyes) if self._with_room else ()
            self._fixed = (room, lamp_focus(shapes))
        room, focus = self._fixed
        # MuJoCo draws no back faces: a camera inside a link looks out through it.
        seen = [shape for shape in shapes if not any(surrounds(shape, eye) for eye in eyes)]
        return SceneState((*seen, *room), tuple(poses), focus)

    def refit(self) -> None:
        """Place room and lamps anew with the next state, as after a reset."""
        self._fixed = None

    def _update(self, camera: CameraName | mujoco.MjvCamera) -> None:
        mj = self._mujoco
        mj.mjv_updateScene(
            self._model,
            self._data,
            self._option,
            mj.MjvPerturb(),
            _mjv_camera(mj, self._model, camera),
            mj.mjtCatBit.mjCAT_ALL.value,
            self._abstract,
        )

    def _shape(self, geom: Any) -> list[Shape]:
        """The shape of an abstract geom; none if it cannot be seen."""
        if geom.rgba[3] <= 0:
            return []
        kind = _kind(self._mujoco, int(geom.type))
        name, role, instance = self._identity(geom)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = np.reshape(geom.mat, (3, 3)), geom.pos
        plain = role in ("surface", "background")
        picture = None if plain or geom.matid < 0 else read_texture(self._model, int(geom.matid))
        wear: Wear = "lab" if plain else "cube" if picture is not None and picture.cube else "own"
        triangles, size = self._geometry(geom, kind, wear)
        if picture is not None and kind == "mesh":  # repeats are for shapes without coordinates
            picture = replace(picture, repeats=(1.0, 1.0))
        if wear == "cube" and triangles is None:  # a shape that wraps its texture its own way
            assert picture is not None
            picture = picture.averaged()
        red, green, blue, alpha = (float(value) for value in np.clip(geom.rgba, 0, 1))
        return [
            Shape(
                name=name,
                instance=instance,
                kind="mesh" if triangles is not None else _SHAPES[kind],
                size=size,
                pose=pose,
                color=(red, green, blue),
                triangles=triangles,
                role=role,
                opacity=1.0 if plain else alpha,
                texture=None if picture is None else picture.image,
                texture_repeats=(1.0, 1.0) if picture is None else picture.repeats,
            )
        ]

    def _identity(self, geom: Any) -> tuple[str, Role, int]:
        objects = self._mujoco.mjtObj
        kind, number = int(geom.objtype), int(geom.objid)
        if kind == int(objects.mjOBJ_GEOM):
            names = geom_names(self._model, number)
            return (names or [f"geom_{number}"])[0], self._roles[number], number
        if kind == int(objects.mjOBJ_SITE):
            name = self._model.site(number).name or f"site_{number}"
            return name, "object", self._model.ngeom + number
        if kind == int(objects.mjOBJ_TENDON):
            name = self._model.tendon(number).name or f"tendon_{number}"
            return name, "object", self._model.ngeom + self._model.nsite + number
        return "marker", "object", self._model.ngeom + self._model.nsite + self._model.ntendon

    def _geometry(
        self, geom: Any, kind: str, wear: Wear
    ) -> tuple[TriangleMesh | None, tuple[float, ...]]:
        a, b, c = (float(value) for value in geom.size)
        if kind == "mesh":
            return self._mesh(int(geom.dataid), wear), (1.0, 1.0, 1.0)
        if kind == "plane":
            return plane_mesh(2 * a, 2 * b), (1.0, 1.0, 1.0)
        if kind == "box" and wear == "lab":
            return box_mesh((2 * a, 2 * b, 2 * c)), (1.0, 1.0, 1.0)
        if kind == "box" and wear == "cube":
            return with_cube_texcoords(box_mesh((2.0, 2.0, 2.0))), (a, b, c)
        if kind in ("sphere", "ellipsoid") and wear == "cube":
            return with_cube_texcoords(unit_sphere()), (a, b, c)
        sizes: dict[str, tuple[float, ...]] = {
            "box": (2 * a, 2 * b, 2 * c),
            "sphere": (a,),
            "ellipsoid": (a, b, c),
            "cylinder": (2 * c, a),
            "capsule": (2 * c, a),
        }
        return None, sizes[kind]

    def _mesh(self, dataid: int, wear: Wear) -> TriangleMesh:
        # Even numbers are meshes, odd ones their convex hulls, which are for looking at collisions.
        if dataid % 2:
            raise EnvError(
                "The twin shows meshes, not their convex hulls: take mjVIS_CONVEXHULL out of the "
                "visualisation flags."
            )
        key = (dataid // 2, wear)
        if key not in self._meshes:
            mesh = read_mesh(self._model, dataid // 2)
            change = {"lab": with_metric_texcoords, "cube": with_cube_texcoords}.get(wear)
            self._meshes[key] = mesh if change is None else change(mesh)
        return self._meshes[key]


_SHAPES: dict[str, ShapeKind] = {
    "box": "box",
    "sphere": "sphere",
    "ellipsoid": "ellipsoid",
    "cylinder": "cylinder",
    "capsule": "capsule",
}


def load_mujoco() -> Any:
    """The ``mujoco`` package.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import mujoco
    except ImportError as error:
        raise MissingExtraError(
            "The twin of a MuJoCo environment needs MuJoCo: pip install mujoco."
        ) from error
    return mujoco


def read_mesh(model: mujoco.MjModel, mesh: int) -> TriangleMesh:
    """A mesh of a model in its own frame, with the normals that MuJoCo shades it by.

    Args:
        model: The model.
        mesh: Number of the mesh.
    """
    first, count = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
    faces = slice(first, first + count)
    corner = model.mesh_vertadr[mesh] + model.mesh_face[faces].ravel()
    normal = model.mesh_normaladr[mesh] + model.mesh_facenormal[faces].ravel()
    texcoords = None
    if model.mesh_texcoordadr[mesh] >= 0:
        place = model.mesh_texcoordadr[mesh] + model.mesh_facetexcoord[faces].ravel()
        texcoords = np.array(model.mesh_texcoord[place], np.float32)
    return TriangleMesh(
        np.array(model.mesh_vert[corner], np.float32),
        np.array(model.mesh_normal[normal], np.float32),
        texcoords,
    )


@dataclass(frozen=True, eq=False)
class ModelTexture:
    """The picture of a MuJoCo material.

    Attributes:
        image: uint8, (height, width, 3); of a cube map, six faces below each other.
        repeats: How often it repeats along its two axes.
        cube: Whether it is a cube map.
    """

    image: NDArray[np.uint8]
    repeats: tuple[float, float]
    cube: bool

    def averaged(self) -> ModelTexture:
        """One pixel of the mean colour."""
        mean = self.image.mean(axis=(0, 1), keepdims=True).astype(np.uint8)
        return ModelTexture(mean, (1.0, 1.0), False)


def read_texture(model: mujoco.MjModel, material: int) -> ModelTexture | None:
    """The picture of a material; None if it has only a colour.

    Args:
        model: The model.
        material: Number of the material.
    """
    mj = load_mujoco()
    number = int(model.mat_texid[material, int(mj.mjtTextureRole.mjTEXROLE_RGB)])
    if number < 0:
        return None
    height, width = int(model.tex_height[number]), int(model.tex_width[number])
    channels, first = int(model.tex_nchannel[number]), int(model.tex_adr[number])
    flat = model.tex_data[first : first + height * width * channels]
    image = np.array(flat, np.uint8).reshape(height, width, channels)[..., :3]
    if channels < 3:
        image = image[..., :1].repeat(3, axis=2)
    cube = int(model.tex_type[number]) != int(mj.mjtTexture.mjTEXTURE_2D)
    along, across = (float(value) for value in model.mat_texrepeat[material])
    return ModelTexture(np.ascontiguousarray(image), (1.0, 1.0) if cube else (along, across), cube)


def _kind(mj: Any, number: int) -> str:
    """Return what kind of shape an abstract geom is.

    Raises:
        EnvError: If the twin cannot show it.
    """
    known = {
        int(mj.mjtGeom.mjGEOM_PLANE): "plane",
        int(mj.mjtGeom.mjGEOM_SPHERE): "sphere",
        int(mj.mjtGeom.mjGEOM_CAPSULE): "capsule",
        int(mj.mjtGeom.mjGEOM_ELLIPSOID): "ellipsoid",
        int(mj.mjtGeom.mjGEOM_CYLINDER): "cylinder",
        int(mj.mjtGeom.mjGEOM_BOX): "box",
        int(mj.mjtGeom.mjGEOM_MESH): "mesh",
        int(mj.mjtGeom.mjGEOM_SDF): "mesh",
    }
    if number in known:
        return known[number]
    name = mj.mjtGeom(number).name.removeprefix("mjGEOM_").lower()
    shown = ", ".join(sorted(set(known.values())))
    raise EnvError(
        f"The twin cannot show MuJoCo's {name!r} yet: expected {shown}. Put it into a geom group "
        "from 3 up, which is not drawn, or replace it by a mesh."
    )


def _mjv_camera(mj: Any, model: mujoco.MjModel, camera: Any) -> Any:
    """The visualiser's camera of a name, a number or a camera."""
    if isinstance(camera, mj.MjvCamera):
        return copy.copy(camera)
    number = camera
    if isinstance(camera, str):
        names = [model.camera(index).name for index in range(model.ncam)]
        if camera not in names:
            raise EnvError(f"There is no camera {camera!r} in the MuJoCo model: expected {names}.")
        number = names.index(camera)
    if not -1 <= number < model.ncam:
        raise EnvError(f"camera: expected -1 to {model.ncam - 1}, got {number}.")
    found = mj.MjvCamera()
    found.fixedcamid = number
    if number >= 0:
        found.type = mj.mjtCamera.mjCAMERA_FIXED
        return found
    mj.mjv_defaultFreeCamera(model, found)
    return found
