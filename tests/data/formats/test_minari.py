from __future__ import annotations

import json
import struct
import zlib

import gymnasium as gym
import h5py
import numpy as np
import pytest
from minari import MinariDataset
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from spie_robo.data.conversion.convert import convert_store
from spie_robo.data.formats import detect_format, export_episodes, open_source
from spie_robo.data.store.episode_store import EpisodeStore
from spie_robo.data.store.writer import EpisodeWriter
from spie_robo.errors import StoreError

SIZE = 24


def theirs(path, *, jpeg: bool):
    """A data set as Minari itself writes it."""
    box = gym.spaces.Box
    space = gym.spaces.Dict(
        {
            "agent": gym.spaces.Dict({"position": box(-np.inf, np.inf, (3,), np.float64)}),
            "top": box(0, 255, (SIZE, SIZE, 3), np.uint8),
        }
    )
    (path / "data").mkdir(parents=True)
    storage = MinariStorage.new(
        path / "data", space, box(-1, 1, (2,), np.float32), jpeg_encoding=jpeg
    )
    buffers = []
    for i in range(2):
        rng, steps = np.random.default_rng(i), 4 + i
        buffers.append(
            EpisodeBuffer(
                id=i,
                seed=70 + i,
                observations={
                    "agent": {"position": rng.normal(size=(steps + 1, 3))},
                    "top": np.repeat(
                        rng.integers(0, 256, (steps + 1, 3, 3, 3), np.uint8), 8, 1
                    ).repeat(8, 2),
                },
                actions=rng.random((steps, 2)).astype(np.float32),
                rewards=rng.random(steps),
                terminations=np.arange(steps) == steps - 1,
                truncations=np.zeros(steps, bool),
                infos={"mass": rng.random(steps + 1)},
            )
        )
    storage.update_episodes(buffers)
    file = path / "data/metadata.json"
    about = json.loads(file.read_text())
    file.write_text(json.dumps({**about, "dataset_id": "lab/lift-v3", "minari_version": "0.5.4"}))
    return buffers


def test_every_array_survives_bit_by_bit_and_minari_opens_it(store, tmp_path, same_episodes):
    report = export_episodes(store, tmp_path / "out", "minari", progress=False)
    assert (report.losses, report.dropped) == ((), {})
    assert "last observation" in report.notes[0]
    with open_source(tmp_path / "out") as source:
        same_episodes(source, store)
        assert source.seeds.tolist() == [40, -1, 42]
        assert source.metadata == store.metadata
    dataset = MinariDataset(tmp_path / "out/data")
    assert (dataset.total_episodes, dataset.total_steps) == (3, store.n_steps)
    for found, expected in zip(dataset, store, strict=True):
        np.testing.assert_array_equal(found.actions, expected["action"])
        np.testing.assert_array_equal(found.rewards, expected["reward"])
        rgb = found.observations["front_rgb"]
        np.testing.assert_array_equal(rgb[:-1], expected["front_rgb"])
        np.testing.assert_array_equal(rgb[-1], expected["front_rgb"][-1])
        assert found.terminations[-1]


def test_data_sets_of_others_are_read_and_written_back_under_their_own_names(
    tmp_path, same_episodes
):
    buffers = theirs(tmp_path / "theirs", jpeg=False)
    assert detect_format(tmp_path / "theirs") == "minari"
    with open_source(tmp_path / "theirs") as source:
        assert source.seeds.tolist() == [70, 71]
        rows = source.read_rows(1, 1, 5)
        np.testing.assert_array_equal(rows["top_rgb"], buffers[1].observations["top"][1:5])
        position = buffers[1].observations["agent"]["position"]
        np.testing.assert_array_equal(rows["agent_position"], position[1:5])
        np.testing.assert_array_equal(rows["infos_mass"], buffers[1].infos["mass"][1:5])
        assert rows["terminations"].tolist() == [False, False, False, True]
    convert_store(tmp_path / "theirs", tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    assert store.seeds.tolist() == [70, 71]
    export_episodes(store, tmp_path / "again", "minari", progress=False)
    with open_source(tmp_path / "again") as source:
        same_episodes(source, store)
    found = MinariDataset(tmp_path / "again/data")
    assert found.id == "lab/lift-v3"
    position = buffers[0].observations["agent"]["position"]
    np.testing.assert_array_equal(found[0].observations["agent"]["position"][:-1], position[:-1])
    np.testing.assert_array_equal(found[0].infos["mass"][:-1], buffers[0].infos["mass"][:-1])


def test_jpeg_is_decoded_as_minari_decodes_it(tmp_path):
    theirs(tmp_path / "theirs", jpeg=True)
    expected = [
        episode.observations["top"][:-1] for episode in MinariDataset(tmp_path / "theirs/data")
    ]
    with open_source(tmp_path / "theirs") as source:
        for i, frames in enumerate(expected):
            rows = source.read_rows(i, 0, source.episode_length(i), ["top_rgb"])["top_rgb"]
            assert np.abs(rows.astype(int) - frames).max() <= 2  # two JPEG decoders


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"total_episodes": 10**9}, "claims 1000000000 episodes, 2 are there"),
        ({"total_episodes": "many"}, "claims 'many' episodes"),
        ({"data_format": "arrow"}, "in the format 'arrow'; hdf5 is read"),
    ],
)
def test_metadata_that_lies_is_refused(tmp_path, about, message):
    theirs(tmp_path / "x", jpeg=False)
    file = tmp_path / "x/data/metadata.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **about}))
    with pytest.raises(StoreError, match=message):
        open_source(tmp_path / "x")


def test_a_picture_that_claims_too_much_is_refused(tmp_path):
    theirs(tmp_path / "x", jpeg=True)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))
    with h5py.File(tmp_path / "x/data/main_data.hdf5", "a") as file:
        for i in range(2):
            group = file[f"episode_{i}/observations"]
            steps = len(group["top"])
            del group["top"]
            data = np.empty(steps, object)
            data[:] = [np.frombuffer(bomb, np.uint8)] * steps
            group.create_dataset("top", data=data, dtype=h5py.vlen_dtype(np.uint8))
    with pytest.raises(StoreError, match="at most"):
        open_source(tmp_path / "x")


def test_jpeg_is_written_as_minari_reads_it_and_its_error_is_told(store, tmp_path):
    report = export_episodes(store, tmp_path / "m", "minari-jpeg", progress=False)
    lossy = {loss.key for loss in report.losses}
    assert lossy and all("JPEG, quality 75" in str(loss) for loss in report.losses)
    assert all(key.endswith(("_rgb", "_raw")) for key in lossy)
    plain = export_episodes(store, tmp_path / "plain", "minari", progress=False)
    assert not plain.losses
    with open_source(tmp_path / "m") as source:
        rows, before = source.read_rows(0, 0, 2), store.read_rows(0, 0, 2)
        for key, expected in before.items():
            if key in lossy:
                error = np.abs(rows[key].astype(int) - expected.astype(int)).mean()
                assert 0 < error < 30
            else:
                np.testing.assert_array_equal(rows[key], expected)
    theirs_read = MinariDataset(tmp_path / "m" / "data")[0].observations
    key = sorted(lossy)[0]
    np.testing.assert_array_equal(theirs_read[key][:2], rows[key])


def test_what_minari_wants_and_a_store_lacks_does_not_become_data(tmp_path, same_episodes):
    """Minari has no episode without actions and rewards; ours may have neither."""
    with EpisodeWriter.create(tmp_path / "s.zarr") as writer:
        writer.add_episode({"state": np.arange(6, dtype=np.float32).reshape(3, 2)})
    store = EpisodeStore.open(tmp_path / "s.zarr")
    report = export_episodes(store, tmp_path / "m", "minari", progress=False)
    note = "actions, rewards: the episodes have none, zeros stand there, which are not read back"
    assert note in report.notes
    with open_source(tmp_path / "m") as source:
        same_episodes(source, store)
    found = MinariDataset(tmp_path / "m/data")[0]
    assert (found.actions.shape, found.rewards.tolist()) == ((3, 0), [0, 0, 0])


def test_no_note_is_made_of_what_is_there(store, tmp_path):
    report = export_episodes(store, tmp_path / "m", "minari", progress=False)
    assert not any("zeros" in note for note in report.notes)
