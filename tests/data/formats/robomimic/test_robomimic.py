from __future__ import annotations

import json
import random
import zlib
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from spie_robo.data.conversion.convert import convert_store
from spie_robo.data.formats import detect_format, export_episodes, open_source
from spie_robo.data.formats.source_record import SourceRecord, with_source
from spie_robo.data.recorded_geometry import geometry_origin
from spie_robo.data.store.episode_store import EpisodeStore
from spie_robo.data.store.writer import EpisodeWriter
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.errors import ConfigError, StoreError


def lift(path: Path, demos: int = 11) -> Path:
    """A file as robomimic's ``dataset_states_to_obs.py`` writes it, made without our writer."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {}})
        for i in range(demos):
            rng = np.random.default_rng(i)
            steps = 3 + i % 3
            demo = data.create_group(f"demo_{i}")
            demo.attrs["num_samples"] = steps
            demo.attrs["model_file"] = f"<mujoco model='{i}'/>"
            demo.attrs["ep_meta"] = json.dumps({"lang": f"lift cube {i % 2}", "layout_id": i})
            demo["actions"] = rng.normal(size=(steps, 7))
            demo["rewards"] = rng.random(steps)
            demo["dones"] = np.arange(steps) == steps - 1
            demo["states"] = rng.normal(size=(steps, 20))
            image = rng.integers(0, 256, (steps, 24, 24, 3), np.uint8)
            demo["obs/agentview_image"] = image
            demo["next_obs/agentview_image"] = image
            demo["obs/agentview_depth"] = rng.random((steps, 24, 24, 1)).astype(np.float32)
            segmentation = rng.integers(0, 5, (steps, 24, 24, 1), np.uint8)
            demo["obs/agentview_segmentation_instance"] = segmentation
            demo["obs/robot0_eef_pos"] = rng.normal(size=(steps, 3))
        data.attrs["total"] = sum(3 + i % 3 for i in range(demos))
        file["mask/train"] = np.array([b"demo_0", b"demo_1"])
    return path


def test_every_array_survives_bit_by_bit(store, tmp_path, same_episodes):
    report = export_episodes(store, tmp_path / "out", "robomimic", progress=False)
    assert (report.losses, report.dropped) == ((), {})
    with open_source(tmp_path / "out") as source:
        same_episodes(source, store)
        assert source.seeds.tolist() == [40, -1, 42]
        assert source.metadata == store.metadata
    with h5py.File(tmp_path / "out") as file:
        demo = file["data/demo_1"]
        assert demo["obs/front_image"].shape[1:] == (32, 32, 3)
        assert demo["obs/front_depth"].shape[1:] == (32, 32, 1)
        assert json.loads(demo.attrs["ep_meta"]) == {"lang": "push the green cube"}
        assert demo["dones"][-1] == 1
        assert demo.attrs["num_samples"] == len(demo["actions"])
        assert file["data"].attrs["total"] == store.n_steps


def test_files_of_others_are_read_and_written_back_under_their_own_names(tmp_path, same_episodes):
    path = lift(tmp_path / "low_dim.bin")
    assert detect_format(path) == "robomimic"
    with open_source(path) as source:
        assert len(source) == 11
        assert source.episode_length(10) == 3 + 10 % 3  # demo_10 is the last, not the second
        rows = source.read_rows(2, 0, 2)
        with h5py.File(path) as file:
            demo = file["data/demo_2"]
            np.testing.assert_array_equal(rows["agentview_rgb"], demo["obs/agentview_image"][:2])
            depth = demo["obs/agentview_depth"][:2, ..., 0]
            np.testing.assert_array_equal(rows["agentview_depth"], depth)
            ids = demo["obs/agentview_segmentation_instance"][:2, ..., 0]
            np.testing.assert_array_equal(rows["agentview_segmentation"], ids)
        assert rows["agentview_segmentation"].dtype == np.int32
        assert geometry_origin(source.metadata, source.keys, "agentview") == "recorded"
        record = SourceRecord.of(source.metadata)
        assert record.tasks == ("lift cube 0", "lift cube 1")
        assert rows["task_index"].tolist() == [0, 0]
        assert "next_obs" in record.notes[0]
    convert_store(path, tmp_path / "store.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "store.zarr")
    assert store.metadata.provenance["geometry"] == {"agentview": "recorded"}
    export_episodes(store, tmp_path / "again", "robomimic", progress=False)
    with open_source(tmp_path / "again") as source:
        same_episodes(source, store)
    with h5py.File(path) as before, h5py.File(tmp_path / "again") as after:
        for i in range(11):
            a, b = before[f"data/demo_{i}"], after[f"data/demo_{i}"]
            assert b.attrs["model_file"] == a.attrs["model_file"]
            assert json.loads(b.attrs["ep_meta"]) == json.loads(a.attrs["ep_meta"])
            for name in ("actions", "dones", "obs/agentview_depth", "obs/robot0_eef_pos"):
                assert b[name].dtype == a[name].dtype
                np.testing.assert_array_equal(b[name][()], a[name][()])
            name = "obs/agentview_segmentation_instance"
            assert b[name].dtype == np.uint8
            np.testing.assert_array_equal(b[name][()], a[name][()])
        assert after["data"].attrs["env_args"] == before["data"].attrs["env_args"]
        assert after["mask/train"][()].tolist() == [b"demo_0", b"demo_1"]


def test_demos_must_agree(tmp_path):
    path = lift(tmp_path / "x", 2)
    with h5py.File(path, "a") as file:
        del file["data/demo_1/actions"]
        file["data/demo_1/actions"] = np.zeros((4, 6))
    with pytest.raises(StoreError, match="actions of demo_1 is another, and actions is needed"):
        open_source(path)


def absurd_shape(demo):
    demo.create_dataset("huge", shape=(3, 2**20, 2**20), dtype="f8", chunks=(1, 1024, 1024))


def absurd_chunk(demo):
    chunks = {"chunks": (64, 2**21), "maxshape": (None, 2**23)}
    demo.create_dataset("huge", shape=(3, 2**23), dtype="f4", **chunks)


def link_out(demo):
    demo["huge"] = h5py.ExternalLink("/etc/passwd", "/x")


def elsewhere(demo):
    demo.create_dataset("huge", shape=(3,), dtype="u1", external=[("/etc/passwd", 0, 3)])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (absurd_shape, "claims .* bytes of a step, at most"),
        (absurd_chunk, "claims .* bytes of a chunk, at most"),
        (link_out, "link to another place"),
        (elsewhere, "lie in other files"),
    ],
)
def test_hostile_files_are_refused_before_anything_is_allocated(tmp_path, harm, message):
    path = lift(tmp_path / "x", 2)
    with h5py.File(path, "a") as file:
        harm(file["data/demo_0"])
    with pytest.raises(StoreError, match=message):
        open_source(path)


def test_a_chunk_that_unpacks_to_more_is_refused(tmp_path):
    path = lift(tmp_path / "x", 1)
    with h5py.File(path, "a") as file:
        demo = file["data/demo_0"]
        bomb = demo.create_dataset("bomb", (3, 4), "u1", chunks=(1, 4), compression="gzip")
        bomb[...] = 7
        bomb.id.write_direct_chunk((1, 0), zlib.compress(bytes(2**24)))
    with open_source(path) as source:
        assert (source.read_rows(0, 0, 1)["bomb"] == 7).all()
        with pytest.raises(StoreError, match="unpacks to more"):
            source.read_rows(0, 0, 3)


def test_a_link_in_place_of_the_data_is_not_followed(tmp_path):
    lift(tmp_path / "other", 1)
    with h5py.File(tmp_path / "x", "w") as file:
        file["data"] = h5py.ExternalLink(str(tmp_path / "other"), "/data")
    with pytest.raises(StoreError, match="of no known format"):
        detect_format(tmp_path / "x")


def test_filters_name_the_demos_that_they_named(tmp_path):
    """A file whose demos do not count from 0 on is written with demos that do."""
    path = lift(tmp_path / "lift.hdf5", demos=6)
    with h5py.File(path, "a") as file:
        for gone in (0, 4):
            del file[f"data/demo_{gone}"]
        del file["mask/train"]
        file["mask/train"] = np.array([b"demo_1", b"demo_3"])
        file["mask/valid"] = np.array([b"demo_5", b"demo_2", b"demo_4"])
    chosen = {name: actions_of(path, name) for name in ("train", "valid")}
    convert_store(path, tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    export_episodes(store, tmp_path / "back.hdf5", "robomimic", progress=False)
    for name, actions in chosen.items():
        found = actions_of(tmp_path / "back.hdf5", name)
        assert len(found) == len(actions) == 2
        for mine, theirs in zip(found, actions, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def actions_of(path: Path, name: str) -> list[np.ndarray]:
    """Of the demos of a filter that are there."""
    with h5py.File(path) as file:
        demos = [demo.decode() for demo in file[f"mask/{name}"][()]]
        return [file[f"data/{demo}/actions"][()] for demo in demos if demo in file["data"]]


def test_numbers_of_the_other_byte_order_are_read(tmp_path):
    path = lift(tmp_path / "lift.hdf5", demos=2)
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            actions = demo["actions"][()]
            del demo["actions"]
            demo["actions"] = actions.astype(">f8")
    convert_store(path, tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    with h5py.File(path) as file:
        np.testing.assert_array_equal(store[1]["action"], file["data/demo_1/actions"][()])


def test_what_a_reader_leaves_out_is_said(tmp_path):
    path = lift(tmp_path / "lift.hdf5", demos=2)
    summary = convert_store(path, tmp_path / "s.zarr", None, progress=False)
    assert "  note: Images of next_obs were not kept" in str(summary)
    again = convert_store(tmp_path / "s.zarr", tmp_path / "t.zarr", None, progress=False)
    assert not again.notes


def seeded(path: Path, demos: int) -> EpisodeStore:
    """A store that was read from a robomimic file, whose episode i has seed 40 + i."""
    convert_store(lift(path / "lift", demos), path / "unseeded.zarr", None, progress=False)
    unseeded = EpisodeStore.open(path / "unseeded.zarr")
    with EpisodeWriter.create(path / "s.zarr", unseeded.metadata) as writer:
        for i, episode in enumerate(unseeded):
            writer.add_episode(episode, seed=40 + i)
    return EpisodeStore.open(path / "s.zarr")


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ({"demo_1": None}, [0, 2, 3, 4]),
        ({"demo_4": None}, [0, 1, 2, 3]),
        ({"demo_1": None, "demo_4": "demo_1"}, [0, 4, 2, 3]),
        ({"demo_0": "demo_12"}, [1, 2, 3, 4, 0]),
    ],
)
def test_what_is_known_of_a_demo_stays_with_it_when_others_go(tmp_path, change, left):
    export_episodes(seeded(tmp_path, 5), tmp_path / "ours", "robomimic", progress=False)
    with h5py.File(tmp_path / "ours", "a") as file:
        for name, to in change.items():
            if to is not None:
                file.move(f"data/{name}", f"data/{to}")
            else:
                del file[f"data/{name}"]
    train = [a for n, a in enumerate(actions_of(tmp_path / "lift", "train")) if n in left]
    convert_store(tmp_path / "ours", tmp_path / "back.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "back.zarr")
    assert store.seeds.tolist() == [40 + i for i in left]
    export_episodes(store, tmp_path / "again", "robomimic", progress=False)
    with h5py.File(tmp_path / "lift") as before, h5py.File(tmp_path / "again") as after:
        for place, number in enumerate(left):
            a, b = before[f"data/demo_{number}"], after[f"data/demo_{place}"]
            np.testing.assert_array_equal(a["actions"][()], b["actions"][()])
            assert a.attrs["model_file"] == b.attrs["model_file"]
            assert json.loads(a.attrs["ep_meta"]) == json.loads(b.attrs["ep_meta"])
            assert b.attrs["num_samples"] == len(b["actions"])
    if not any(change.values()):  # a filter's names are not moved along
        for mine, theirs in zip(actions_of(tmp_path / "again", "train"), train, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_demos_of_files_of_earlier_releases_are_told_by_their_names(tmp_path):
    export_episodes(seeded(tmp_path, 3), tmp_path / "ours", "robomimic", progress=False)
    with h5py.File(tmp_path / "ours", "a") as file:
        del file["data/demo_1"]
        for demo in file["data"].values():
            demo.attrs.pop("spie_robo_episode")
    with open_source(tmp_path / "ours") as source:
        assert source.seeds.tolist() == [40, 42]


def test_a_demo_that_was_added_has_no_seed_of_another(tmp_path):
    export_episodes(seeded(tmp_path, 3), tmp_path / "ours", "robomimic", progress=False)
    with h5py.File(tmp_path / "ours", "a") as file:
        del file["data/demo_1"]
        file.copy("data/demo_2", "data/demo_1")
        del file["data/demo_1"].attrs["spie_robo_episode"]
        file["data/demo_1"].attrs["model_file"] = "<mujoco model='new'/>"
    with open_source(tmp_path / "ours") as source:
        assert source.seeds.tolist() == [40, -1, 42]
        export_episodes(source, tmp_path / "again", "robomimic", progress=False)
    with h5py.File(tmp_path / "again") as file:
        models = [file[f"data/demo_{i}"].attrs["model_file"] for i in range(3)]
    assert models == [f"<mujoco model='{name}'/>" for name in ("0", "new", "2")]


def many(path: Path, texts: list[str]) -> Path:
    """A file with a demo of one step for each text, which is its ``model_file``."""
    with h5py.File(path, "w", libver="latest") as file:
        file.create_group("data").attrs["env_args"] = "{}"
        for i, text in enumerate(texts):
            demo = file["data"].create_group(f"demo_{i}")
            demo.attrs["model_file"], demo.attrs["site"] = text, [i, 2]
            demo["actions"] = np.full((1, 2), i, np.float32)
    return path


def models(count: int, *, equal: bool) -> list[str]:
    """Scenes of 100 kB, which differ in a few numbers, or in none."""
    numbers = random.Random(0)
    bodies = [f'<body name="b{i}" pos="{numbers.random():.9f}"/>' for i in range(2600)]
    found = []
    for i in range(count):
        numbers = random.Random(0 if equal else i)
        for _ in range(40):
            body = numbers.randrange(len(bodies))
            bodies[body] = f'<body name="b{body}" pos="{numbers.random():.9f}"/>'
        found.append("\n".join(bodies))
    return found


@pytest.mark.parametrize("equal", [True, False])
def test_long_texts_of_many_demos_go_through_a_store(tmp_path, equal):
    """The header of a store is written with every episode: it must not hold a text a demo."""
    texts = models(60, equal=equal)
    assert (len(set(texts)) <= 2) == equal and len(texts[0]) > 100_000
    convert_store(many(tmp_path / "x", texts), tmp_path / "s.zarr", None, progress=False)
    assert (tmp_path / "s.zarr/zarr.json").stat().st_size < 400_000
    store = EpisodeStore.open(tmp_path / "s.zarr")
    export_episodes(store, tmp_path / "again", "robomimic", progress=False)
    with h5py.File(tmp_path / "again") as file:
        for i, text in enumerate(texts):
            demo = file[f"data/demo_{i}"]
            assert demo.attrs["model_file"] == text
            assert demo.attrs["site"].tolist() == [i, 2]
    with open_source(tmp_path / "again") as source:
        assert source.metadata == store.metadata


def test_texts_that_do_not_fit_are_left_out_and_named(tmp_path):
    generator = np.random.default_rng(0)
    texts = [generator.bytes(800_000).hex() for _ in range(8)]
    path = many(tmp_path / "x", texts)
    summary = convert_store(path, tmp_path / "s.zarr", None, progress=False)
    assert "note: model_file of the demos was not kept: packed, it takes more than" in str(summary)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    export_episodes(store, tmp_path / "again", "robomimic", progress=False)
    with h5py.File(tmp_path / "again") as file:
        assert file["data/demo_7"].attrs["site"].tolist() == [7, 2]
        assert "model_file" not in file["data/demo_7"].attrs


@pytest.mark.parametrize("harm", ["/Td6WFoAAAFpIt42AgAhARwAAAAQz1jM", "!", "e30="])
def test_damaged_attributes_of_demos_are_named(tmp_path, harm):
    convert_store(lift(tmp_path / "x", 2), tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    record = SourceRecord.of(store.metadata)
    extras = {**record.extras, "demos": harm}
    metadata = with_source(store.metadata, replace(record, extras=extras))
    with EpisodeWriter.create(tmp_path / "t.zarr", metadata) as writer:
        writer.add_episode(store[0])
    harmed = EpisodeStore.open(tmp_path / "t.zarr")
    with pytest.raises(StoreError, match=r"attributes of robomimic's demos .* damaged"):
        export_episodes(harmed, tmp_path / "again", "robomimic", progress=False)


def test_demos_without_steps_are_left_out_and_noted(tmp_path):
    path = lift(tmp_path / "lift.hdf5", demos=3)
    with h5py.File(path, "a") as file:
        aborted = file.create_group("data/demo_3")
        aborted.attrs["num_samples"] = 0
        aborted["actions"] = np.zeros((0, 7))
        file.create_group("data/demo_4")
    with open_source(path) as source:
        assert [len(episode["action"]) for episode in source] == [3, 4, 5]
        record = SourceRecord.of(source.metadata)
        assert record is not None and "2 of the demos have no steps" in record.notes[-1]
        assert record.extras["names"] == ["demo_0", "demo_1", "demo_2"]
    with h5py.File(path, "a") as file:
        for name in ("demo_0", "demo_1", "demo_2"):
            del file[f"data/{name}"]
    with pytest.raises(StoreError, match="all 2 have none"):
        open_source(path)


def test_pictures_that_are_no_frames_are_named(tmp_path):
    path = tmp_path / "odd.hdf5"
    with h5py.File(path, "w") as file:
        demo = file.create_group("data/demo_0")
        demo.attrs["num_samples"] = 2
        demo["actions"] = np.zeros((2, 3))
        demo["obs/front_image"] = np.zeros((2, 32, 32, 4), np.uint8)
        demo["obs/tiny_image"] = np.zeros((2, 7, 7, 3), np.uint8)
    with pytest.raises(ConfigError, match=r"front\S* \(uint8 32x32x4\).*tiny\S* \(uint8 7x7x3\)"):
        convert_store(path, tmp_path / "out.zarr", GuardedEditor(object()), progress=False)
