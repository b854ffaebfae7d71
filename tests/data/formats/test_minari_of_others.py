from __future__ import annotations

import json

import gymnasium as gym
import h5py
import numpy as np
import pytest
from minari import MinariDataset
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from spie_robo.data.conversion.convert import convert_store
from spie_robo.data.formats import export_episodes, open_source
from spie_robo.data.formats.source_record import SourceRecord
from spie_robo.data.frames import camera_frames
from spie_robo.data.recorded_geometry import unusable_geometry
from spie_robo.data.store.episode_store import EpisodeStore
from spie_robo.data.store.writer import EpisodeWriter

SIZE = 40
BYTES = gym.spaces.Box(0, 255, (SIZE, SIZE), np.uint8)
COLOURS = gym.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
LABELS = np.zeros((SIZE, SIZE), np.uint8)
LABELS[10:30, 5:25], LABELS[20:35, 20:38] = 7, 12


def write(path, observation, action, episodes, *, jpeg=True):
    """A data set as Minari 0.5.4 writes it; each episode is (observations, actions, infos)."""
    (path / "data").mkdir(parents=True)
    storage = MinariStorage.new(path / "data", observation, action, jpeg_encoding=jpeg)
    buffers = []
    for i, (observations, actions, infos) in enumerate(episodes):
        steps = len(next(iter(actions.values())) if isinstance(actions, dict) else actions)
        buffers.append(
            EpisodeBuffer(
                id=i,
                seed=50 + i,
                observations=observations,
                actions=actions,
                rewards=np.arange(steps, dtype=np.float64),
                terminations=np.arange(steps) == steps - 1,
                truncations=np.zeros(steps, bool),
                infos=infos,
            )
        )
    storage.update_episodes(buffers)
    file = path / "data/metadata.json"
    about = {**json.loads(file.read_text()), "dataset_id": "lab/x-v0", "minari_version": "0.5.4"}
    file.write_text(json.dumps(about))
    return path


def masked(path, *, jpeg=True):
    colours = np.random.default_rng(0).integers(0, 256, (5, 5, 5, 3), np.uint8)
    observations = {
        "grey": np.repeat(colours[..., 0], 8, 1).repeat(8, 2),
        "front_image": np.repeat(colours, 8, 1).repeat(8, 2),
        "front_segmentation": np.broadcast_to(LABELS, (5, SIZE, SIZE)).copy(),
    }
    space = gym.spaces.Dict({"grey": BYTES, "front_image": COLOURS, "front_segmentation": BYTES})
    action = gym.spaces.Discrete(7)
    return write(path, space, action, [(observations, np.arange(4), {})], jpeg=jpeg), observations


def test_grey_pictures_are_read_as_minari_reads_them(tmp_path):
    path, _ = masked(tmp_path / "x")
    expected = MinariDataset(path / "data")[0].observations["grey"][:-1]
    with open_source(path) as source:
        rows = source.read_rows(0, 0, 4)["grey"]
    assert rows.shape == (4, SIZE, SIZE)
    assert np.abs(rows.astype(int) - expected).max() <= 2  # two JPEG decoders


def test_labels_that_minari_packed_as_jpeg_are_said_to_be_lossy_and_judge_nothing(tmp_path):
    path, _ = masked(tmp_path / "x")
    with open_source(path) as source:
        rows = source.read_rows(0, 0, 2)
        assert set(np.unique(rows["front_segmentation"])) > {0, 7, 12}  # what JPEG made of them
        notes = SourceRecord.of(source.metadata).notes
        said = "front_segmentation was read from JPEG, as Minari keeps it: its values are not exact"
        assert any(note.startswith(f"{said}, and no edit is judged by it") for note in notes)
        assert "front_segmentation" in unusable_geometry(source, ["front"])
        (frame, _) = camera_frames(source.metadata, rows, "front")
    assert frame.geometry is None


def test_labels_are_exact_where_nothing_is_packed(tmp_path):
    path, _ = masked(tmp_path / "x", jpeg=False)
    with open_source(path) as source:
        rows = source.read_rows(0, 0, 2)
        assert set(np.unique(rows["front_segmentation"])) == {0, 7, 12}
        assert not unusable_geometry(source, ["front"])


@pytest.mark.parametrize("name", ["minari", "minari-jpeg"])
def test_labels_that_we_write_come_back_exact(tmp_path, name):
    """In our own reading and in Minari's, whatever their type and the space of the source."""
    path, _ = masked(tmp_path / "x", jpeg=False)
    convert_store(path, tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    with EpisodeWriter.create(tmp_path / "t.zarr", store.metadata) as writer:
        writer.add_episode({**store[0], "labels": np.broadcast_to(LABELS, (4, SIZE, SIZE)).copy()})
    report = export_episodes(
        EpisodeStore.open(tmp_path / "t.zarr"), tmp_path / "m", name, progress=False
    )
    assert {loss.key for loss in report.losses} == ({"front_rgb"} if "jpeg" in name else set())
    found = MinariDataset(tmp_path / "m/data")[0].observations
    for key in ("front_segmentation", "labels"):
        assert set(np.unique(found[key])) == {0, 7, 12}
        np.testing.assert_array_equal(found[key][0], LABELS)
    with open_source(tmp_path / "m") as source:
        rows = source.read_rows(0, 0, 1)
        assert rows["labels"].dtype == np.uint8 and rows["front_segmentation"].dtype == np.int32


def test_spaces_of_the_source_are_those_of_the_output(tmp_path):
    space = gym.spaces.Dict(
        {
            "pose": gym.spaces.Box(-2, np.array([1, 2, np.inf]), (3,), np.float64),
            "pair": gym.spaces.Tuple([gym.spaces.Discrete(5), gym.spaces.MultiDiscrete([3, 4])]),
            "mode": gym.spaces.Discrete(3, start=1),
        }
    )
    observations = {
        "pose": np.zeros((5, 3)),
        "pair": (np.arange(5), np.zeros((5, 2), np.int64)),
        "mode": np.ones(5, np.int64),
    }
    path = write(tmp_path / "x", space, gym.spaces.Discrete(7), [(observations, np.arange(4), {})])
    convert_store(path, tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    export_episodes(store, tmp_path / "again", "minari", progress=False)
    found = MinariDataset(tmp_path / "again/data")
    assert found.action_space == gym.spaces.Discrete(7)
    assert found.observation_space == space
    episode = found[0]
    assert all(episode.actions[t] in found.action_space for t in range(4))
    np.testing.assert_array_equal(episode.observations["pair"][0][:-1], np.arange(4))


def test_a_space_that_is_no_longer_true_is_not_kept(tmp_path):
    space = gym.spaces.Dict({"a": gym.spaces.Box(-1, 1, (2,)), "b": gym.spaces.Box(-1, 1, (2,))})
    observations = {"a": np.zeros((4, 2), np.float32), "b": np.zeros((4, 2), np.float32)}
    action = gym.spaces.Box(-1, 1, (2,))
    path = write(tmp_path / "x", space, action, [(observations, np.zeros((3, 2), np.float32), {})])
    convert_store(path, tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    with EpisodeWriter.create(tmp_path / "t.zarr", store.metadata) as writer:
        rows = {**store[0], "b": np.zeros((3, 5), np.float32)}
        writer.add_episode({key: value for key, value in rows.items() if key != "a"})
    export_episodes(
        EpisodeStore.open(tmp_path / "t.zarr"), tmp_path / "again", "minari", progress=False
    )
    found = MinariDataset(tmp_path / "again/data").observation_space
    assert set(found.spaces) == {"b"} and found["b"].shape == (5,) and found["b"].high[0] == np.inf


def test_a_mission_is_the_instruction(tmp_path):
    space = gym.spaces.Dict(
        {"mission": gym.spaces.Text(99), "image": gym.spaces.Box(0, 255, (7, 7, 3), np.uint8)}
    )
    episodes = [
        ({"mission": [text] * 4, "image": np.zeros((4, 7, 7, 3), np.uint8)}, np.arange(3), {})
        for text in ("go to the red ball", "open the door")
    ]
    path = write(tmp_path / "x", space, gym.spaces.Discrete(7), episodes)
    with open_source(path) as source:
        tasks = SourceRecord.of(source.metadata).tasks
        assert tasks == ("go to the red ball", "open the door")
        assert source.read_rows(1, 0, 3)["task_index"].tolist() == [1, 1, 1]
    convert_store(path, tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    export_episodes(store, tmp_path / "again", "minari", progress=False)
    with open_source(tmp_path / "again") as source:
        assert SourceRecord.of(source.metadata).tasks == tasks


def test_infos_that_only_some_episodes_have_are_left_out_and_named(tmp_path):
    box = gym.spaces.Box(-1, 1, (2,))
    rows = np.zeros((4, 2), np.float32)
    episodes = [
        (rows, rows[:3], {"a": np.zeros(4), "b": np.ones(4)}),
        (rows, rows[:3], {"a": np.ones(4)}),
    ]
    path = write(tmp_path / "x", box, box, episodes)
    with open_source(path) as source:
        assert "infos_a" in source.keys and "infos_b" not in source.keys
        notes = SourceRecord.of(source.metadata).notes
    assert any(note.startswith("infos/b was not kept: 1 of 2 episodes differ") for note in notes)


def test_seeds_and_names_that_were_changed_in_our_set_win(tmp_path):
    with EpisodeWriter.create(tmp_path / "s.zarr") as writer:
        for i in range(2):
            writer.add_episode({"state": np.zeros((3, 2)), "action": np.zeros((3, 1))}, seed=i)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    export_episodes(store, tmp_path / "m", "minari", progress=False)
    with h5py.File(tmp_path / "m/data/main_data.hdf5", "a") as file:
        file["episode_1"].attrs["seed"] = 99
        file.copy("episode_0", "episode_2")
    about = tmp_path / "m/data/metadata.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "total_episodes": 3}))
    with open_source(tmp_path / "m") as source:
        assert source.seeds.tolist() == [0, 99, 0]
