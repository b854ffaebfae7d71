from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from spie_robo.cli import main
from spie_robo.data import EpisodeStore, EpisodeWriter, StoreMetadata
from spie_robo.data.foreign_check import check_data_set
from spie_robo.data.formats import FORMATS, export_episodes
from spie_robo.data.formats.source_record import SourceRecord, with_source

LENGTHS = (6, 7)


def moving(steps: int, seed: int = 0) -> np.ndarray:
    """Frames that differ."""
    ramp = np.arange(32 * 32 * 3).reshape(32, 32, 3) % 200 + 30
    return np.stack([np.roll(ramp, 3 * t + seed, 1) for t in range(steps)]).astype(np.uint8)


def store(path, *, tasks=("push", "lift"), change=None) -> EpisodeStore:
    metadata = with_source(StoreMetadata(), SourceRecord("elsewhere", tasks=tasks, fps=10.0))
    with EpisodeWriter.create(path, metadata) as writer:
        for i, steps in enumerate(LENGTHS):
            rows = {
                "action": np.full((steps, 2), i, np.float32),
                "timestamp": (np.arange(steps) / 10).astype(np.float32),
                "task_index": np.full(steps, i),
                "front_rgb": moving(steps, i),
                "front_depth": np.where(np.eye(32) > 0, np.inf, 1).astype(np.float32)[None]
                .repeat(steps, 0),
            }  # fmt: skip
            writer.add_episode(change(i, rows) if change else rows)
    return EpisodeStore.open(path)


def faults(path) -> str:
    found = check_data_set(path)
    assert found.ok == (not found.faults)
    return "\n".join(found.faults)


@pytest.mark.parametrize("name", ["zarr", *FORMATS])
def test_a_sound_set_of_every_format_has_no_fault(tmp_path, name, capsys):
    path = store(tmp_path / "s.zarr").path
    if name != "zarr":
        path = tmp_path / "x"
        export_episodes(EpisodeStore.open(tmp_path / "s.zarr"), path, name, progress=False)
    assert faults(path) == ""
    assert main(["info", str(path), "--check"]) == 0
    assert "no fault found (2 episodes, 13 steps read)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "values", "said"),
    [
        ("front_rgb", lambda v: v * 0, "camera front is black (episode 1 of 2)"),
        ("front_rgb", lambda v: v[:1].repeat(len(v), 0), "camera front shows one frame only"),
        ("action", lambda v: v * np.nan, "action holds NaN or infinity (episode 1 of 2)"),
        ("timestamp", lambda v: v[::-1].copy(), "timestamp does not grow from step to step"),
        ("timestamp", lambda v: v + (v > 0.3), "timestamp jumps by more than 50% of a step"),
        ("task_index", lambda v: v + 7, "task_index 8 has no text (episode 1 of 2)"),
    ],
)
def test_what_is_wrong_with_the_rows_is_one_line(tmp_path, key, values, said, capsys):
    def change(i, rows):
        return {**rows, key: values(rows[key]).astype(rows[key].dtype)} if i == 1 else rows

    path = store(tmp_path / "s.zarr", change=change).path
    (fault,) = check_data_set(path).faults
    assert fault.startswith(said)
    assert main(["info", str(path), "--check"]) == 1
    assert f"fault: {said}" in capsys.readouterr().out


def test_a_task_without_a_text_is_a_fault(tmp_path):
    path = store(tmp_path / "s.zarr", tasks=("push", " ")).path
    assert faults(path) == "task_index 1 has an empty text (episode 1 of 2)"


def lerobot(tmp_path):
    path = tmp_path / "lerobot"
    export_episodes(store(tmp_path / "s.zarr"), path, "lerobot", progress=False)
    return path


def test_lerobots_counts_and_orphans_are_faults(tmp_path):
    path = lerobot(tmp_path)
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps({**info, "total_frames": 99}))
    file = path / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    pq.write_table(pa.concat_tables([table, table.slice(0, 4)]), file)
    shutil.copy(file, file.with_name("file-007.parquet"))
    said = faults(path)
    assert "meta/info.json declares total_frames 99, there are 13" in said
    assert "has 17 rows, its episodes claim 13: 4 are of no episode" in said
    assert "data/chunk-000/file-007.parquet belongs to no episode" in said


def test_rows_of_another_episode_are_a_fault(tmp_path):
    path = lerobot(tmp_path)
    file = path / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    place = table.column_names.index("episode_index")
    pq.write_table(table.set_column(place, "episode_index", pa.array([0] * 13)), file)
    assert "rows of episode 1 in file-000.parquet say another episode_index" in faults(path)


def test_a_video_that_is_too_short_is_a_fault(tmp_path):
    path = lerobot(tmp_path)
    file = path / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(file).to_pylist()
    rows[1]["videos/observation.images.front/from_timestamp"] = 5.0
    pq.write_table(pa.Table.from_pylist(rows), file)
    said = faults(path)
    assert "camera front cannot be decoded in 1 episode (episode 1 of 2)" in said
    assert "expected a frame at" in said


def test_robomimics_counts_and_filters_are_faults(tmp_path):
    path = tmp_path / "x"
    export_episodes(store(tmp_path / "s.zarr"), path, "robomimic", progress=False)
    with h5py.File(path, "a") as file:
        file["data"].attrs["total"] = 5
        file["data/demo_1"].attrs["num_samples"] = 8
        file["mask/train"] = np.array([b"demo_0", b"demo_9"])
    said = faults(path)
    assert "data declares total 5, its demos have 13 steps" in said
    assert "/data/demo_1 declares num_samples 8, its actions have 7" in said
    assert "mask/train names demos that are not there: demo_9" in said


def test_minaris_counts_are_faults(tmp_path):
    export_episodes(store(tmp_path / "s.zarr"), tmp_path / "x", "minari", progress=False)
    about = tmp_path / "x/data/metadata.json"
    known = json.loads(about.read_text())
    about.write_text(json.dumps({**known, "total_steps": 3, "total_episodes": 1}))
    said = faults(tmp_path / "x")
    assert "metadata.json declares total_steps 3, there are 6" in said
    assert "metadata.json declares 1 episodes, 2 are in the file" in said


def test_a_buffer_whose_rows_do_not_fit_its_episodes_is_a_fault(tmp_path):
    export_episodes(store(tmp_path / "s.zarr"), tmp_path / "x", "diffusion-policy", progress=False)
    root = zarr.open_group(tmp_path / "x", mode="a", zarr_format=2)
    root["data/action"].resize((20, 2))
    assert "data/action has shape (20, 2), meta/episode_ends says 13 steps" in faults(
        tmp_path / "x"
    )


def test_what_is_no_data_set_is_a_fault(tmp_path):
    (tmp_path / "x").mkdir()
    assert "of no known format" in faults(tmp_path / "x")
    assert "found nothing" in faults(tmp_path / "y")
