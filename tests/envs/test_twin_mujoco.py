"""The photoreal twin of MuJoCo scenes: silhouettes, roles, textures, cameras, the wrapper."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

os.environ.setdefault("MUJOCO_GL", "egl")  # before MuJoCo is imported
from spie_robo.envs.scene_state import Shape
from spie_robo.envs.twin import MujocoShapes, TwinRenderer, TwinWrapper, find_mujoco, find_style
from spie_robo.envs.twin.containment import surrounds
from spie_robo.envs.twin.mitsuba_variant import mitsuba
from spie_robo.envs.twin.mujoco_alignment import compare_silhouettes, mujoco_instances
from spie_robo.envs.twin.mujoco_roles import geom_roles
from spie_robo.envs.twin.triangle_meshes import box_mesh, with_cube_texcoords
from spie_robo.errors import ConfigError, EnvError

mujoco = pytest.importorskip("mujoco")

SIZE = 96

WORKSHOP = """
<mujoco>
  <asset>
    <mesh name="wedge" vertex="0 0 0  .2 0 0  0 .2 0  0 0 .2"/>
    <texture name="faces" type="cube" builtin="flat" mark="edge" width="8" height="8"
             rgb1="1 1 1" markrgb="1 0 0"/>
    <material name="die" texture="faces"/>
  </asset>
  <worldbody>
    <light pos="0 0 3"/>
    <camera name="side" pos="0 -1.6 0.9" xyaxes="1 0 0 0 0.4 1" fovy="50"/>
    <geom name="ground" type="plane" size="2 2 .1"/>
    <geom name="bench_top" type="box" size=".4 .3 .02" pos="0 0 .3" rgba=".7 .6 .5 1"/>
    <geom name="hidden" type="box" size=".3 .3 .3" pos="0 0 .6" group="3"/>
    <geom name="clear" type="box" size=".3 .3 .3" pos="0 0 .6" rgba="1 1 1 0"/>
    <body name="base" pos="-.25 0 .32">
      <geom type="cylinder" size=".05 .04" pos="0 0 .04"/>
      <body name="upper" pos="0 0 .08">
        <joint name="lift" axis="0 1 0" range="-1 1"/>
        <geom type="capsule" fromto="0 0 0 0 0 .25" size=".03"/>
        <geom type="mesh" mesh="wedge" pos="0 0 .25"/>
      </body>
    </body>
    <body name="die" pos=".1 0 .4"><freejoint/>
      <geom type="box" size=".06 .06 .06" material="die"/>
    </body>
    <body name="egg" pos=".25 .1 .4"><freejoint/>
      <geom type="ellipsoid" size=".04 .05 .07" rgba=".9 .2 .2 1"/>
    </body>
    <body name="ball" pos=".25 -.15 .37"><freejoint/>
      <geom type="sphere" size=".05" rgba=".2 .2 .9 1"/>
    </body>
    <site name="goal" type="sphere" size=".03" pos="0 -.2 .4" rgba="0 1 0 .5"/>
  </worldbody>
  <actuator><position joint="lift"/></actuator>
</mujoco>
"""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    """Tests run side by side: renderers that each take all cores only wait for each other."""
    mitsuba()
    import drjit

    drjit.set_thread_count(1)


@pytest.fixture(scope="module")
def workshop() -> Any:
    return mujoco.MjModel.from_xml_string(WORKSHOP)


def moved(model: Any, seed: int) -> Any:
    """Data with the arm and the objects somewhere else."""
    rng = np.random.default_rng(seed)
    data = mujoco.MjData(model)
    data.qpos[0] = rng.uniform(-1, 1)
    for joint in range(1, model.njnt):
        place = model.jnt_qposadr[joint]
        data.qpos[place : place + 3] += rng.normal(0, 0.05, 3)
        turn = rng.normal(size=4)
        data.qpos[place + 3 : place + 7] = turn / np.linalg.norm(turn)
    mujoco.mj_forward(model, data)
    return data


def silhouettes(model: Any, data: Any, camera: Any, size: int = SIZE) -> dict[str, float]:
    try:
        simulator = mujoco_instances(model, data, camera, size, size)
    except Exception as error:
        pytest.skip(f"no EGL or OSMesa for MuJoCo's renderer: {error}")
    state = MujocoShapes(model, data).state([camera], size, size)
    return {found.group: found.iou for found in compare_silhouettes(state, simulator)}


# Silhouettes.


@pytest.mark.parametrize("seed", range(3))
def test_silhouettes_lie_on_mujocos_own_segmentation(workshop: Any, seed: int) -> None:
    found = silhouettes(workshop, moved(workshop, seed), "side")
    assert set(found) == {"foreground", "robot", "surface", "object"}
    assert min(found.values()) >= 0.97, found


@pytest.mark.parametrize("env_id", ["Pusher-v5", "Reacher-v5", "Ant-v5"])
def test_silhouettes_lie_on_gymnasiums_own_environments(env_id: str) -> None:
    env: Any = gym.make(env_id).unwrapped
    env.reset(seed=1)
    for _ in range(5):
        env.step(env.action_space.sample() * 0)
    found = silhouettes(env.model, env.data, -1, 160)
    env.close()
    assert found["foreground"] >= 0.97, found


def test_silhouette_comparison_sees_a_shift(workshop: Any) -> None:
    data = moved(workshop, 0)
    state = MujocoShapes(workshop, data).state(["side"], SIZE, SIZE)
    data.qpos[0] += 0.5
    mujoco.mj_forward(workshop, data)
    simulator = mujoco_instances(workshop, data, "side", SIZE, SIZE)
    found = {item.group: item.iou for item in compare_silhouettes(state, simulator)}
    assert found["robot"] < 0.9


def test_a_camera_with_a_sensor_of_its_own_keeps_its_field_of_view() -> None:
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><camera name="lens" pos="0 0 2" focal=".008 .008" resolution="64 64"'
        ' sensorsize=".01 .01"/><geom type="box" size=".3 .2 .1"/></worldbody></mujoco>'
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    assert silhouettes(model, data, "lens")["foreground"] >= 0.97
    with pytest.raises(EnvError, match="square"):
        MujocoShapes(model, data).state(["lens"], 32, 64)


def test_a_camera_inside_a_link_looks_out_through_it() -> None:
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><asset><mesh name="hull" builtin="sphere" params="2"/></asset><worldbody>'
        '<camera name="eye" pos="0 0 0" xyaxes="1 0 0 0 0 1"/>'
        '<geom type="mesh" mesh="hull" pos="0 .05 0"/>'
        '<geom type="box" size=".3 .1 .3" pos="0 3 0"/></worldbody></mujoco>'
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    assert silhouettes(model, data, "eye")["foreground"] >= 0.97


# What is seen, and what it is.


def test_invisible_geoms_are_left_out_and_sites_are_kept(workshop: Any) -> None:
    state = MujocoShapes(workshop, moved(workshop, 0), room=False).state(["side"], 32, 32)
    names = [shape.name for shape in state.shapes]
    assert "goal" in names and "bench_top" in names
    assert "hidden" not in names and "clear" not in names
    goal = state.shapes[names.index("goal")]
    assert goal.instance == workshop.ngeom and goal.opacity == pytest.approx(0.5)


def test_roles_follow_actuators_names_and_shapes(workshop: Any) -> None:
    roles = dict(zip(range(workshop.ngeom), geom_roles(workshop), strict=True))
    by_body = {workshop.body(workshop.geom_bodyid[g]).name: role for g, role in roles.items()}
    assert by_body["base"] == by_body["upper"] == "robot"
    assert by_body["die"] == by_body["egg"] == "object"
    assert roles[workshop.geom("ground").id] == "background"
    assert roles[workshop.geom("bench_top").id] == "surface"


def test_a_users_mapping_comes_first(workshop: Any) -> None:
    roles = geom_roles(workshop, {"bench*": "object", "upper": "background"})
    assert roles[workshop.geom("bench_top").id] == "object"
    arm = [role for g, role in enumerate(roles) if workshop.geom_bodyid[g] > 0]
    assert "background" in arm and "robot" in arm
    with pytest.raises(ConfigError, match="furniture"):
        geom_roles(workshop, {"bench*": "furniture"})  # type: ignore[dict-item]


def test_room_stands_behind_everything_and_belongs_to_no_instance(workshop: Any) -> None:
    state = MujocoShapes(workshop, moved(workshop, 0)).state(["side"], SIZE, SIZE)
    bare = MujocoShapes(workshop, moved(workshop, 0), room=False).state(["side"], SIZE, SIZE)
    added = state.shapes[len(bare.shapes) :]
    assert {shape.instance for shape in added} == {-1}
    assert {shape.name for shape in added} == {"floor", "wall"}
    eye = np.linalg.inv(state.cameras[0].extrinsics)[:3, 3]
    walls = np.array([shape.pose[:2, 3] for shape in added if shape.name == "wall"])
    assert (walls.min(axis=0) < eye[:2]).all() and (walls.max(axis=0) > eye[:2]).all()


def test_cube_maps_follow_opengl() -> None:
    """On a unit box every face shows its own sixth of the map, whole and unmirrored."""
    mesh = with_cube_texcoords(box_mesh((2.0, 2.0, 2.0)))
    assert mesh.texcoords is not None
    for axis, sign, face in ((0, 1, 0), (0, -1, 1), (1, 1, 2), (1, -1, 3), (2, 1, 4), (2, -1, 5)):
        on_face = mesh.normals[:, axis] == sign
        rows = mesh.texcoords[on_face][:, 1] * 6
        assert rows.min() >= face and rows.max() <= face + 1
        assert np.ptp(mesh.texcoords[on_face][:, 0]) == 1
    front = np.isclose(mesh.vertices, [1, 1, 1]).all(axis=1) & (mesh.normals[:, 2] == 1)
    np.testing.assert_allclose(mesh.texcoords[front][0], [1, 4 / 6], atol=1e-2)


def test_what_cannot_be_shown_is_refused(workshop: Any) -> None:
    hills = mujoco.MjModel.from_xml_string(
        '<mujoco><asset><hfield name="h" nrow="4" ncol="4" size="1 1 .1 .1"/></asset>'
        '<worldbody><geom type="hfield" hfield="h"/></worldbody></mujoco>'
    )
    data = mujoco.MjData(hills)
    mujoco.mj_forward(hills, data)
    with pytest.raises(EnvError, match="hfield"):
        MujocoShapes(hills, data).state([-1], 32, 32)
    scene = MujocoShapes(workshop, moved(workshop, 0))
    with pytest.raises(EnvError, match="side"):
        scene.state(["top"], 32, 32)
    with pytest.raises(EnvError, match="expected -1 to 0"):
        scene.state([3], 32, 32)


@pytest.mark.parametrize(
    ("kind", "size", "inside", "outside"),
    [
        ("box", (2.0, 1.0, 1.0), (0.9, 0.4, 0), (0.9, 0.6, 0)),
        ("sphere", (0.5,), (0.3, 0.3, 0), (0.4, 0.4, 0)),
        ("ellipsoid", (0.5, 1.0, 1.0), (0, 0.9, 0), (0.6, 0, 0)),
        ("cylinder", (1.0, 0.3), (0, 0.2, 0.45), (0, 0.2, 0.55)),
        ("capsule", (1.0, 0.3), (0, 0.1, 0.7), (0, 0.2, 0.78)),
    ],
)
def test_shapes_know_what_is_inside_them(
    kind: Any, size: tuple[float, ...], inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    pose = np.eye(4)
    pose[:3, 3] = [1, 2, 3]
    shape = Shape("thing", 0, kind, size, pose, (0.5, 0.5, 0.5))
    assert surrounds(shape, np.add(inside, [1, 2, 3]))
    assert not surrounds(shape, np.add(outside, [1, 2, 3]))


# Pictures.


def test_objects_keep_their_colors_and_surfaces_take_the_labs(workshop: Any) -> None:
    data = moved(workshop, 2)
    state = MujocoShapes(workshop, data).state(["side"], SIZE, SIZE)
    simulator = mujoco_instances(workshop, data, "side", SIZE, SIZE)
    images = [
        TwinRenderer(2).render(state, "side", find_style(name), metering=True).astype(float)
        for name in ("oak-lab", "steel-bench")
    ]
    names = {shape.name: shape.instance for shape in state.shapes}
    for image in images:
        red, _, blue = image[simulator == names["egg"]].mean(axis=0)
        assert red > 1.5 * blue
        red, _, blue = image[simulator == names["ball"]].mean(axis=0)
        assert blue > 1.5 * red
    table = simulator == names["bench_top"]
    oak, steel = (image[table].mean(axis=0) for image in images)
    assert oak[0] - oak[2] > 25 and steel[2] > steel[0]


# The wrapper.


def test_wrapper_shows_what_gymnasium_renders() -> None:
    raw: Any = gym.make("Reacher-v5", render_mode="rgb_array", width=64, height=64)
    raw.reset(seed=0)
    frame = raw.render()
    env = TwinWrapper(gym.make(raw.spec), "oak-lab", samples=1)
    observation, info = env.reset(seed=0)
    assert info["style"] == "oak-lab" and observation in env.observation_space
    one, two = env.render(), env.render()
    assert one is not None and two is not None
    assert one.shape == frame.shape and one.dtype == np.uint8
    np.testing.assert_array_equal(one, two)
    env.step(env.action_space.sample())
    assert not np.array_equal(env.render(), one)
    env.close()
    raw.close()


class _Cameras(gym.ObservationWrapper[Any, Any, Any]):
    """Adds camera images under the key that gym-aloha has them under."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        image = gym.spaces.Box(0, 255, (48, 48, 3), np.uint8)
        self.observation_space = gym.spaces.Dict({"pixels": gym.spaces.Dict({"track": image})})

    def observation(self, observation: Any) -> Any:
        return {"pixels": {"track": np.zeros((48, 48, 3), np.uint8)}}


def test_wrapper_finds_images_named_after_cameras_and_repeats_itself() -> None:
    def episode() -> list[np.ndarray[Any, Any]]:
        env = TwinWrapper(_Cameras(gym.make("HalfCheetah-v5")), samples=1)
        images = [env.reset(seed=3)[0]["pixels"]["track"]]
        images.append(env.step(np.ones(6, np.float32))[0]["pixels"]["track"])
        env.close()
        return images

    one, other = episode(), episode()
    np.testing.assert_array_equal(one, other)
    assert one[0].std() > 5 and not np.array_equal(one[0], one[1])


def test_simulations_are_found_where_others_keep_them(workshop: Any) -> None:
    """dm_control has them behind ``ptr``, robosuite behind ``_model`` and ``_data``."""
    data = moved(workshop, 0)
    control = SimpleNamespace(model=SimpleNamespace(ptr=workshop), data=SimpleNamespace(ptr=data))
    suite = SimpleNamespace(
        model=SimpleNamespace(_model=workshop), data=SimpleNamespace(_data=data)
    )
    holders = (
        SimpleNamespace(model=workshop, data=data),
        control,
        SimpleNamespace(physics=control),
        SimpleNamespace(_env=SimpleNamespace(physics=control)),
        SimpleNamespace(sim=suite),
    )
    for holder in holders:
        found = find_mujoco(holder)
        assert found.model is workshop and found.data is data
    shown = found.option
    assert shown is not None and shown.geomgroup.tolist() == [0, 1, 1, 0, 0, 0]
    state = MujocoShapes(workshop, data, option=shown, room=False).state(["side"], 32, 32)
    assert [shape.name for shape in state.shapes] == ["goal"]  # all geoms are in group 0


def test_wrapper_names_unknown_images_and_environments() -> None:
    env = _Cameras(gym.make("HalfCheetah-v5"))
    with pytest.raises(ConfigError, match="pixels/track"):
        TwinWrapper(env, cameras=("front",))
    wrong = TwinWrapper(env, cameras={"pixels/front": "track"})
    with pytest.raises(ConfigError, match="track"):
        wrong.reset(seed=0)
    with pytest.raises(EnvError, match="MuJoCo"):
        find_mujoco(gym.make("CartPole-v1"))
    env.close()
