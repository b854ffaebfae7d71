from __future__ import annotations

import json
import os
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spie_robo.data.conversion.convert import convert_store
from spie_robo.data.formats import export_episodes, open_source
from spie_robo.data.formats.source_record import SourceRecord, with_source
from spie_robo.data.store.episode_store import EpisodeStore
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.data.store.writer import EpisodeWriter
from spie_robo.errors import StoreCorruptError, StoreError

by_hand = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("by_hand.py"))))

FRONT = "observation.images.front"
LENGTHS = (6, 5)


def grey_levels(steps: int, first: int = 0, size: int = 32) -> np.ndarray:
    """Frames whose grey tells their number, as far as a video codec lets it."""
    levels = 20 + 10 * (first + np.arange(steps))
    return np.broadcast_to(levels[:, None, None, None], (steps, size, size, 3)).astype(np.uint8)


def number_of(frames: np.ndarray) -> list[int]:
    return np.rint((frames.reshape(len(frames), -1).mean(1) - 20) / 10).astype(int).tolist()


def plain(root, *, fps=10, frames=None, features=None, columns=None, lengths=LENGTHS, **named):
    total = sum(lengths)
    shown = grey_levels(total) if frames is None else frames
    by_hand.video(by_hand.video_file(root, FRONT), shown, fps, codec="libx264", pixels="yuv420p",
                  g="2", crf="10")  # fmt: skip
    front = {"dtype": "video", "shape": [32, 32, 3], "names": ["height", "width", "channels"],
             "info": {"video.codec": "h264", "is_depth_map": False}}  # fmt: skip
    action = np.arange(2 * total, dtype=np.float32).reshape(total, 2)
    state = np.arange(3 * total, dtype=np.float32).reshape(total, 3)
    return by_hand.data_set(
        root,
        {"action": action, "observation.state": state, **(columns or {})},
        lengths,
        {FRONT: front, "action": by_hand.numbers("float32", [2], ["x", "y"]),
         "observation.state": by_hand.numbers("float32", [3]), **(features or {})},
        **named,
    )  # fmt: skip


def exported(tmp_path, name="d") -> Path:
    """A set of ours, with tasks and seeds, in which other tools will change something."""
    record = SourceRecord("elsewhere", tasks=("push", "lift"), fps=10.0)
    with EpisodeWriter.create(tmp_path / "s.zarr", with_source(StoreMetadata(), record)) as writer:
        for i, length in enumerate((4, 3, 5)):
            rows = {"action": np.full((length, 2), i, np.float32), "state": np.zeros((length, 3))}
            writer.add_episode({**rows, "task_index": np.full(length, i % 2)}, seed=40 + i)
    export_episodes(EpisodeStore.open(tmp_path / "s.zarr"), tmp_path / name, "lerobot",
                    progress=False)  # fmt: skip
    return tmp_path / name


def test_the_frame_is_the_one_whose_time_is_asked_for(tmp_path):
    """A set whose first two, idle, frames were dropped from the rows and not from the videos."""
    times = [0.2 + np.arange(6) / 10, 0.2 + np.arange(5) / 10]
    frames = np.concatenate([grey_levels(8), grey_levels(7, 10)])
    root = plain(tmp_path / "d", frames=frames, timestamps=times, begins={FRONT: [0.0, 0.8]})
    with open_source(root) as source:
        assert number_of(source.read_rows(0, 0, 6)["front_rgb"]) == [2, 3, 4, 5, 6, 7]
        assert number_of(source.read_rows(1, 0, 5)["front_rgb"]) == [12, 13, 14, 15, 16]
        assert number_of(source.read_rows(1, 3, 4)["front_rgb"]) == [15]
        assert number_of(source.read_rows(0, 1, 2)["front_rgb"]) == [3]


def test_a_video_has_its_own_rate(tmp_path):
    """Steps at 10 a second, filmed at 20."""
    root = plain(tmp_path / "d", fps=20, frames=grey_levels(22), begins={FRONT: [0.0, 0.6]})
    with open_source(root) as source:
        assert number_of(source.read_rows(0, 0, 6)["front_rgb"]) == [0, 2, 4, 6, 8, 10]
        assert number_of(source.read_rows(1, 1, 3)["front_rgb"]) == [14, 16]


def test_a_time_that_no_frame_shows_is_an_error(tmp_path):
    root = plain(tmp_path / "d", begins={FRONT: [0.0, 3.0]})
    with open_source(root) as source, pytest.raises(StoreCorruptError, match="expected a frame at"):
        source.read_rows(1, 0, 2)


def test_tasks_that_lerobot_changed_are_those_that_are_read(tmp_path):
    """What ``modify_tasks`` of lerobot 0.6.1 does: texts sorted anew, task_index rewritten."""
    root = exported(tmp_path)
    by_hand.write_tasks(root, ["a new text", "lift"])
    file = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    new = np.repeat([0, 1, 0], (4, 3, 5))
    place = table.column_names.index("task_index")
    pq.write_table(table.set_column(place, "task_index", pa.array(new)), file)
    with open_source(root) as source:
        record = SourceRecord.of(source.metadata)
        assert record.tasks == ("a new text", "lift")
        texts = [record.tasks[source.read_rows(i, 0, 1)["task_index"][0]] for i in range(3)]
        assert texts == ["a new text", "lift", "a new text"]
        assert source.seeds.tolist() == [40, 41, 42]


def test_a_text_that_changed_alone_is_read(tmp_path):
    root = exported(tmp_path)
    by_hand.write_tasks(root, ["push hard", "lift"])
    with open_source(root) as source:
        assert SourceRecord.of(source.metadata).tasks == ("push hard", "lift")


def test_episodes_that_lerobot_appended_have_no_seed_of_others(tmp_path):
    """What ``LeRobotDataset.resume`` does: files of its own beside ours."""
    root = exported(tmp_path)
    file = root / "data/chunk-000/file-000.parquet"
    rows = pq.read_table(file).slice(0, 4).to_pydict()
    rows |= {"episode_index": [3] * 4, "index": [12, 13, 14, 15]}
    pq.write_table(pa.table(rows, pq.read_schema(file)), file.with_name("file-001.parquet"))
    episodes = root / "meta/episodes/chunk-000/file-000.parquet"
    about = {k: v for k, v in pq.read_table(episodes).to_pylist()[0].items() if "stats" not in k}
    about |= {"episode_index": 3, "dataset_from_index": 12, "dataset_to_index": 16,
              "data/file_index": 1}  # fmt: skip
    pq.write_table(pa.Table.from_pylist([about]), episodes.with_name("file-001.parquet"))
    with open_source(root) as source:
        assert len(source) == 4 and source.seeds.tolist() == [40, 41, 42, -1]
        np.testing.assert_array_equal(source.read_rows(3, 0, 4)["action"], np.zeros((4, 2)))


def test_what_info_says_now_wins_over_what_it_said(tmp_path):
    convert_store(plain(tmp_path / "theirs"), tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    export_episodes(store, tmp_path / "d", "lerobot", progress=False)
    with open_source(tmp_path / "d") as source:
        assert source.metadata == store.metadata
    file = tmp_path / "d/meta/info.json"
    info = json.loads(file.read_text())
    info["features"]["action"]["names"] = ["left", "right"]
    file.write_text(json.dumps({**info, "robot_type": "so101"}))
    with open_source(tmp_path / "d") as source:
        extras = SourceRecord.of(source.metadata).extras
    assert extras["robot_type"] == "so101"
    assert extras["features"]["action"]["names"] == ["left", "right"]


def test_symbols_on_a_small_grid_are_no_video(tmp_path, same_episodes):
    rng = np.random.default_rng(0)
    with EpisodeWriter.create(tmp_path / "s.zarr") as writer:
        rows = {"image": rng.integers(0, 11, (9, 7, 7, 3), np.uint8)}  # MiniGrid's observation
        rows |= {"labels": rng.integers(0, 9, (9, 20, 20, 3), np.uint8)}
        writer.add_episode({**rows, "action": np.zeros((9, 2), np.float32)})
    store = EpisodeStore.open(tmp_path / "s.zarr")
    report = export_episodes(store, tmp_path / "d", "lerobot", progress=False)
    assert report.losses == () and not (tmp_path / "d/videos").exists()
    with open_source(tmp_path / "d") as source:
        same_episodes(source, store)


def test_arrays_of_several_axes_are_marked_as_lerobots_own(tmp_path):
    """Without the mark, LeRobot's ``remove_feature`` cannot write such a column anew."""
    with EpisodeWriter.create(tmp_path / "s.zarr") as writer:
        writer.add_episode({"grid": np.zeros((3, 2, 5), np.int16), "action": np.zeros((3, 2))})
    store = EpisodeStore.open(tmp_path / "s.zarr")
    export_episodes(store, tmp_path / "d", "lerobot", progress=False)
    field = pq.read_schema(tmp_path / "d/data/chunk-000/file-000.parquet").field("grid")
    name = b"datasets.features.features.Array2DExtensionType"
    assert field.metadata[b"ARROW:extension:name"] == name
    assert json.loads(field.metadata[b"ARROW:extension:metadata"]) == [[2, 5], "int16"]


def test_a_snapshot_in_the_hubs_cache_is_read(tmp_path):
    """``datasets--OWNER--NAME/snapshots/REVISION`` is made of links into the sibling ``blobs``."""
    plain(tmp_path / "plain")
    home = tmp_path / "datasets--me--set"
    snapshot = home / "snapshots" / "0123abc"
    (home / "blobs").mkdir(parents=True)
    for number, file in enumerate(sorted(f for f in (tmp_path / "plain").rglob("*")
                                         if f.is_file())):  # fmt: skip
        link = snapshot / file.relative_to(tmp_path / "plain")
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, home / "blobs" / f"{number:040x}")
        link.symlink_to(os.path.relpath(home / "blobs" / f"{number:040x}", link.parent))
    with open_source(snapshot) as source, open_source(tmp_path / "plain") as expected:
        for found, rows in zip(source, expected, strict=True):
            np.testing.assert_array_equal(found["front_rgb"], rows["front_rgb"])
        assert source.fingerprint()
    target = tmp_path / "secret.parquet"
    file = next((snapshot / "data").rglob("*.parquet"))
    shutil.copy(file.resolve(), target)
    file.unlink()
    file.symlink_to(target)
    with open_source(snapshot) as source, pytest.raises(StoreError, match="leads out of"):
        source.read_rows(0, 0, 1)


@pytest.mark.parametrize("home", ["models--me--set", "anything"])
def test_no_other_layout_of_links_is_followed(tmp_path, home):
    snapshot = tmp_path / home / "snapshots" / "0123abc"
    plain(snapshot)
    (tmp_path / home / "blobs").mkdir()
    file = snapshot / "meta/info.json"
    shutil.move(file, tmp_path / home / "blobs" / "a")
    file.symlink_to("../../../blobs/a")
    with pytest.raises(StoreError, match="leads out of"):
        open_source(snapshot)


def test_actions_of_openpis_script_are_the_action(tmp_path):
    total = sum(LENGTHS)
    actions = np.arange(7 * total, dtype=np.float32).reshape(total, 7)
    features = {"actions": by_hand.numbers("float32", [7], ["actions"]),
                "state": by_hand.numbers("float32", [2], ["state"])}  # fmt: skip
    columns = {"actions": actions, "state": actions[:, :2]}
    root = by_hand.data_set(tmp_path / "d", columns, LENGTHS, features)
    with open_source(root) as source:
        np.testing.assert_array_equal(source.read_rows(1, 0, 5)["action"], actions[6:])
    convert_store(root, tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    export_episodes(store, tmp_path / "again", "lerobot", progress=False)
    written = json.loads((tmp_path / "again/meta/info.json").read_text())["features"]
    assert written["actions"] == features["actions"] and "action" not in written


def test_language_columns_are_left_out_with_a_note(tmp_path):
    total = sum(LENGTHS)
    row = [{"role": "user", "content": "pick", "style": "subtask", "timestamp": 0.0}]
    texts = pa.array([row] * total)
    features = {"language_persistent": {"dtype": "language", "shape": [1], "names": None}}
    root = plain(tmp_path / "d", features=features, columns={"language_persistent": texts})
    with open_source(root) as source:
        assert "language_persistent" not in source.keys
        notes = SourceRecord.of(source.metadata).notes
    assert "language_persistent was not kept: a store holds numbers, not texts." in notes


def test_an_edited_copy_describes_its_features_as_the_source_does(tmp_path):
    """LeRobot 0.6.1 merges two sets only if every feature is described alike."""
    root = plain(tmp_path / "d", features={"extra": {**by_hand.numbers("int64", [1]), "fps": 10.0}},
                 columns={"extra": np.arange(sum(LENGTHS))})  # fmt: skip
    convert_store(root, tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    export_episodes(store, tmp_path / "again", "lerobot", progress=False)
    before, after = (
        json.loads((p / "meta/info.json").read_text()) for p in (root, tmp_path / "again")
    )
    info = before["features"][FRONT].pop("info"), after["features"][FRONT].pop("info")
    assert before["features"] == after["features"]
    assert info[1].items() >= info[0].items()
    assert before["robot_type"] == after["robot_type"] and before["fps"] == after["fps"]


def test_what_the_robot_observes_becomes_the_state_of_lerobot(tmp_path, same_episodes):
    rng = np.random.default_rng(0)
    rows = {
        "robot0_eef_pos": rng.normal(size=(4, 3)).astype(np.float32),
        "robot0_gripper_width": rng.random((4, 1)),
        "robot0_demo_end_pose": rng.normal(size=(4, 6)),
        "robot0_mode": np.arange(4),
        "action": rng.normal(size=(4, 7)).astype(np.float32),
        "reward": np.zeros(4, np.float32),
    }
    with EpisodeWriter.create(tmp_path / "s.zarr") as writer:
        writer.add_episode(rows)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    report = export_episodes(store, tmp_path / "d", "lerobot", progress=False)
    made = "observation.state: robot0_eef_pos, robot0_gripper_width end to end, in this order"
    assert made in report.notes
    features = json.loads((tmp_path / "d/meta/info.json").read_text())["features"]
    assert features["observation.state"]["names"] == [
        "robot0_eef_pos_0", "robot0_eef_pos_1", "robot0_eef_pos_2", "robot0_gripper_width",
    ]  # fmt: skip
    assert {"observation.robot0_eef_pos", "observation.robot0_mode"} < set(features)
    assert "robot0_demo_end_pose" in features and "next.reward" in features
    table = pq.read_table(tmp_path / "d/data/chunk-000/file-000.parquet")
    joined = np.concatenate([rows["robot0_eef_pos"], rows["robot0_gripper_width"]], 1)
    np.testing.assert_allclose(np.array(table["observation.state"].to_pylist()), joined, rtol=1e-6)
    with open_source(tmp_path / "d") as source:
        same_episodes(source, store)  # what was made for LeRobot is not read back


def test_a_state_that_is_there_is_the_state(tmp_path):
    with EpisodeWriter.create(tmp_path / "s.zarr") as writer:
        rows = {"state": np.ones((3, 2), np.float32), "gripper": np.zeros((3, 1), np.float32)}
        writer.add_episode({**rows, "action": np.zeros((3, 2), np.float32)})
    store = EpisodeStore.open(tmp_path / "s.zarr")
    report = export_episodes(store, tmp_path / "d", "lerobot", progress=False)
    features = json.loads((tmp_path / "d/meta/info.json").read_text())["features"]
    assert features["observation.state"]["shape"] == [2] and "observation.gripper" in features
    assert not any("end to end" in note for note in report.notes)


def test_parts_of_an_action_become_one(tmp_path, same_episodes):
    with EpisodeWriter.create(tmp_path / "s.zarr") as writer:
        parts = {"actions_arm": np.full((3, 6), 2, np.float32), "actions_hand": np.ones((3, 1))}
        writer.add_episode({**parts, "state": np.zeros((3, 2), np.float32)})
    store = EpisodeStore.open(tmp_path / "s.zarr")
    export_episodes(store, tmp_path / "d", "lerobot", progress=False)
    table = pq.read_table(tmp_path / "d/data/chunk-000/file-000.parquet")
    assert table["action"].to_pylist() == [[2, 2, 2, 2, 2, 2, 1]] * 3
    with open_source(tmp_path / "d") as source:
        same_episodes(source, store)
