from __future__ import annotations

import functools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from spie_robo.errors import EnvError
from spie_robo.types import GuardedEdit
from spie_robo.wrappers import GeometryInfo, RealismWrapper, VectorRealismWrapper
from spie_robo.wrappers.vector_infos import env_info

VECTORS = {
    "sync": SyncVectorEnv,
    "sync-no-copy": functools.partial(SyncVectorEnv, copy=False),
    "async-shared": AsyncVectorEnv,
    "async-shared-no-copy": functools.partial(AsyncVectorEnv, copy=False),
    "async-pipes": functools.partial(AsyncVectorEnv, shared_memory=False),
}
RESETTING = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]


@pytest.fixture(params=VECTORS)
def make_vector(request):
    """Build a vector env of one kind, and close it after the test."""
    made = []

    def build(*env_fns, mode=AutoresetMode.NEXT_STEP):
        made.append(VECTORS[request.param](list(env_fns), autoreset_mode=mode))
        return made[-1]

    yield build
    for env in made:
        env.close()


def lengthened(kind, length):
    """An env whose episodes have ``length`` steps, so that envs of a vector end apart."""

    def make():
        env = kind()
        env.length = length
        return env

    return make


@pytest.mark.parametrize("mode", RESETTING, ids=lambda mode: mode.name)
def test_equals_the_single_wrapper_inside_the_envs(toys, make_vector, mode):
    """Observations, rewards, infos and looks, through several episodes that end apart."""

    def realistic(length):
        env = lengthened(toys.DictImageEnv, length)()
        return RealismWrapper(env, toys.NegativeEditor(), guard=toys.FakeGuard())

    inside = SyncVectorEnv([lambda: realistic(2), lambda: realistic(3)], autoreset_mode=mode)
    plain = make_vector(
        lengthened(toys.DictImageEnv, 2), lengthened(toys.DictImageEnv, 3), mode=mode
    )
    outside = VectorRealismWrapper(plain, toys.NegativeEditor(), guard=toys.FakeGuard())
    assert outside.observation_space == inside.observation_space
    assert_same(outside.reset(seed=4), inside.reset(seed=4))
    for step in range(8):
        actions = np.array([step % 2, 1])
        got, expected = outside.step(actions), inside.step(actions)
        assert_same(got, expected)
        assert got[0] in outside.observation_space


def assert_same(got, expected):
    if isinstance(expected, dict):
        assert set(got) == set(expected)
        for key in expected:
            assert_same(got[key], expected[key])
    elif isinstance(expected, tuple):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray) and expected.dtype == object:
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(got, expected)
    else:
        assert got == expected


@pytest.mark.parametrize("mode", RESETTING, ids=lambda mode: mode.name)
def test_looks_change_where_an_env_starts_an_episode(toys, make_vector, mode):
    plain = make_vector(
        lengthened(toys.PlainImageEnv, 2), lengthened(toys.PlainImageEnv, 3), mode=mode
    )
    env = VectorRealismWrapper(plain, toys.NegativeEditor(), guard=None)
    seeds = [seeds_of(env.reset(seed=[11, 12])[1])]
    seeds += [seeds_of(env.step(np.zeros(2, int))[4]) for _ in range(6)]
    changed = np.diff(np.array(seeds), axis=0) != 0
    expected = {
        AutoresetMode.NEXT_STEP: ["001001", "000100"],
        AutoresetMode.SAME_STEP: ["010101", "001001"],
    }[mode]
    for i in range(2):
        assert "".join(str(int(c)) for c in changed[:, i]) == expected[i]


def seeds_of(infos):
    return [edit.seed for edit in infos["realism"]["camera"]]


def test_final_frames_are_edited_with_the_look_of_their_episode(toys, make_vector):
    plain = make_vector(
        lengthened(toys.DictImageEnv, 2),
        lengthened(toys.DictImageEnv, 3),
        mode=AutoresetMode.SAME_STEP,
    )
    guard = toys.FakeGuard()
    env = VectorRealismWrapper(plain, toys.NegativeEditor(), guard=guard)
    _, infos = env.reset(seed=0)
    look = infos["realism"]["front"][0].seed
    env.step(np.zeros(2, int))
    guard.frames.clear()
    observations, _, terminations, _, infos = env.step(np.zeros(2, int))

    assert terminations.tolist() == [True, False] and infos["final_obs"][1] is None
    final = infos["final_obs"][0]
    edit = infos["final_info"]["realism"]["front"][0]
    assert final in env.single_observation_space
    assert infos["final_info"]["_realism"].tolist() == [True, False]
    assert edit.seed == look != infos["realism"]["front"][0].seed
    raw = infos["final_info"]["raw"]["front"][0]
    np.testing.assert_array_equal(final["front"], (255 - raw) ^ np.uint8(look % 13))
    assert final["state"][1] == 2 and observations["state"][0, 1] == 0
    # Judged against its own depth, not that of the new episode's first frame.
    front = [f.geometry.depth.max() for f in guard.frames if f.camera == "front"]
    assert front == [1.0, 3.0, 3.0]


def test_every_env_and_camera_of_a_step_is_one_batch(toys, make_vector):
    editor = toys.NegativeEditor()
    plain = make_vector(
        lengthened(toys.DictImageEnv, 1), toys.DictImageEnv, mode=AutoresetMode.SAME_STEP
    )
    env = VectorRealismWrapper(plain, editor, guard=None)
    env.reset(seed=0)
    env.step(np.zeros(2, int))
    assert [len(batch) for batch in editor.batches] == [4, 6]


def test_geometry_reaches_the_guard_through_the_infos(toys, make_vector):
    guard = toys.FakeGuard()
    plain = make_vector(toys.DictImageEnv, toys.DictImageEnv)
    env = VectorRealismWrapper(plain, toys.NegativeEditor(), guard=guard)
    env.reset(seed=0)
    _, _, _, _, infos = env.step(np.zeros(2, int))
    assert [f.geometry.depth.max() for f in guard.frames[4::2]] == [2.0, 2.0]
    assert infos["_realism"].all() and infos["realism"]["_front"].all()
    assert all(isinstance(e, GuardedEdit) for e in infos["realism"]["front"])
    assert infos["raw"]["front"].shape == (2, toys.size, toys.size, 3)


def test_observations_handed_out_do_not_change_later(toys, make_vector):
    plain = make_vector(toys.PlainImageEnv, toys.PlainImageEnv)
    env = VectorRealismWrapper(plain, toys.NegativeEditor(), guard=None)
    first, infos = env.reset(seed=0)
    kept, raw = first.copy(), infos["raw"]["camera"].copy()
    second, *_, later = env.step(np.ones(2, int))
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(infos["raw"]["camera"], raw)
    assert not np.array_equal(second, first)
    look = later["realism"]["camera"][0].seed
    np.testing.assert_array_equal(
        later["raw"]["camera"][0], (255 - second[0]) ^ np.uint8(look % 13)
    )


def test_a_masked_reset_leaves_the_other_envs_alone(toys, make_vector):
    plain = make_vector(
        lengthened(toys.PlainImageEnv, 1), toys.PlainImageEnv, mode=AutoresetMode.DISABLED
    )
    editor = toys.NegativeEditor()
    env = VectorRealismWrapper(plain, editor, guard=None)
    _, infos = env.reset(seed=0)
    before, _, _, _, stepped = env.step(np.zeros(2, int))
    assert seeds_of(stepped) == seeds_of(infos)
    after, reset = env.reset(options={"reset_mask": np.array([True, False])})
    np.testing.assert_array_equal(after[1], before[1])
    assert not np.array_equal(after[0], before[0])
    assert len(editor.batches[-1]) == 1
    assert reset["_realism"].tolist() == [True, False]
    assert reset["realism"]["camera"][0].seed != seeds_of(infos)[0]


def test_an_unseeded_reset_takes_the_seeds_that_the_envs_chose(toys, make_vector):
    plain = make_vector(toys.PlainImageEnv, toys.PlainImageEnv)
    env = VectorRealismWrapper(plain, toys.NegativeEditor(), guard=None)
    looks = seeds_of(env.reset()[1])
    again = VectorRealismWrapper(
        SyncVectorEnv([toys.PlainImageEnv] * 2), toys.NegativeEditor(), guard=None
    )
    assert seeds_of(again.reset(seed=list(plain.np_random_seed))[1]) == looks
    assert looks[0] != looks[1]


def test_a_failing_editor_passes_the_raw_frames_through(toys, make_vector):
    plain = make_vector(toys.PlainImageEnv, toys.PlainImageEnv)
    env = VectorRealismWrapper(plain, toys.BrokenEditor(), guard=None, on_error="passthrough")
    observations, infos = env.reset(seed=0)
    np.testing.assert_array_equal(observations, infos["raw"]["camera"])
    assert all("out of memory" in edit.error for edit in infos["realism"]["camera"])


def test_a_geometry_function_is_refused_with_the_way_out(toys):
    with pytest.raises(EnvError, match="GeometryInfo"):
        VectorRealismWrapper(
            SyncVectorEnv([toys.DictImageEnv]), toys.NegativeEditor(), geometry=lambda *_: {}
        )
    assert GeometryInfo.__name__ in VectorRealismWrapper.__init__.__doc__


def test_a_vector_env_without_images(toys):
    with pytest.raises(EnvError, match="no camera images"):
        VectorRealismWrapper(gym.make_vec("CartPole-v1", num_envs=2), toys.NegativeEditor())


def test_env_info_is_the_inverse_of_gathering():
    vector = SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 3)
    each = [{"a": 1, "deep": {"b": np.ones(2)}}, {"c": "text"}, {"a": 3, "deep": {"d": None}}]
    infos = {}
    for i, info in enumerate(each):
        infos = vector._add_info(infos, info, i)
    for i, info in enumerate(each):
        assert_same(env_info(infos, i), info)
