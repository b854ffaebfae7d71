from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from spie_robo.data.conversion.convert import convert_store
from spie_robo.data.formats import export_episodes, open_source
from spie_robo.data.formats.source_record import SourceRecord, with_source
from spie_robo.data.store.episode_store import EpisodeStore
from spie_robo.data.store.metadata import StoreMetadata
from spie_robo.data.store.writer import EpisodeWriter
from spie_robo.errors import StoreError


def demos(path: Path, count: int = 3, steps: int = 4) -> Path:
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = "{}"
        for i in range(count):
            demo = file["data"].create_group(f"demo_{i}")
            demo["actions"] = np.full((steps + i, 7), i, np.float32)
            demo["obs/agentview_image"] = np.full((steps + i, 24, 24, 3), i, np.uint8)
            demo["obs/robot0_eef_pos"] = np.full((steps + i, 3), i, np.float64)
    return path


def notes_of(source) -> str:
    return "\n".join(SourceRecord.of(source.metadata).notes)


def test_isaac_labs_initial_state_is_left_out_and_named(tmp_path):
    """``initial_state`` has one row an episode; Isaac Lab tells ``num_samples``."""
    path = demos(tmp_path / "x")
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            demo["initial_state/articulation/robot/joint_position"] = np.zeros((1, 9))
            demo["states/articulation/robot/joint_position"] = np.ones((len(demo["actions"]), 9))
            demo.attrs["num_samples"] = len(demo["actions"])
    with open_source(path) as source:
        assert [source.episode_length(i) for i in range(3)] == [4, 5, 6]
        assert "states_articulation_robot_joint_position" in source.keys
        assert not any("initial" in key for key in source.keys)
        name = "initial_state/articulation/robot/joint_position"
        assert f"{name} was not kept: it has 1 rows, the episode 4 steps." in notes_of(source)


def test_the_length_is_told_by_num_samples_where_there_is_no_action(tmp_path):
    path = tmp_path / "x"
    with h5py.File(path, "w") as file:
        demo = file.create_group("data/demo_0")
        demo["obs/a"], demo["obs/b"], demo["obs/c"] = np.zeros((5, 2)), np.zeros(6), np.zeros(6)
        demo.attrs["num_samples"] = 5
    with open_source(path) as source:
        assert source.keys == ("a",) and source.episode_length(0) == 5


def test_an_array_that_only_some_demos_have_is_left_out_and_named(tmp_path):
    path = demos(tmp_path / "x")
    with h5py.File(path, "a") as file:
        file["data/demo_1/obs/extra"] = np.zeros((5, 2))
    with open_source(path) as source:
        assert "extra" not in source.keys
        assert "obs/extra was not kept: 2 of 3 episodes differ" in notes_of(source)


@pytest.mark.parametrize("name", ["actions", "obs/agentview_image"])
def test_what_a_store_is_made_for_is_not_left_out(tmp_path, name):
    path = demos(tmp_path / "x")
    with h5py.File(path, "a") as file:
        del file[f"data/demo_1/{name}"]
    with pytest.raises(StoreError, match=f"{name} is not in demo_1, and {name} is needed"):
        open_source(path)


def test_texts_are_left_out_and_named(tmp_path):
    path = demos(tmp_path / "x")
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            steps = len(demo["actions"])
            demo.create_dataset("obs/phase", data=["reach"] * steps, dtype=h5py.string_dtype())
            demo["obs/short"] = np.array([b"ab"] * steps)
    with open_source(path) as source:
        assert source.keys == ("action", "agentview_rgb", "robot0_eef_pos")
        said = notes_of(source)
    for name in ("obs/phase", "obs/short"):
        assert f"{name} was not kept: a store holds numbers, not texts." in said


@pytest.mark.parametrize(
    "place", ["attribute", "array", "ep_meta", "problem_info", "quoted problem_info"]
)
def test_instructions_are_found_where_people_put_them(tmp_path, place):
    path = demos(tmp_path / "x")
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            if place == "attribute":
                demo.attrs["language_instruction"] = "put it down"
            if place == "ep_meta":
                demo.attrs["ep_meta"] = json.dumps({"lang": "put it down"})
            if place == "array":
                demo.create_dataset("language", data=["put it down"], dtype=h5py.string_dtype())
        if "problem_info" in place:  # LIBERO's, for the whole file
            text = '"put it down"' if "quoted" in place else "put it down"
            about = {"problem_name": "LIBERO", "language_instruction": text}
            file["data"].attrs["problem_info"] = json.dumps(about)
    with open_source(path) as source:
        assert SourceRecord.of(source.metadata).tasks == ("put it down",)
        assert (source.read_rows(2, 0, 6)["task_index"] == 0).all()


def test_one_demo_without_an_instruction_takes_none_from_the_others(tmp_path):
    path = demos(tmp_path / "x")
    with h5py.File(path, "a") as file:
        file["data/demo_0"].attrs["ep_meta"] = json.dumps({"lang": "push"})
        file["data/demo_2"].attrs["ep_meta"] = json.dumps({"lang": "lift"})
    convert_store(path, tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    tasks = SourceRecord.of(store.metadata).tasks
    assert [tasks[episode["task_index"][0]] for episode in store] == ["push", "", "lift"]
    with open_source(path) as source:
        assert "1 of 3 episodes have no instruction" in notes_of(source)
    export_episodes(store, tmp_path / "again", "robomimic", progress=False)
    with h5py.File(tmp_path / "again") as file:
        assert json.loads(file["data/demo_2"].attrs["ep_meta"]) == {"lang": "lift"}
        assert "ep_meta" not in file["data/demo_1"].attrs


def ours(tmp_path: Path) -> Path:
    """A file of ours with instructions, in which another tool will change something."""
    record = SourceRecord("elsewhere", tasks=("push", "lift"))
    with EpisodeWriter.create(tmp_path / "s.zarr", with_source(StoreMetadata(), record)) as writer:
        for i in range(3):
            rows = {"action": np.zeros((3, 2)), "task_index": np.full(3, i % 2)}
            writer.add_episode(rows, seed=i)
    export_episodes(EpisodeStore.open(tmp_path / "s.zarr"), tmp_path / "ours", "robomimic",
                    progress=False)  # fmt: skip
    return tmp_path / "ours"


def test_an_instruction_that_was_changed_in_our_file_is_the_one_that_is_read(tmp_path):
    path = ours(tmp_path)
    with h5py.File(path, "a") as file:
        file["data/demo_1"].attrs["ep_meta"] = json.dumps({"lang": "turn it"})
    with open_source(path) as source:
        tasks = SourceRecord.of(source.metadata).tasks
        texts = [tasks[source.read_rows(i, 0, 1)["task_index"][0]] for i in range(3)]
        assert texts == ["push", "turn it", "push"]
        assert source.seeds.tolist() == [0, 1, 2]


def test_attributes_and_filters_that_were_changed_in_our_file_win(tmp_path):
    path = demos(tmp_path / "x")
    with h5py.File(path, "a") as file:
        file["mask/train"] = np.array([b"demo_0", b"demo_2"])
        for demo in file["data"].values():
            demo.attrs["model_file"] = "old"
    convert_store(path, tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    export_episodes(store, tmp_path / "ours", "robomimic", progress=False)
    with open_source(tmp_path / "ours") as source:
        assert source.metadata == store.metadata
    with h5py.File(tmp_path / "ours", "a") as file:
        file["data/demo_1"].attrs["model_file"] = "new"
        file["data"].attrs["env_args"] = json.dumps({"env_name": "Other"})
        del file["mask/train"]
        file["mask/train"] = np.array([b"demo_1"])
    with open_source(tmp_path / "ours") as source:
        export_episodes(source, tmp_path / "again", "robomimic", progress=False)
    with h5py.File(tmp_path / "again") as file:
        models = [file[f"data/demo_{i}"].attrs["model_file"] for i in range(3)]
        assert models == ["old", "new", "old"]
        assert json.loads(file["data"].attrs["env_args"]) == {"env_name": "Other"}
        assert file["mask/train"][()].tolist() == [b"demo_1"]


def test_parts_of_an_action_are_written_as_robomimic_reads_them(tmp_path, same_episodes):
    with EpisodeWriter.create(tmp_path / "s.zarr") as writer:
        parts = {"actions_arm": np.full((3, 6), 2, np.float32), "actions_hand": np.ones((3, 1))}
        writer.add_episode({**parts, "state": np.zeros((3, 2), np.float32)})
    store = EpisodeStore.open(tmp_path / "s.zarr")
    report = export_episodes(store, tmp_path / "x", "robomimic", progress=False)
    assert "actions: actions_arm, actions_hand end to end, in this order" in report.notes
    with h5py.File(tmp_path / "x") as file:
        assert file["data/demo_0/actions"][()].tolist() == [[2, 2, 2, 2, 2, 2, 1]] * 3
        assert file["data/demo_0/action_dict/actions_hand"].shape == (3, 1)
    with open_source(tmp_path / "x") as source:
        same_episodes(source, store)


def test_two_names_of_one_key_both_stay(tmp_path):
    path = demos(tmp_path / "x")
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            steps = len(demo["actions"])
            demo["rewards"], demo["obs/rewards"] = np.ones(steps), np.zeros(steps)
            demo["obs/reward"] = np.full(steps, 2.0)
            demo["obs/agentview_rgb"] = np.full((steps, 24, 24, 3), 9, np.uint8)
    with open_source(path) as source:
        rows = source.read_rows(0, 0, 1)
    assert rows["reward"] == 1 and rows["rewards"] == 0 and rows["obs_reward"] == 2
    assert (rows["agentview_rgb"].max(), rows["obs_agentview_rgb_rgb"].max()) in ((0, 9), (9, 0))


def test_channel_first_frames_are_a_camera(tmp_path):
    path = tmp_path / "x"
    frames = np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), np.uint8)
    with h5py.File(path, "w") as file:
        demo = file.create_group("data/demo_0")
        demo["actions"], demo["obs/front_image"] = np.zeros((4, 2)), np.moveaxis(frames, -1, 1)
    convert_store(path, tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    np.testing.assert_array_equal(store[0]["front_rgb"], frames)
    export_episodes(store, tmp_path / "again", "robomimic", progress=False)
    with h5py.File(tmp_path / "again") as file:
        written = file["data/demo_0/obs/front_image"][()]
    np.testing.assert_array_equal(written, np.moveaxis(frames, -1, 1))


def test_observations_become_those_of_lerobot_and_the_simulators_state_does_not(tmp_path):
    path = demos(tmp_path / "x")
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            demo["states"] = np.zeros((len(demo["actions"]), 20))
            demo["obs/robot0_gripper"] = np.ones((len(demo["actions"]), 1))
    convert_store(path, tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    report = export_episodes(store, tmp_path / "d", "lerobot", progress=False)
    made = "observation.state: robot0_eef_pos, robot0_gripper end to end, in this order"
    assert made in report.notes
    features = json.loads((tmp_path / "d/meta/info.json").read_text())["features"]
    assert features["observation.state"]["shape"] == [4]
    assert features["states"]["shape"] == [20] and "observation.states" not in features
