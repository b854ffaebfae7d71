from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spie_robo.data.conversion.camera_choice import edited_cameras, editing_notes
from spie_robo.data.conversion.convert import convert_store
from spie_robo.data.formats import export_episodes, open_source
from spie_robo.data.formats.lerobot import layout as lerobot_layout
from spie_robo.data.formats.source_record import SourceRecord, with_source
from spie_robo.data.store.episode_store import EpisodeStore
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.data.store.writer import EpisodeWriter
from spie_robo.errors import ConfigError, StoreCorruptError, StoreError

VIDEOS = ("front_rgb", "wrist_rgb")


@pytest.fixture(scope="module")
def exported_once(make_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lerobot")
    report = export_episodes(make_store(folder), folder / "out", "lerobot", progress=False)
    return folder / "out", report


@pytest.fixture
def exported(exported_once, tmp_path):
    """A copy that a test may damage."""
    path, report = exported_once
    shutil.copytree(path, tmp_path / "out")
    return tmp_path / "out", report


def test_numbers_survive_bit_by_bit_and_frames_within_the_announced_error(store, exported):
    path, report = exported
    assert [loss.key for loss in report.losses] == list(VIDEOS)
    with open_source(path) as source:
        assert source.metadata == store.metadata
        assert source.seeds.tolist() == [40, -1, 42]
        assert source.keys == store.keys
        errors = {key: [] for key in VIDEOS}
        for a, b in zip(source, store, strict=True):
            for key in a:
                assert a[key].dtype == b[key].dtype
                if key in VIDEOS:
                    errors[key].append(np.abs(a[key].astype(int) - b[key]))
                else:
                    np.testing.assert_array_equal(a[key], b[key], err_msg=key)
    for loss in report.losses:
        found = np.concatenate(errors[loss.key])
        assert 0 < loss.max_error == found.max()
        assert loss.mean_error == pytest.approx(found.mean())
        assert loss.psnr == pytest.approx(10 * np.log10(255**2 / np.square(found).mean()))
        assert loss.psnr > 25
        assert f"{loss.psnr:.1f} dB" in str(loss)


def test_the_layout_is_the_published_one(store, exported):
    path, _ = exported
    files = {str(f.relative_to(path)) for f in path.rglob("*") if f.is_file()}
    assert files == {
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        "meta/spie_robo.json",
        "meta/episodes/chunk-000/file-000.parquet",
        "data/chunk-000/file-000.parquet",
        "videos/observation.images.front/chunk-000/file-000.mp4",
        "videos/observation.images.wrist/chunk-000/file-000.mp4",
    }
    info = json.loads((path / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"]) == ("v3.0", 10)
    assert (info["total_episodes"], info["total_frames"]) == (3, store.n_steps)
    assert info["features"]["observation.state"]["shape"] == [1]
    table = pq.read_table(path / "data/chunk-000/file-000.parquet")
    assert table["index"].to_pylist() == list(range(store.n_steps))
    assert set(table.column_names) | {f"observation.images.{c}" for c in ("front", "wrist")} == set(
        info["features"]
    )
    episodes = pq.read_table(path / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["dataset_to_index"] for row in episodes] == store.episode_ends.tolist()
    assert episodes[1]["tasks"] == ["push the green cube"]
    front = "videos/observation.images.front/"
    assert episodes[1][f"{front}from_timestamp"] == store.episode_ends[0] / 10
    stats = json.loads((path / "meta/stats.json").read_text())
    actions = np.concatenate([episode["action"] for episode in store])
    np.testing.assert_allclose(stats["action"]["mean"], actions.mean(0), atol=1e-6)
    np.testing.assert_allclose(stats["action"]["std"], actions.std(0), atol=1e-6)
    assert np.shape(stats["observation.images.front"]["mean"]) == (3, 1, 1)
    assert stats["action"]["count"] == [store.n_steps]


def test_files_are_cut_and_found_again(store, tmp_path, monkeypatch):
    monkeypatch.setattr(lerobot_layout, "DATA_FILE_MB", 0)
    monkeypatch.setattr(lerobot_layout, "VIDEO_FILE_MB", 0)
    monkeypatch.setattr(lerobot_layout, "CHUNK_FILES", 2)
    export_episodes(store, tmp_path / "cut", "lerobot", progress=False)
    assert (tmp_path / "cut/data/chunk-001/file-000.parquet").is_file()
    assert (tmp_path / "cut/videos/observation.images.front/chunk-001/file-000.mp4").is_file()
    with open_source(tmp_path / "cut") as source:
        np.testing.assert_array_equal(source.read_rows(2, 0, 2)["action"], store[2]["action"][:2])


def test_frames_are_the_same_in_any_order(exported):
    path, _ = exported
    with open_source(path) as source:
        whole = [source.read_rows(i, 0, source.episode_length(i)) for i in range(3)]
    with open_source(path) as source:
        for episode, start in ((2, 1), (0, 0), (0, 2), (1, 3), (1, 0)):
            rows = source.read_rows(episode, start, start + 1, ["wrist_rgb"])
            np.testing.assert_array_equal(rows["wrist_rgb"][0], whole[episode]["wrist_rgb"][start])


def test_data_sets_of_others_keep_names_tasks_and_rate(exported, tmp_path):
    path, _ = exported
    (path / "meta/spie_robo.json").unlink()  # what is left is what any tool could have written
    with open_source(path) as source:
        record = SourceRecord.of(source.metadata)
        assert record.tasks == ("push the red cube", "push the green cube")
        assert record.fps == 10
        assert {"front_rgb", "state", "reward", "success", "timestamp", "task_index"} < set(
            source.keys
        )
        assert not set(source.keys) & {"index", "frame_index", "episode_index"}
    convert_store(path, tmp_path / "back.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "back.zarr")
    export_episodes(store, tmp_path / "again", "lerobot", progress=False)
    before, after = (
        json.loads((p / "meta/info.json").read_text()) for p in (path, tmp_path / "again")
    )
    assert before == after


def test_irregular_times_are_kept_beside_regular_ones(tmp_path):
    times = np.array([0.0, 0.11, 0.19, 0.3])
    with EpisodeWriter.create(tmp_path / "s.zarr") as writer:
        writer.add_episode({"action": np.zeros((4, 2), np.float32), "timestamp": times})
    report = export_episodes(
        EpisodeStore.open(tmp_path / "s.zarr"), tmp_path / "out", "lerobot", progress=False
    )
    assert report.notes == ("9.091 steps a second became 9: LeRobot wants a whole number",)
    table = pq.read_table(tmp_path / "out/data/chunk-000/file-000.parquet")
    np.testing.assert_allclose(table["timestamp"].to_numpy(), np.arange(4) / 9, rtol=1e-6)
    with open_source(tmp_path / "out") as source:
        np.testing.assert_array_equal(source.read_rows(0, 0, 4)["timestamp"], times)


def test_pictures_in_the_parquet_file_are_read(exported, tmp_path):
    import cv2

    path, _ = exported
    info = json.loads((path / "meta/info.json").read_text())
    feature = {"dtype": "image", "shape": [3, 20, 24], "names": ["channels", "height", "width"]}
    info["features"]["observation.images.top"] = feature
    (path / "meta/info.json").write_text(json.dumps(info))
    (path / "meta/spie_robo.json").unlink()
    file = path / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    pictures = np.random.default_rng(0).integers(0, 256, (len(table), 20, 24, 3), np.uint8)
    packed = [
        {"bytes": cv2.imencode(".png", p[..., ::-1])[1].tobytes(), "path": None} for p in pictures
    ]
    table = table.append_column("observation.images.top", pa.array(packed))
    pq.write_table(table, file)
    with open_source(path) as source:
        np.testing.assert_array_equal(source.read_rows(0, 0, 3)["top_rgb"], pictures[:3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_path": "/etc/{chunk_index}"}, "leads out of"),
        ({"data_path": "../{chunk_index}{file_index}"}, "leads out of"),
        ({"data_path": "{chunk_index:0999999999d}"}, "no template"),
        ({"data_path": "{chunk_index.__class__}"}, "no template"),
        ({"fps": 0}, "fps above 0"),
        ({"features": {"action": {"dtype": "float32", "shape": [2**40]}}}, "bytes of a step"),
        ({"features": {"action": {"dtype": "object", "shape": [2]}}}, "Objects and texts"),
    ],
)
def test_hostile_headers_are_refused(exported, change, message):
    path, _ = exported
    (path / "meta/spie_robo.json").unlink()
    file = path / "meta/info.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(StoreError, match=message), open_source(path) as source:
        source.read_rows(0, 0, 1)


def test_a_damaged_video_is_an_error(exported):
    path, _ = exported
    video = path / "videos/observation.images.front/chunk-000/file-000.mp4"
    data = bytearray(video.read_bytes())
    middle = data.find(b"mdat") + 200
    data[middle : middle + 4000] = bytes(min(4000, len(data) - middle))
    video.write_bytes(data)
    with pytest.raises((StoreCorruptError, StoreError)), open_source(path) as source:
        for i in range(3):
            source.read_rows(i, 0, source.episode_length(i), ["front_rgb"])


def test_a_column_is_unpacked_once_however_small_the_blocks(exported, monkeypatch):
    from spie_robo.data.formats.lerobot import reader as lerobot

    source = open_source(exported[0])
    loads: list[str] = []
    load = lerobot._Rows._load

    def counted(rows, name, low, high):
        loads.append(name)
        return load(rows, name, low, high)

    monkeypatch.setattr(lerobot._Rows, "_load", counted)
    for start in range(source.episode_length(0)):
        source.read_rows(0, start, start + 1)
    assert loads and len(loads) == len(set(loads))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_first_episode_shorter_than_the_encoders_delay(tmp_path, steps):
    """The video's file is not there before the encoder has given its first packet."""
    with EpisodeWriter.create(tmp_path / "s.zarr") as writer:
        for number in range(2):
            rows = {"front_rgb": np.full((steps, 32, 32, 3), 90 * number, np.uint8)}
            writer.add_episode({**rows, "action": np.zeros((steps, 2), np.float32)}, seed=number)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    export_episodes(store, tmp_path / "out", "lerobot", progress=False)
    with open_source(tmp_path / "out") as source:
        frames = source.read_rows(1, 0, steps, ["front_rgb"])["front_rgb"]
        assert np.abs(frames.astype(int) - 90).max() < 20


def test_what_features_and_splits_say_survives(exported, tmp_path):
    path, _ = exported
    (path / "meta/spie_robo.json").unlink()
    info = json.loads((path / "meta/info.json").read_text())
    names = {"motors": [f"joint_{i}" for i in range(7)]}
    info["features"]["action"]["names"] = names
    info["features"]["observation.images.wrist"]["info"]["video.is_depth_map"] = True
    info["splits"] = {"train": "0:2", "test": "2:3"}
    (path / "meta/info.json").write_text(json.dumps(info))
    convert_store(path, tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    export_episodes(store, tmp_path / "again", "lerobot", progress=False)
    assert json.loads((tmp_path / "again/meta/info.json").read_text()) == info


def test_pictures_of_depth_are_edited_only_if_asked_for(exported, tmp_path):
    path, _ = exported
    (path / "meta/spie_robo.json").unlink()
    info = json.loads((path / "meta/info.json").read_text())
    wrist = info["features"]["observation.images.wrist"]["info"]
    plain = edited_cameras(open_source(path), ())
    assert len(plain) > 1 and "wrist" in plain and editing_notes(open_source(path), plain) == ()
    wrist["video.is_depth_map"] = True
    (path / "meta/info.json").write_text(json.dumps(info))
    with open_source(path) as source:
        others = edited_cameras(source, ())
        assert others == tuple(camera for camera in plain if camera != "wrist")
        assert edited_cameras(source, ("wrist",)) == ("wrist",)
        (note,) = editing_notes(source, others)
        assert "wrist shows depth" in note and editing_notes(source, ("wrist",)) == ()
        assert editing_notes(source, ()) == ()
    for feature in info["features"].values():
        if feature["dtype"] == "video":
            feature["info"]["video.is_depth_map"] = True
    (path / "meta/info.json").write_text(json.dumps(info))
    with open_source(path) as source, pytest.raises(ConfigError, match="show depth"):
        edited_cameras(source, ())


@pytest.mark.parametrize(
    "change",
    [
        {"splits": {"train": "0:99"}},
        {"splits": ["0:3"]},
        {"features": {"action": {"dtype": "float32", "shape": [7], "info": 7, "names": ["x"]}}},
    ],
)
def test_splits_and_names_that_do_not_fit_are_not_passed_on(exported, tmp_path, change):
    path, _ = exported
    (path / "meta/spie_robo.json").unlink()
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps({**info, **change}))
    convert_store(path, tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    export_episodes(store, tmp_path / "again", "lerobot", progress=False)
    written = json.loads((tmp_path / "again/meta/info.json").read_text())
    assert written["splits"] == {"train": "0:3"}
    if "features" in change:
        assert written["features"]["action"]["names"] == ["x"]  # whatever it means, it is theirs


@pytest.mark.parametrize(("shape", "dtype"), [((1,), np.int64), ((1,), np.int32), ((), np.int32)])
def test_task_numbers_of_another_shape_or_type_are_read_back(tmp_path, shape, dtype, same_episodes):
    tasks = np.zeros((3, *shape), dtype)
    metadata = with_source(StoreMetadata(), SourceRecord("elsewhere", tasks=("push",), fps=10.0))
    with EpisodeWriter.create(tmp_path / "s.zarr", metadata) as writer:
        writer.add_episode({"action": np.zeros((3, 2), np.float32), "task_index": tasks})
    store = EpisodeStore.open(tmp_path / "s.zarr")
    export_episodes(store, tmp_path / "out", "lerobot", progress=False)
    with open_source(tmp_path / "out") as source:
        same_episodes(source, store)
    table = pq.read_table(tmp_path / "out/data/chunk-000/file-000.parquet")
    assert table["task_index"].to_pylist() == [0, 0, 0]


def test_two_task_numbers_a_step_are_refused(tmp_path):
    with EpisodeWriter.create(tmp_path / "s.zarr") as writer:
        writer.add_episode({"task_index": np.zeros((3, 2), np.int64)})
    store = EpisodeStore.open(tmp_path / "s.zarr")
    with pytest.raises(StoreError, match="task_index: expected one number a step, got shape"):
        export_episodes(store, tmp_path / "out", "lerobot", progress=False)
    assert not (tmp_path / "out").exists()
