"""Around other people's stacks: tensors, alpha, batches of one, turned pictures, infos, render."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Tuple
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from spie_robo.errors import ConfigError, EnvError
from spie_robo.simulators import CameraView, Orientation
from spie_robo.simulators.orientation import BOTTOM_ROW_FIRST, ROTATED
from spie_robo.types import Deviation, Geometry, GuardVerdict
from spie_robo.wrappers import GeometryInfo, RealismWrapper, VectorRealismWrapper
from spie_robo.wrappers.vector import autoreset_mode

SIDE = 24


class Pictures(gym.Env):
    """An env of three steps whose picture has another value in every pixel."""

    action_space = gym.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, space=None, form=lambda image: image, render_mode="rgb_array"):
        self.render_mode = render_mode
        self.observation_space = space or Box(0, 255, (SIDE, SIDE, 3), np.uint8)
        self.form = form

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.form(self.picture()), {}

    def step(self, action):
        self.steps += 1
        return self.form(self.picture()), 1.0, self.steps == 3, False, {}

    def picture(self):
        return np.random.default_rng(self.steps).integers(0, 256, (SIDE, SIDE, 3), np.uint8)

    def render(self):
        return self.picture()


def negative(image, seed):
    return (255 - image) ^ np.uint8(seed % 13)


def test_a_torch_observation_comes_back_as_torch_on_its_device(toys):
    inner = Pictures(form=lambda image: torch.from_numpy(image.copy()))
    env = RealismWrapper(inner, toys.NegativeEditor(), guard=None)
    observation, info = env.reset(seed=0)
    assert isinstance(observation, torch.Tensor) and observation.dtype == torch.uint8
    assert observation.device.type == "cpu"
    seed = info["realism"]["camera"].seed
    np.testing.assert_array_equal(observation.numpy(), negative(inner.picture(), seed))


def test_a_tensor_keeps_its_device_without_the_wrapper_knowing_of_it(toys):
    """A stand-in for a tensor on a GPU, which refuses to become NumPy by itself."""

    class Elsewhere:
        device = "cuda:3"

        def __init__(self, array):
            self.array, self.shape = array, array.shape

        def __array__(self, *args, **kwargs):
            raise TypeError("can't convert cuda:3 device type tensor to numpy")

        def detach(self):
            return self

        def cpu(self):
            return torch.from_numpy(self.array.copy())

        def new_tensor(self, array):
            return Elsewhere(array)

    inner = Pictures(form=Elsewhere)
    env = RealismWrapper(inner, toys.NegativeEditor(), guard=None)
    observation, info = env.reset(seed=0)
    assert observation.device == "cuda:3"
    seed = info["realism"]["camera"].seed
    np.testing.assert_array_equal(observation.array, negative(inner.picture(), seed))


def test_alpha_is_kept_and_colour_edited(toys):
    def with_alpha(image):
        return np.dstack([image, np.full((SIDE, SIDE), 77, np.uint8)])

    inner = Pictures(Box(0, 255, (SIDE, SIDE, 4), np.uint8), with_alpha)
    env = RealismWrapper(inner, toys.NegativeEditor(), guard=None)
    observation, info = env.reset(seed=0)
    assert observation in env.observation_space and (observation[..., 3] == 77).all()
    assert info["raw"]["camera"].shape == (SIDE, SIDE, 3)
    seed = info["realism"]["camera"].seed
    np.testing.assert_array_equal(observation[..., :3], negative(inner.picture(), seed))


@pytest.mark.parametrize("tensor", [False, True])
def test_a_batch_of_one_as_maniskill_has_it_stays_one(toys, tensor):
    def batched(image):
        batch = {"rgb": torch.from_numpy(image[None].copy()) if tensor else image[None]}
        return {"sensor_data": {"base_camera": batch}, "state": np.zeros((1, 2), np.float32)}

    camera = Dict(base_camera=Dict(rgb=Box(0, 255, (1, SIDE, SIDE, 3), np.uint8)))
    space = Dict(sensor_data=camera, state=Box(-1, 1, (1, 2), np.float32))
    inner = Pictures(space, batched)
    env = RealismWrapper(inner, toys.NegativeEditor(), guard=None)
    observation, info = env.reset(seed=0)
    found = observation["sensor_data"]["base_camera"]["rgb"]
    assert found.shape == (1, SIDE, SIDE, 3) and isinstance(found, torch.Tensor) == tensor
    (edit,) = info["realism"].values()
    np.testing.assert_array_equal(np.asarray(found)[0], negative(inner.picture(), edit.seed))


def test_a_batch_of_several_and_a_tuple_are_refused_with_the_right_advice(toys):
    batch = Pictures(Box(0, 255, (2, SIDE, SIDE, 3), np.uint8))
    with pytest.raises(EnvError, match="VectorRealismWrapper"):
        RealismWrapper(batch, toys.NegativeEditor(), guard=None)
    image = Box(0, 255, (SIDE, SIDE, 3), np.uint8)
    pair = Pictures(Tuple([image, Box(-1, 1, (2,), np.float32)]))
    with pytest.raises(EnvError, match=r"make it a Dict with gymnasium\.wrappers"):
        RealismWrapper(pair, toys.NegativeEditor(), guard=None)


def test_the_advice_for_a_tuple_works(toys):
    image, state = Box(0, 255, (SIDE, SIDE, 3), np.uint8), Box(-1, 1, (2,), np.float32)
    env = Pictures(Tuple([image, state]), lambda image: (image, np.zeros(2, np.float32)))
    env = gym.wrappers.TransformObservation(
        env,
        lambda o: {"camera": o[0], "state": o[1]},
        gym.spaces.Dict(camera=env.observation_space[0], state=env.observation_space[1]),
    )
    env = RealismWrapper(env, toys.NegativeEditor(), guard=None)
    assert env.reset(seed=0)[0] in env.observation_space


class Turned:
    """A simulator whose pictures lie some other way; a stand-in for those of the package."""

    name = "Turned"

    def __init__(self, orientation=ROTATED):
        self.orientation = orientation

    def views(self, request):
        depth = np.arange(SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE) + 1
        matrix = np.array([[20.0, 0, 10], [0, 20.0, 8], [0, 0, 1]])
        geometry = Geometry(depth, None, {}, matrix, np.eye(4))
        return {camera.name: CameraView(geometry, self.orientation) for camera in request.cameras}


@pytest.mark.parametrize("orientation", [ROTATED, BOTTOM_ROW_FIRST])
def test_a_turned_picture_is_edited_upright_and_handed_back_as_it_was(toys, orientation):
    editor, guard = toys.NegativeEditor(), toys.FakeGuard()
    inner = Pictures()
    env = RealismWrapper(inner, editor, guard=guard, geometry=Turned(orientation))
    observation, info = env.reset(seed=0)
    (frame,) = guard.frames
    np.testing.assert_array_equal(frame.rgb, orientation.turn(inner.picture()))
    assert frame.geometry.depth[0, 0] == 1.0
    seed = info["realism"]["camera"].seed
    np.testing.assert_array_equal(observation, negative(inner.picture(), seed))
    np.testing.assert_array_equal(info["raw"]["camera"], inner.picture())
    np.testing.assert_array_equal(info["realism"]["camera"].rgb, observation)
    assert env.simulator == "Turned"


def test_upright_pictures_are_handed_out_where_they_are_asked_for(toys):
    inner = Pictures()
    env = RealismWrapper(inner, toys.NegativeEditor(), guard=None, geometry=Turned(), upright=True)
    observation, info = env.reset(seed=0)
    upright = ROTATED.turn(inner.picture())
    np.testing.assert_array_equal(info["raw"]["camera"], upright)
    seed = info["realism"]["camera"].seed
    np.testing.assert_array_equal(observation, negative(upright, seed))


@pytest.mark.parametrize("upright", [False, True])
def test_a_store_holds_depth_that_is_turned_like_its_pictures(toys, tmp_path, upright):
    from spie_robo.data import EpisodeStore

    env = RealismWrapper(
        Pictures(),
        toys.NegativeEditor(),
        guard=None,
        geometry=Turned(),
        upright=upright,
        record=tmp_path / "s.zarr",
    )
    env.reset(seed=0)
    for _ in range(3):
        env.step(0)
    env.close()
    store = EpisodeStore.open(tmp_path / "s.zarr")
    assert (store[0]["camera_depth"][0, 0, 0] == 1.0) == upright
    principal = np.array(store.metadata.cameras["camera"].intrinsics)[:2, 2]
    np.testing.assert_allclose(principal, (10, 8) if upright else (SIDE - 10, SIDE - 8))


def test_tensors_beside_the_pictures_are_recorded_as_arrays(toys, tmp_path):
    from spie_robo.data import EpisodeStore

    def observed(image):
        state = {"qpos": torch.full((1, 2), 3.0)}
        return {"rgb": torch.from_numpy(image.copy()), "agent": state}

    agent = Dict(qpos=Box(-9, 9, (1, 2), np.float32))
    inner = Pictures(Dict(rgb=Box(0, 255, (SIDE, SIDE, 3), np.uint8), agent=agent), observed)
    path = tmp_path / "s.zarr"
    env = RealismWrapper(inner, toys.NegativeEditor(), guard=None, record=path)
    env.reset(seed=0)
    for _ in range(3):
        env.step(torch.tensor([0.5]))
    env.close()
    episode = EpisodeStore.open(path)[0]
    assert episode["agent_qpos"].shape == (3, 1, 2) and (episode["agent_qpos"] == 3).all()
    np.testing.assert_array_equal(episode["action"], np.full((3, 1), 0.5, np.float32))


def test_an_async_env_says_its_orientation_through_the_info(toys):
    editor, guard, inner = toys.NegativeEditor(), toys.FakeGuard(), Pictures()
    env = RealismWrapper(GeometryInfo(inner, Turned()), editor, guard=guard)
    _, info = env.reset(seed=0)
    assert info["orientation"] == {"camera": "rotated"}
    np.testing.assert_array_equal(guard.frames[0].rgb, ROTATED.turn(inner.picture()))


def test_geometry_info_finds_a_simulator_or_says_that_it_cannot(toys):
    with pytest.raises(EnvError, match="expected an environment of a known simulator"):
        GeometryInfo(Pictures())


def test_no_geometry_on_request_and_names_that_nobody_has_are_refused(toys):
    guard = toys.FakeGuard()
    env = RealismWrapper(toys.DictImageEnv(), toys.NegativeEditor(), guard=guard, geometry="none")
    env.reset(seed=0)
    assert all(frame.geometry is None for frame in guard.frames)
    with pytest.raises(EnvError, match="or a simulator"):
        RealismWrapper(Pictures(), toys.NegativeEditor(), guard=None, geometry="mujocoo")


def test_a_simulator_is_found_by_itself_and_named(toys, caplog):
    pytest.importorskip("panda_gym")
    size = {"render_width": 48, "render_height": 32}
    env = gym.make("PandaReach-v3", render_mode="rgb_array", **size)
    guard = toys.FakeGuard()
    env = gym.wrappers.AddRenderObservation(env, render_only=False)
    env = RealismWrapper(env, toys.NegativeEditor(), guard=guard)
    with caplog.at_level(logging.INFO):
        env.reset(seed=0)
    assert env.simulator == "PyBullet" and "read from PyBullet" in caplog.text
    assert "panda" in guard.frames[0].geometry.names.values()
    env.close()


def test_a_simulator_that_fails_is_warned_of_once_where_nobody_asked_for_it(toys, monkeypatch):
    import spie_robo.wrappers.geometry_sources as sources

    def fail(request):
        raise EnvError("MuJoCo cannot draw 100 % of it.")

    broken = SimpleNamespace(name="broken", views=fail)
    monkeypatch.setattr(sources, "find_simulator", lambda env: broken)
    env = RealismWrapper(Pictures(), toys.NegativeEditor(), guard=None)
    with pytest.warns(UserWarning, match="without geometry from here on") as caught:
        env.reset(seed=0)
        env.step(0)
    assert len(caught) == 1
    named = RealismWrapper(Pictures(), toys.NegativeEditor(), guard=None, geometry=broken)
    with pytest.raises(EnvError, match="cannot draw"):
        named.reset(seed=0)


class Measures:
    """A guard that measures one thing and accepts."""

    def judge(self, frame, edit):
        return GuardVerdict(True, (Deviation("shift_px", 0.5, 1.0),), "fine", "simulator")

    def judge_batch(self, frames, edits):
        return [self.judge(f, e) for f, e in zip(frames, edits, strict=True)]


def test_numpy_to_torch_works_around_the_wrapper_with_plain_infos(toys):
    pytest.importorskip("array_api_compat")
    env = RealismWrapper(
        Pictures(), toys.NegativeEditor(), guard=Measures(), geometry=Turned(), infos="plain"
    )
    env = gym.wrappers.NumpyToTorch(env)
    env.reset(seed=0)
    observation, *_, info = env.step(torch.tensor(0))
    assert isinstance(observation, torch.Tensor)
    realism = info["realism"]["camera"]
    assert float(realism["shift_px"]) == 0.5 and int(realism["edited"]) == 1
    assert isinstance(info["raw"]["camera"], torch.Tensor)
    assert info["geometry"]["camera"]["depth"].shape == (SIDE, SIDE)


def test_an_unknown_form_of_infos_or_of_render_is_refused(toys):
    for option in ({"infos": "dicts"}, {"shown": "both"}):
        with pytest.raises(ConfigError, match=f"{next(iter(option))}: expected"):
            RealismWrapper(Pictures(), toys.NegativeEditor(), guard=None, **option)


def test_render_shows_the_raw_picture_or_the_edit(toys):
    inner = Pictures()
    raw = RealismWrapper(inner, toys.NegativeEditor(), guard=None)
    raw.reset(seed=0)
    np.testing.assert_array_equal(raw.render(), inner.picture())
    edited = RealismWrapper(inner, toys.NegativeEditor(), guard=None, shown="edited")
    np.testing.assert_array_equal(edited.render(), inner.picture())  # nothing edited yet
    observation, _ = edited.reset(seed=0)
    np.testing.assert_array_equal(edited.render(), observation)


def test_several_edited_cameras_are_shown_side_by_side(toys):
    env = RealismWrapper(toys.DictImageEnv(), toys.NegativeEditor(), guard=None, shown="edited")
    observation, _ = env.reset(seed=0)
    shown = env.render()
    assert shown.shape == (toys.size, 2 * toys.size + 8, 3)
    np.testing.assert_array_equal(shown[:, : toys.size], observation["front"])


@pytest.mark.parametrize("shown", ["raw", "edited"])
def test_what_films_an_env_gets_the_pictures_that_were_chosen(toys, shown):
    env = RealismWrapper(Pictures(), toys.NegativeEditor(), guard=None, shown=shown)
    env = gym.wrappers.RenderCollection(env)
    observations = [env.reset(seed=0)[0]] + [env.step(0)[0] for _ in range(2)]
    for frame, observation in zip(env.render(), observations, strict=True):
        assert np.array_equal(frame, observation) == (shown == "edited")


@pytest.mark.parametrize("shown", ["raw", "edited"])
def test_record_video_works_around_the_wrapper(toys, tmp_path, shown):
    pytest.importorskip("moviepy")
    env = RealismWrapper(Pictures(), toys.NegativeEditor(), guard=None, shown=shown)
    env = gym.wrappers.RecordVideo(env, str(tmp_path), fps=5)
    env.reset(seed=0)
    for _ in range(3):
        env.step(0)
    env.close()
    assert len(list(tmp_path.glob("*.mp4"))) == 1


@pytest.mark.parametrize(
    "written",
    ["SameStep", "AutoresetMode.SAME_STEP", "SAME_STEP", "same_step", AutoresetMode.SAME_STEP],
)
def test_the_autoreset_mode_may_be_text(written):
    assert autoreset_mode({"autoreset_mode": written}) == AutoresetMode.SAME_STEP
    assert autoreset_mode({}) == AutoresetMode.NEXT_STEP
    with pytest.raises(EnvError, match="NEXT_STEP, SAME_STEP, DISABLED"):
        autoreset_mode({"autoreset_mode": "never"})


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_looks_change_with_each_episode_though_the_mode_is_written_as_text(toys, tmp_path, mode):
    from spie_robo.data import EpisodeStore

    plain = SyncVectorEnv([toys.PlainImageEnv] * 2, autoreset_mode=mode)
    plain.metadata = {**plain.metadata, "autoreset_mode": mode.value}
    path = tmp_path / "s.zarr"
    env = VectorRealismWrapper(plain, toys.NegativeEditor(), guard=None, record=path)
    _, infos = env.reset(seed=0)
    seeds = [infos["realism"]["camera"][0].seed]
    for _ in range(12):
        infos = env.step(np.zeros(2, int))[4]
        seeds.append(infos["realism"]["camera"][0].seed)
    env.close()
    assert len(set(seeds)) > 2
    # Every episode of three steps, and of each env the one that the end of the test cut off.
    lengths = [len(episode["action"]) for episode in EpisodeStore.open(path)]
    whole = {AutoresetMode.NEXT_STEP: 6, AutoresetMode.SAME_STEP: 8}[mode]
    assert lengths[:whole] == [3] * whole and all(length < 3 for length in lengths[whole:])


class TensorVectorEnv(gym.vector.VectorEnv):
    """Three worlds in one simulator, as ManiSkill's ``ManiSkillVectorEnv`` gives them.

    Tensors everywhere, the last observations as one batch under ``final_observation``.
    """

    num_envs = 3
    single_observation_space = Dict(rgb=Box(0, 255, (SIDE, SIDE, 3), np.uint8))
    single_action_space = gym.spaces.Discrete(2)
    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self):
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, 3)
        self.action_space = gym.spaces.MultiDiscrete([2] * 3)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return {"rgb": self.frames()}, {}

    def step(self, actions):
        self.steps += 1
        observation = {"rgb": self.frames()}
        done = torch.tensor([self.steps == 2, False, False])
        infos = {"success": done.clone()}
        if done.any():
            infos["final_observation"] = {"rgb": observation["rgb"].clone()}
            infos["final_info"] = {"success": done.clone()}
            infos["_final_info"] = done
            observation["rgb"][0] = 99
        return observation, torch.ones(3), done, torch.zeros(3, dtype=torch.bool), infos

    def frames(self):
        values = torch.arange(3, dtype=torch.uint8) * 20 + self.steps
        return values.reshape(3, 1, 1, 1).repeat(1, SIDE, SIDE, 3).contiguous()


def test_worlds_of_one_simulator_are_edited_in_one_batch_last_frames_too(toys):
    asked, editor = [], toys.NegativeEditor()

    class Worlds(Turned):
        def views(self, request):
            asked.append((request.world, request.live, request.observation["rgb"].shape[0]))
            return super().views(request)

    simulator = Worlds(Orientation())
    env = VectorRealismWrapper(TensorVectorEnv(), editor, guard=None, geometry=simulator)
    observation, infos = env.reset(seed=0)
    assert asked == [(0, True, 3), (1, True, 3), (2, True, 3)]
    assert isinstance(observation["rgb"], torch.Tensor)
    first = infos["realism"]["rgb"][0].seed
    env.step(torch.zeros(3))
    observation, _, _, _, infos = env.step(torch.zeros(3))
    assert asked[-1] == (0, False, 3) and editor.batches[-1] == ["rgb"] * 4
    last = infos["final_observation"]["rgb"]
    assert isinstance(last, torch.Tensor)
    # The last frame has the look of the episode that ended, the new first frame another.
    np.testing.assert_array_equal(
        last[0].numpy(), negative(np.full((SIDE, SIDE, 3), 2, np.uint8), first)
    )
    np.testing.assert_array_equal(last[1].numpy(), np.full((SIDE, SIDE, 3), 22))
    second = infos["realism"]["rgb"][0].seed
    assert second != first
    np.testing.assert_array_equal(
        observation["rgb"][0].numpy(), negative(np.full((SIDE, SIDE, 3), 99, np.uint8), second)
    )


def test_each_env_of_a_sync_vector_env_is_read_by_a_simulator_of_its_own(toys, monkeypatch):
    import spie_robo.wrappers.geometry_sources as sources

    found = []

    def find(env):
        found.append(env)
        return Turned(BOTTOM_ROW_FIRST)

    monkeypatch.setattr(sources, "find_simulator", find)
    plain = SyncVectorEnv([Pictures, Pictures])
    guard = toys.FakeGuard()
    env = VectorRealismWrapper(plain, toys.NegativeEditor(), guard=guard)
    env.reset(seed=0)
    assert [one.unwrapped for one in found] == [one.unwrapped for one in plain.envs]
    np.testing.assert_array_equal(guard.frames[1].rgb, plain.envs[1].picture()[::-1])


def test_a_stable_baselines_env_is_sent_to_its_own_wrapper(toys):
    imitation = SimpleNamespace(step_wait=lambda: None, num_envs=1)
    with pytest.raises(EnvError, match=r"stable_baselines3\.VecRealismWrapper"):
        VectorRealismWrapper(imitation, toys.NegativeEditor(), guard=None)
    with pytest.raises(EnvError, match="Use RealismWrapper for a single one"):
        VectorRealismWrapper(Pictures(), toys.NegativeEditor(), guard=None)
