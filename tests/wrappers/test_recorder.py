from __future__ import annotations

import tempfile
import tracemalloc
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from spie_robo.data import EpisodeStore, EpisodeWriter, StoreMetadata
from spie_robo.data.store.fields import observation_row
from spie_robo.errors import ConfigError, EditorError, EnvError, StoreError, StoreLockedError
from spie_robo.types import Geometry
from spie_robo.wrappers import RealismWrapper, VectorRealismWrapper


def run_episodes(env, *seeds):
    """Play, and return what a store should hold of each episode."""
    played = []
    for seed in seeds:
        observation, info = env.reset(seed=seed)
        rows, over = [], False
        while not over:
            action = len(rows) % 2
            before = (observation, info)
            observation, reward, terminated, truncated, info = env.step(action)
            over = terminated or truncated
            rows.append((*before, action, reward, info))
        played.append(rows)
    return played


def test_episodes_are_written_as_they_happen(toys, tmp_path):
    guard = toys.FakeGuard(lambda frame, edit: frame.camera == "front")
    env = RealismWrapper(
        gym.make("test/DictImage-v0"),
        toys.NegativeEditor(),
        guard=guard,
        record=tmp_path / "s.zarr",
    )
    played = run_episodes(env, 0)
    assert len(EpisodeStore.open(tmp_path / "s.zarr")) == 1  # durable before close()
    played += run_episodes(env, 1)
    env.close()

    store = EpisodeStore.open(tmp_path / "s.zarr")
    assert store.seeds.tolist() == [0, 1]
    assert store.metadata.env_id == "test/DictImage-v0"
    assert store.metadata.editor_id == "negative@1"
    for rows, episode in zip(played, store, strict=True):
        assert len(rows) == len(episode["action"]) == 3
        for t, (observation, info, action, reward, next_info) in enumerate(rows):
            np.testing.assert_array_equal(episode["front_rgb"][t], observation["front"])
            np.testing.assert_array_equal(episode["front_raw"][t], info["raw"]["front"])
            depth = info["geometry"]["front"].depth
            np.testing.assert_array_equal(episode["front_depth"][t], depth)
            wrist = observation["sensors"]["wrist"]
            np.testing.assert_array_equal(episode["sensors_wrist_rgb"][t], wrist)
            np.testing.assert_array_equal(episode["state"][t], observation["state"])
            assert episode["action"][t] == action and episode["reward"][t] == reward
            assert episode["success"][t] == next_info["success"]
            edit = info["realism"]["front"]
            assert episode["realism_front_seed"][t] == edit.seed
        assert episode["realism_front_accepted"].all()
        assert not episode["realism_sensors_wrist_accepted"].any()


def test_cameras_are_recorded_under_their_names(toys, tmp_path):
    env = RealismWrapper(
        gym.make("test/DictImage-v0"),
        toys.NegativeEditor(),
        guard=None,
        cameras={"front": "front", "hand": "sensors/wrist"},
        record=tmp_path / "s.zarr",
    )
    run_episodes(env, 1)
    env.close()
    keys = EpisodeStore.open(tmp_path / "s.zarr").keys
    assert {"front_rgb", "front_raw", "hand_rgb", "hand_raw"} <= set(keys)
    assert not any("wrist" in key for key in keys)


def reset_in_the_middle(env):
    """One whole episode, two that are reset or closed after a step, one whole one between."""
    run_episodes(env, 0)
    env.reset(seed=7)
    env.step(0)
    env.reset(seed=8)
    for _ in range(3):
        env.step(0)
    env.reset(seed=9)
    env.step(0)
    env.close()
    env.close()


def test_an_episode_that_is_reset_or_closed_in_the_middle_is_stored_as_truncated(toys, tmp_path):
    env = RealismWrapper(
        toys.PlainImageEnv(), toys.NegativeEditor(), guard=None, record=tmp_path / "s.zarr"
    )
    reset_in_the_middle(env)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    assert store.seeds.tolist() == [0, 7, 8, 9]
    assert [store.episode_length(i) for i in range(4)] == [3, 1, 3, 1]


def test_it_is_dropped_where_the_user_asks_and_the_log_says_how_many_steps(toys, tmp_path, caplog):
    env = RealismWrapper(
        toys.PlainImageEnv(),
        toys.NegativeEditor(),
        guard=None,
        record=tmp_path / "s.zarr",
        unfinished="drop",
    )
    reset_in_the_middle(env)
    assert EpisodeStore.open(tmp_path / "s.zarr").seeds.tolist() == [0, 8]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and all("an episode of 1 steps is dropped" in line for line in said)


def test_episodes_that_a_time_limit_around_the_wrapper_ends_are_stored(toys, tmp_path):
    class Endless(toys.PlainImageEnv):
        length = 10**9

    inner = RealismWrapper(Endless(), toys.NegativeEditor(), guard=None, record=tmp_path / "s.zarr")
    env = gym.wrappers.TimeLimit(inner, 5)
    run_episodes(env, 0, 1, 2)
    env.close()
    store = EpisodeStore.open(tmp_path / "s.zarr")
    assert store.seeds.tolist() == [0, 1, 2]
    assert [store.episode_length(i) for i in range(3)] == [5, 5, 5]


def test_an_unknown_way_with_unfinished_episodes_is_refused(toys, tmp_path):
    with pytest.raises(ConfigError, match="expected 'store' or 'drop'"):
        RealismWrapper(toys.PlainImageEnv(), toys.NegativeEditor(), guard=None, unfinished="keep")


class LateSuccess(gym.Wrapper):
    """Says ``is_success`` with the last step alone, as Stable-Baselines3's envs do, or never."""

    says, shape = True, (1,)

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        info = {key: value for key, value in info.items() if key != "success"}
        if terminated and self.says:
            info["is_success"] = True
        return observation, np.reshape(reward, self.shape), terminated, truncated, info


class LateSuccessOfNumbers(LateSuccess):
    shape = ()


@pytest.mark.parametrize("vector", [False, True])
def test_success_that_comes_with_the_last_step_and_rewards_of_one_number_are_recorded(
    toys, tmp_path, vector
):
    path, options = tmp_path / "s.zarr", {"guard": None, "record": tmp_path / "s.zarr"}
    if vector:
        plain = SyncVectorEnv([lambda: LateSuccessOfNumbers(toys.PlainImageEnv())])
        env = VectorRealismWrapper(plain, toys.NegativeEditor(), **options)
    else:
        inner = LateSuccess(toys.PlainImageEnv())
        env = RealismWrapper(inner, toys.NegativeEditor(), **options)
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.zeros(1, int) if vector else 0)
    env.close()
    episode = EpisodeStore.open(path)[0]
    assert episode["success"].tolist() == [False, False, True]
    assert episode["reward"].shape == (3,) and (episode["reward"] > 0).all()


def test_an_episode_that_never_says_success_does_not_fit_a_store_that_has_it(toys, tmp_path):
    path, inner = tmp_path / "s.zarr", LateSuccess(toys.PlainImageEnv())
    env = RealismWrapper(inner, toys.NegativeEditor(), guard=None, record=path)
    run_episodes(env, 0)
    inner.says = False
    with pytest.raises(StoreError, match="success: expected"):
        run_episodes(env, 1)
    inner.says = True
    run_episodes(env, 2)
    env.close()
    assert EpisodeStore.open(path).seeds.tolist() == [0, 2]


@pytest.mark.parametrize("vector", [False, True])
def test_an_episode_with_a_failed_edit_is_dropped(toys, vector):
    """Going on after the error must not pair an observation with a later action."""
    writer, editor = MemoryWriter(), toys.NegativeEditor()
    if vector:
        plain = SyncVectorEnv([toys.PlainImageEnv])
        env = VectorRealismWrapper(plain, editor, guard=None, record=writer)
    else:
        env = RealismWrapper(toys.PlainImageEnv(), editor, guard=None, record=writer)
    action = np.zeros(1, int) if vector else 0
    env.reset(seed=0)
    env.step(action)
    editor.edit = toys.BrokenEditor().edit
    with pytest.raises(EditorError):
        env.step(action)
    del editor.edit
    env.step(action)
    assert writer.episodes == []
    env.reset(seed=1)
    for _ in range(3):
        env.step(action)
    assert [seed for seed, _ in writer.episodes] == [1]


def test_a_store_goes_on_where_it_was(toys, tmp_path):
    for _ in range(2):
        env = RealismWrapper(
            toys.PlainImageEnv(), toys.NegativeEditor(), guard=None, record=str(tmp_path / "s.zarr")
        )
        run_episodes(env, 0, 1)
        env.close()
    assert EpisodeStore.open(tmp_path / "s.zarr").seeds.tolist() == [0, 1, 0, 1]


def test_a_writer_that_was_passed_in_stays_open(toys, tmp_path):
    with EpisodeWriter.create(tmp_path / "s.zarr") as writer:
        env = RealismWrapper(toys.PlainImageEnv(), toys.NegativeEditor(), guard=None, record=writer)
        run_episodes(env, 1)
        env.close()
        assert writer.n_episodes == 1
        writer.begin_episode()


def test_another_writer_or_editor_or_env_is_refused(toys, tmp_path):
    path = tmp_path / "s.zarr"

    def wrap(name="test/PlainImage-v0", editor_id="negative@1"):
        editor = toys.NegativeEditor()
        editor.id = editor_id
        return RealismWrapper(gym.make(name), editor, guard=None, record=path)

    env = wrap()
    with pytest.raises(StoreLockedError):
        wrap()
    run_episodes(env, 1)
    env.close()
    for kwargs, error, message in (
        ({"editor_id": "other@2"}, StoreError, "recorded with the editor 'negative@1'"),
        ({"name": "test/DictImage-v0"}, EnvError, "recorded in test/PlainImage-v0"),
    ):
        other = wrap(**kwargs)
        with pytest.raises(error, match=message):
            run_episodes(other, 1)
        other.close()
    assert len(EpisodeStore.open(path)) == 1


def test_the_spec_does_not_record(toys, tmp_path):
    env = RealismWrapper(
        gym.make("test/PlainImage-v0"), "by-name", guard=None, record=tmp_path / "s.zarr"
    )
    rebuilt = gym.make(env.spec)
    run_episodes(rebuilt, 1)
    rebuilt.close()
    env.close()
    assert len(EpisodeStore.open(tmp_path / "s.zarr")) == 0


class MemoryWriter:
    """Takes episodes like an ``EpisodeWriter``, without the disk."""

    path = Path(tempfile.gettempdir(), "memory.zarr")

    def __init__(self):
        self.metadata = StoreMetadata()
        self.episodes = []

    keys = ()

    def require_fits(self, row):
        assert row

    def begin_episode(self, seed=None):
        self.seed, self.blocks = seed, []

    def extend(self, rows):
        self.blocks.append(rows)

    def end_episode(self):
        keys = self.blocks[0]
        arrays = {key: np.concatenate([block[key] for block in self.blocks]) for key in keys}
        self.episodes.append((self.seed, arrays))

    def discard_episode(self):
        self.blocks = []


@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_a_vector_env_records_what_the_single_wrapper_would(toys, kind, mode):
    def lengthened(length):
        env = toys.DictImageEnv()
        env.length = length
        return env

    got, single = MemoryWriter(), MemoryWriter()
    # Without copies: each step overwrites the arrays of the last.
    plain = kind([lambda: lengthened(2), lambda: lengthened(3)], autoreset_mode=mode, copy=False)
    envs = VectorRealismWrapper(plain, toys.NegativeEditor(), guard=None, record=got)
    envs.reset(seed=[5, 6])
    for _ in range(8 if mode is AutoresetMode.NEXT_STEP else 6):
        envs.step(np.ones(2, int))
    envs.close()
    # NEXT_STEP spends a step on each reset: env 0 ends at 2, 5, 8 and env 1 at 3, 7.
    lengths = [2, 3, 2, 3, 2] if mode is AutoresetMode.NEXT_STEP else [2, 3, 2, 2, 3]
    assert [len(arrays["action"]) for _, arrays in got.episodes] == lengths

    for length, seed in ((2, 5), (3, 6)):
        env = RealismWrapper(lengthened(length), toys.NegativeEditor(), guard=None, record=single)
        for episode in range(3):
            env.reset(seed=seed if episode == 0 else None)
            for _ in range(length):
                env.step(1)
    expected = {
        length: iter([e for e in single.episodes if len(e[1]["action"]) == length])
        for length in (2, 3)
    }
    for seed, arrays in got.episodes:
        expected_seed, expected_arrays = next(expected[len(arrays["action"])])
        assert seed == expected_seed and arrays.keys() == expected_arrays.keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(array, expected_arrays[key], err_msg=key)


def test_the_store_says_what_made_its_edits(toys, tmp_path):
    editor = toys.NegativeEditor()
    editor.instruction = "the negative"
    editor.description = {"settings": {"steps": 3}, "protect": ["cube"]}
    guard = toys.FakeGuard(lambda frame, edit: True)
    guard.description = {"limits": {"inserted": 5.0}}
    env = RealismWrapper(
        gym.make("test/DictImage-v0"), editor, guard=guard, record=tmp_path / "s.zarr"
    )
    run_episodes(env, 0)
    env.close()
    metadata = EpisodeStore.open(tmp_path / "s.zarr").metadata
    assert metadata.instruction == "the negative"
    assert metadata.provenance["denoising_steps"] == 3
    assert metadata.provenance["protected"] == ["cube"]
    assert metadata.provenance["guard"] == "FakeGuard"
    assert metadata.provenance["guard_limits"] == {"inserted": 5.0}


def test_geometry_is_kept_though_an_env_renders_into_the_same_buffer(toys, tmp_path):
    env = toys.PlainImageEnv()
    buffer = np.zeros(env.observation_space.shape[:2], np.float32)
    step = env.step

    def counting_step(action):
        buffer[...] += 1
        return step(action)

    env.step = counting_step
    wrapped = RealismWrapper(
        env,
        toys.NegativeEditor(),
        guard=None,
        geometry=lambda env, observation, info: {"camera": Geometry(depth=buffer)},
        record=tmp_path / "s.zarr",
    )
    run_episodes(wrapped, 0)
    wrapped.close()
    depth = EpisodeStore.open(tmp_path / "s.zarr")[0]["camera_depth"]
    assert depth[:, 0, 0].tolist() == list(range(len(depth)))


def test_recording_from_outside_under_other_camera_names_is_refused(toys, tmp_path):
    env = RealismWrapper(
        gym.make("test/DictImage-v0"),
        toys.NegativeEditor(),
        guard=None,
        cameras={"hand": "sensors/wrist"},
    )
    observation, info = env.reset(seed=0)
    with pytest.raises(EnvError, match=r"names the cameras \['hand'\].*record="):
        observation_row(observation, info)


class Interrupted:
    """Raises at its so-manieth call, once."""

    def __init__(self, editor, at, error):
        self.editor, self.id, self.left, self.error = editor, editor.id, at, error

    def edit(self, frames, references=None, instruction=None, seeds=None):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return self.editor.edit(frames, references, instruction, seeds)


def test_an_episode_that_lost_a_step_to_an_interrupt_is_not_recorded(toys, tmp_path):
    editor = Interrupted(toys.NegativeEditor(), 3, KeyboardInterrupt())
    path = tmp_path / "s.zarr"
    env = RealismWrapper(toys.PlainImageEnv(), editor, guard=None, record=path)
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(KeyboardInterrupt):
        env.step(0)
    env.step(0)  # the third and last
    played = run_episodes(env, 1)
    env.close()
    store = EpisodeStore.open(path)
    assert store.seeds.tolist() == [1] and len(store[0]["action"]) == len(played[0])


@pytest.mark.parametrize("error", [KeyError("depth"), KeyboardInterrupt()])
def test_nor_is_one_whose_env_failed_in_a_step_or_a_reset(toys, tmp_path, error):
    class Flaky(toys.PlainImageEnv):
        fails = False

        def step(self, action):
            found = super().step(action)
            if self.fails:
                raise error
            return found

        def reset(self, **named):
            found = super().reset(**named)
            if self.fails:
                raise error
            return found

    inner, path = Flaky(), tmp_path / "s.zarr"
    env = RealismWrapper(inner, toys.NegativeEditor(), guard=None, record=path)
    for fail in (lambda: env.step(0), lambda: env.reset(seed=9)):
        inner.fails = False
        env.reset(seed=0)
        env.step(0)
        inner.fails = True
        with pytest.raises(type(error)):
            fail()
        inner.fails = False
        while not env.step(0)[2]:
            pass
    run_episodes(env, 1)
    env.close()
    # A step that failed leaves a hole. A reset that failed comes after the last step.
    assert EpisodeStore.open(path).seeds.tolist() == [0, 1]


def test_a_vector_env_drops_its_episodes_too(toys, tmp_path):
    editor, path = Interrupted(toys.NegativeEditor(), 2, KeyboardInterrupt()), tmp_path / "s.zarr"
    envs = SyncVectorEnv([toys.PlainImageEnv] * 2, autoreset_mode=AutoresetMode.DISABLED)
    envs = VectorRealismWrapper(envs, editor, guard=None, record=path)
    envs.reset(seed=0)
    with pytest.raises(KeyboardInterrupt):
        envs.step([0, 0])
    envs.step([0, 0])
    envs.step([0, 0])
    envs.reset(seed=5)
    for _ in range(3):
        envs.step([0, 0])
    envs.close()
    store = EpisodeStore.open(path)
    assert store.seeds.tolist() == [5, 6] and [len(e["action"]) for e in store] == [3, 3]


def test_every_episode_of_an_env_that_resets_itself_is_recorded(toys, tmp_path):
    path = tmp_path / "s.zarr"
    inner = gym.wrappers.Autoreset(toys.PlainImageEnv())
    env = RealismWrapper(inner, toys.NegativeEditor(), guard=None, record=path)
    env.reset(seed=0)
    rewards = [env.step(0)[1] for _ in range(11)]
    env.close()
    store = EpisodeStore.open(path)
    assert [len(episode["action"]) for episode in store] == [3, 3, 3]
    for number, episode in enumerate(store):
        assert episode["reward"].tolist() == rewards[4 * number : 4 * number + 3]


class LongEnv(gym.Env):
    """Large frames that hardly compress; its observation may change its shape."""

    def __init__(self, steps, side=64, changes=None, actions=None):
        image = gym.spaces.Box(0, 255, (side, side, 3), np.uint8)
        state = gym.spaces.Box(-9, 9, (2,), np.float32)
        self.observation_space = gym.spaces.Dict(front=image, state=state)
        self.action_space = actions or gym.spaces.Discrete(2)
        self.steps, self.changes = steps, changes

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.now = 0
        return self.observe(), {}

    def step(self, action):
        self.now += 1
        return self.observe(), 0.0, self.now >= self.steps, False, {}

    def observe(self):
        shape = self.observation_space["front"].shape
        front = self.np_random.integers(0, 256, shape, np.uint8)
        size = 3 if self.changes is not None and self.now >= self.changes else 2
        return {"front": front, "state": np.full(size, self.now, np.float32)}


def test_an_episode_takes_megabytes_of_memory_however_long_it_is(toys, tmp_path, monkeypatch):
    """Twelve times the frames, the same peak: rows are on disk while the episode goes on."""
    monkeypatch.setattr("spie_robo.data.store.row_spool.BLOCK_BYTES", 2**20)
    monkeypatch.setattr("spie_robo.data.store.writer.FLUSH_BYTES", 2**20)
    monkeypatch.setattr("spie_robo.data.store.layout.FILE_BYTES", 2**20)  # or one shard is it all
    peaks = []
    for steps in (100, 1200):
        path = tmp_path / f"{steps}.zarr"
        editor = toys.NegativeEditor()
        env = RealismWrapper(LongEnv(steps), editor, guard=None, record=path)
        env.reset(seed=0)
        tracemalloc.start()
        while not env.step(0)[2]:
            editor.batches.clear()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        env.close()
        episode = EpisodeStore.open(path)[0]
        assert episode["state"][:, 0].tolist() == list(range(steps))
        assert (episode["front_raw"] != episode["front_rgb"]).mean() > 0.9
    assert peaks[1] < 1.5 * peaks[0]
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["100.zarr", "1200.zarr"]


def test_an_observation_that_changes_its_shape_is_refused_at_that_step(toys, tmp_path):
    env = LongEnv(50, changes=3)
    env = RealismWrapper(env, toys.NegativeEditor(), guard=None, record=tmp_path / "s.zarr")
    env.reset(seed=0)
    for _ in range(3):
        env.step(0)
    with pytest.raises(StoreError, match=r"state: expected float32 \(2,\), got float32 \(3,\)"):
        env.step(0)
    env.close()


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Dict(arm=gym.spaces.Box(-1, 1, (3,)), hand=gym.spaces.Discrete(2)),
        gym.spaces.Tuple([gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-1, 1, (2,))]),
    ],
)
def test_an_action_of_parts_is_refused_at_the_first_step(toys, tmp_path, space):
    env = LongEnv(50, actions=space)
    path = tmp_path / "s.zarr"
    wrapped = RealismWrapper(env, toys.NegativeEditor(), guard=None, record=path)
    wrapped.reset(seed=0)
    with pytest.raises(StoreError, match="TransformAction"):
        wrapped.step(space.sample())
    wrapped.close()

    def unflatten(flat):
        return gym.spaces.unflatten(space, flat)

    flat = gym.spaces.flatten_space(space)
    env = gym.wrappers.TransformAction(LongEnv(2, actions=space), unflatten, flat)
    env = RealismWrapper(env, toys.NegativeEditor(), guard=None, record=path)
    env.reset(seed=0)
    for _ in range(2):
        env.step(flat.sample())
    env.close()
    assert EpisodeStore.open(path)[0]["action"].shape == (2, 5)


def test_rows_that_another_episode_of_the_store_lacks_are_refused_at_the_first_step(toys, tmp_path):
    path = tmp_path / "s.zarr"
    env = RealismWrapper(LongEnv(2), toys.NegativeEditor(), guard=None, record=path)
    env.reset(seed=0)
    while not env.step(0)[2]:
        pass
    env.close()
    other = RealismWrapper(LongEnv(2, side=32), toys.NegativeEditor(), guard=None, record=path)
    other.reset(seed=0)
    with pytest.raises(StoreError, match="front_rgb: expected"):
        other.step(0)
    other.close()
    assert len(EpisodeStore.open(path)) == 1
