from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from spie_robo.data import CameraMetadata, EpisodeWriter, StoreMetadata
from spie_robo.data.frames import sample_frames
from spie_robo.errors import ConfigError, FrameError, StoreError
from spie_robo.types import Frame

CAMERAS = ("front", "wrist")


def image(episode: int, step: int, camera: str, edited: bool = False) -> np.ndarray:
    """A flat 16x16 image whose pixel says where it comes from."""
    values = (episode, step, CAMERAS.index(camera) + 10 * edited)
    return np.full((16, 16, 3), values, np.uint8)


def origin(frame: Frame) -> tuple[int, int, str]:
    episode, step, camera = frame.rgb[0, 0]
    return int(episode), int(step), CAMERAS[camera]


def write(path: Path, lengths: list[int]) -> Path:
    """Camera ``front`` was edited and has geometry; ``wrist`` is raw and has none."""
    lens = CameraMetadata(((9.0, 0.0, 8.0), (0.0, 9.0, 8.0), (0.0, 0.0, 1.0)), {0: "floor"})
    with EpisodeWriter.create(path, StoreMetadata(cameras={"front": lens})) as writer:
        for episode, length in enumerate(lengths):
            writer.begin_episode(seed=episode)
            for step in range(length):
                writer.append(
                    {
                        "action": np.zeros(2, np.float32),
                        "front_rgb": image(episode, step, "front", edited=True),
                        "front_raw": image(episode, step, "front"),
                        "front_depth": np.full((16, 16), step + 1, np.float32),
                        "front_segmentation": np.zeros((16, 16), np.int32),
                        "front_extrinsics": np.eye(4, dtype=np.float32),
                        "wrist_rgb": image(episode, step, "wrist"),
                    }
                )
            writer.end_episode()
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("frames") / "s.zarr", [12, 2, 12])


def test_raw_frames_with_all_that_is_known(store: Path) -> None:
    frames = sample_frames(store, 4, cameras=["front"])
    for frame in frames:
        _, step, camera = origin(frame)  # an edited image would have no such camera
        assert frame.camera == camera == "front"
        geometry = frame.geometry
        assert geometry is not None and geometry.depth is not None
        assert (geometry.depth == step + 1).all()
        assert geometry.names == {0: "floor"} and geometry.intrinsics is not None
        assert geometry.segmentation is not None and geometry.extrinsics is not None
    assert sample_frames(store, 1, cameras=["wrist"])[0].geometry is None


def test_even_over_episodes_and_cameras_as_far_as_they_reach(store: Path) -> None:
    frames = sample_frames(store, 24)
    counts = Counter((origin(f)[0], f.camera) for f in frames)
    assert {counts[1, c] for c in CAMERAS} == {2}  # all that the short episode has
    assert {counts[e, c] for e in (0, 2) for c in CAMERAS} == {5}


def test_few_frames_come_from_different_episodes_and_both_cameras(store: Path) -> None:
    frames = [origin(f) for f in sample_frames(store, 3)]
    assert {episode for episode, _, _ in frames} == {0, 1, 2}
    assert {camera for _, _, camera in frames} == set(CAMERAS)


def test_deterministic_in_order_and_without_repetition(store: Path) -> None:
    first = [origin(f) for f in sample_frames(store, 20, seed=1)]
    assert first == [origin(f) for f in sample_frames(store, 20, seed=1)]
    assert first == sorted(first) and len(set(first)) == 20
    assert first != [origin(f) for f in sample_frames(store, 20, seed=2)]


def test_where_there_are_fewer_all_come_in_order(store: Path) -> None:
    frames = [origin(f) for f in sample_frames(store, 1000)]
    everything = [(e, s, c) for e, n in enumerate([12, 2, 12]) for s in range(n) for c in CAMERAS]
    assert frames == everything


def test_stores_that_give_no_frame(tmp_path: Path, store: Path) -> None:
    with EpisodeWriter.create(tmp_path / "blind.zarr") as writer:
        writer.begin_episode()
        writer.append({"action": np.zeros(2, np.float32)})
        writer.end_episode()
    with pytest.raises(StoreError, match="expected cameras"):
        sample_frames(tmp_path / "blind.zarr", 1)
    with pytest.raises(StoreError, match=r"no camera \['side'\].*front"):
        sample_frames(store, 1, cameras=["side"])
    with pytest.raises(StoreError, match="nowhere"):
        sample_frames(tmp_path / "nowhere", 1)
    with pytest.raises(ConfigError, match="count"):
        sample_frames(store, 0)


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    for index, name in enumerate(["b.jpg", "a.png", "c.PNG"]):
        cv2.imwrite(str(tmp_path / name), np.full((20, 30, 3), (200, 100, 40 * index), np.uint8))
    frames = sample_frames(tmp_path, 10)
    assert [f.camera for f in frames] == ["a", "b", "c"]
    assert frames[0].geometry is None
    assert tuple(frames[0].rgb[0, 0]) == (40, 100, 200)
    assert len(sample_frames(tmp_path, 2)) == 2
    (tmp_path / "d.png").write_bytes(b"junk")
    with pytest.raises(FrameError, match=r"d\.png"):
        sample_frames(tmp_path, 10)
