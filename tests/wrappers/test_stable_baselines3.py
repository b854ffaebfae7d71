"""Stable-Baselines3's vector envs, the last observations of episodes included."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecTransposeImage

from spie_robo.data import EpisodeStore
from spie_robo.errors import EnvError
from spie_robo.wrappers import RealismWrapper
from spie_robo.wrappers.stable_baselines3 import VecRealismWrapper


def played(toys, env, steps=7):
    """What comes of ``steps`` steps, of a vector env of two."""
    env.seed(3)
    found = [env.reset()]
    infos = []
    for _ in range(steps):
        observation, _, _, info = env.step(np.zeros(2, int))
        found.append(observation)
        infos.append(info)
    return found, infos


def test_each_env_has_the_edits_of_the_single_wrapper(toys):
    env = VecRealismWrapper(
        DummyVecEnv([toys.PlainImageEnv] * 2), toys.NegativeEditor(), guard=None
    )
    found, _ = played(toys, env, 2)
    for i in range(2):
        single = RealismWrapper(toys.PlainImageEnv(), toys.NegativeEditor(), guard=None)
        expected = [single.reset(seed=3 + i)[0], single.step(0)[0], single.step(0)[0]]
        for batch, image in zip(found, expected, strict=True):
            np.testing.assert_array_equal(batch[i], image)


def test_the_last_observation_is_edited_in_the_look_of_the_episode_that_ended(toys):
    editor = toys.NegativeEditor()
    env = VecRealismWrapper(DummyVecEnv([toys.PlainImageEnv] * 2), editor, guard=None)
    found, infos = played(toys, env, 3)
    assert editor.batches[-1] == ["camera"] * 4  # two new frames and two last ones
    info = infos[-1][0]
    before = infos[0][0]["realism"]["camera"].seed
    raw = info["terminal_info"]["raw"]["camera"]
    expected = (255 - raw) ^ np.uint8(before % 13)
    np.testing.assert_array_equal(info["terminal_observation"], expected)
    after = info["realism"]["camera"].seed
    assert after != before
    np.testing.assert_array_equal(
        found[-1][0], (255 - info["raw"]["camera"]) ^ np.uint8(after % 13)
    )


def test_dict_observations_and_what_wraps_the_wrapper(toys):
    env = VecRealismWrapper(
        DummyVecEnv([toys.DictImageEnvFlat] * 2), toys.NegativeEditor(), guard=None
    )
    assert env.reset()["front"].shape == (2, toys.size, toys.size, 3)
    assert VecTransposeImage(env).reset()["front"].shape == (2, 3, toys.size, toys.size)


def test_episodes_are_recorded_each_whole(toys, tmp_path):
    path = tmp_path / "s.zarr"
    plain = DummyVecEnv([toys.PlainImageEnv] * 2)
    env = VecRealismWrapper(plain, toys.NegativeEditor(), guard=None, record=path)
    _, infos = played(toys, env, 7)
    env.close()
    store = EpisodeStore.open(path)
    assert [store.episode_length(i) for i in range(len(store))] == [3, 3, 3, 3, 1, 1]
    assert store.seeds[:2].tolist() == [3, 4]
    assert store[0]["success"].tolist() == [False, False, True]
    np.testing.assert_array_equal(store[0]["camera_raw"][1], infos[0][0]["raw"]["camera"])


@pytest.mark.slow
def test_envs_in_other_processes(toys):
    plain = SubprocVecEnv([toys.PlainImageEnv] * 2, start_method="fork")
    env = VecRealismWrapper(plain, toys.NegativeEditor(), guard=None)
    found, infos = played(toys, env, 4)
    env.close()
    assert found[-1].shape == (2, toys.size, toys.size, 3) and "terminal_info" in infos[2][1]


def test_an_env_of_gymnasium_is_sent_to_its_own_wrapper(toys):
    with pytest.raises(EnvError, match="RealismWrapper or VectorRealismWrapper"):
        VecRealismWrapper(toys.PlainImageEnv(), toys.NegativeEditor(), guard=None)
