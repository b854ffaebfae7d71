from __future__ import annotations

import errno
import json
import os
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from spie_robo.errors import ConfigError, StoreCorruptError, StoreError
from spie_robo.policies import cache as cache_module
from spie_robo.policies.cache import default_cache_folder
from spie_robo.policies.dataset import WindowDataset
from spie_robo.policies.windows import WindowShape

_HELPERS = runpy.run_path(str(Path(__file__).with_name("demonstrations.py")))
SIDE, episode = _HELPERS["SIDE"], _HELPERS["episode"]
write_replay_buffer = _HELPERS["write_replay_buffer"]

SHAPE = WindowShape(2, 4, 3)


def test_windows_hold_the_rows_of_the_store(write_store: Callable[..., Path]) -> None:
    path = write_store(lengths=(6, 9))
    data = WindowDataset([path], SHAPE, image_size=SIDE)
    batch = data.windows(np.array([0, len(data) - 1]))
    first, last = episode(0, 6), episode(1, 9)
    assert set(batch.images) == {"front", "wrist"}
    np.testing.assert_array_equal(batch.action[0], first["action"][[0, 0, 1, 2]])
    np.testing.assert_array_equal(batch.action[1], last["action"][[7, 8, 8, 8]])
    np.testing.assert_array_equal(batch.images["front"][1], last["front_rgb"][[7, 8]])
    np.testing.assert_array_equal(batch.images["wrist"][0], first["wrist_rgb"][[0, 0]])
    np.testing.assert_array_equal(batch.state[1], last["state"][[7, 8]])
    assert data.env_id == "Test/Env-v0"


def test_reads_what_diffusion_policy_wrote(tmp_path: Path) -> None:
    rows = episode(3, 10)
    image = rows["front_rgb"].astype(np.float32)
    pusht = {"img": image, "action": rows["action"], "state": rows["state"]}
    path = write_replay_buffer(tmp_path / "pusht.zarr", pusht, [4, 10])
    data = WindowDataset([path], SHAPE, image_size=SIDE)
    assert data.cameras == {"img": "img"} and data.env_id == ""
    batch = data.windows(np.array([len(data) - 1]))
    np.testing.assert_array_equal(batch.images["img"][0], rows["front_rgb"][[8, 9]])
    np.testing.assert_array_equal(batch.action[0], rows["action"][[8, 9, 9, 9]])


def test_images_in_0_to_1_are_scaled(tmp_path: Path) -> None:
    rows = episode(3, 6)
    data = {"img": rows["front_rgb"].astype(np.float32) / 255, "action": rows["action"]}
    path = write_replay_buffer(tmp_path / "b.zarr", data, [6])
    found = WindowDataset([path], SHAPE, state=(), image_size=SIDE).windows(np.array([1]))
    np.testing.assert_array_equal(found.images["img"][0], rows["front_rgb"][[0, 1]])
    assert found.state.shape == (1, 2, 0)


def test_images_that_are_not_finite_or_have_more_bits_are_refused(tmp_path: Path) -> None:
    rows = episode(3, 6)
    frames = np.zeros((6, 512, 512, 3), np.float32)  # of 3 MB: the last is a block of its own
    frames[5] = np.nan
    data = {"img": frames, "action": rows["action"]}
    path = write_replay_buffer(tmp_path / "nan.zarr", data, [6])
    with pytest.raises(StoreError, match="values from nan to nan"):
        WindowDataset([path], SHAPE, state=(), image_size=SIDE)
    data["img"] = rows["front_rgb"].astype(np.uint16) * 256
    path = write_replay_buffer(tmp_path / "deep.zarr", data, [6])
    with pytest.raises(StoreError, match=r"holds uint16.*uint8 or float"):
        WindowDataset([path], SHAPE, state=(), cameras=["img"], image_size=SIDE)


def test_an_epoch_is_every_window_once_and_seeds_order_it(write_store: Callable[..., Path]) -> None:
    data = WindowDataset([write_store()], SHAPE, image_size=SIDE)
    size = 3
    assert data.batches_in_epoch(size) == len(data) // size

    def epoch(seed: int, number: int) -> np.ndarray:
        first = number * data.batches_in_epoch(size)
        parts = [data.batch(first + i, size, seed=seed) for i in range(len(data) // size)]
        return np.concatenate([part.action.numpy().reshape(size, -1) for part in parts])

    every = data.windows(np.arange(len(data))).action.numpy().reshape(len(data), -1)
    rows = epoch(0, 0)
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert {row.tobytes() for row in rows} <= {row.tobytes() for row in every}
    np.testing.assert_array_equal(epoch(0, 0), rows)
    assert not np.array_equal(epoch(1, 0), rows)
    assert not np.array_equal(epoch(0, 1), rows)


def test_weights_are_the_shares_of_the_stores(write_store: Callable[..., Path]) -> None:
    def mark(value: float) -> Callable[[dict], object]:
        return lambda rows: rows["action"].fill(value)

    small = write_store("small.zarr", (6,), change=mark(1.0))
    large = write_store("large.zarr", (40, 40), change=mark(0.0))
    data = WindowDataset([small, large], SHAPE, image_size=SIDE, weights=[1, 1])
    steps = data.batches_in_epoch(len(data))
    assert steps == 1
    drawn = data.batch(0, len(data), seed=0).action[:, 0, 0]
    assert abs(float(drawn.mean()) - 0.5) <= 1 / len(data)
    unweighted = WindowDataset([small, large], SHAPE, image_size=SIDE)
    assert float(unweighted.batch(0, len(data), seed=0).action.mean()) < 0.1


def test_a_batch_larger_than_the_store_repeats_windows(write_store: Callable[..., Path]) -> None:
    data = WindowDataset([write_store(lengths=(5,))], SHAPE, image_size=SIDE)
    assert data.batch(7, 50, seed=0).action.shape == (50, 4, 2)


def test_raw_frames_stand_in_where_nothing_was_edited(write_store: Callable[..., Path]) -> None:
    def edit(rows: dict) -> None:
        rows["front_raw"] = rows["front_rgb"]
        rows["front_rgb"] = 255 - rows["front_rgb"]

    raw = write_store("raw.zarr", (6,))
    edited = write_store("edited.zarr", (6,), change=edit)
    data = WindowDataset([edited, raw], SHAPE, cameras=["front_raw"], image_size=SIDE)
    assert data.cameras == {"front": "front_raw"}
    half = len(data) // 2
    batch = data.windows(np.arange(len(data))).images["front"]
    np.testing.assert_array_equal(batch[:half], batch[half:])
    mixed = WindowDataset([edited, raw], SHAPE, cameras=["front"], image_size=SIDE)
    batch = mixed.windows(np.arange(len(mixed))).images["front"]
    np.testing.assert_array_equal(255 - batch[:half], batch[half:])


def test_frames_are_resized(write_store: Callable[..., Path]) -> None:
    data = WindowDataset([write_store()], SHAPE, image_size=16)
    frame = data.windows(np.array([0])).images["front"][0, 0].numpy()
    expected = cache_module.resize_frames(episode(0, 6)["front_rgb"][0], 16)
    np.testing.assert_array_equal(frame, expected)


def test_damage_is_an_error_and_leaves_no_cache(
    write_store: Callable[..., Path], cache_home: Path
) -> None:
    path = write_store(lengths=(30,))
    files = [f for f in (path / "data" / "front_rgb").rglob("*") if f.is_file()]
    chunk = next(f for f in files if f.name != "zarr.json")
    content = bytearray(chunk.read_bytes())
    content[len(content) // 3] ^= 0xFF
    chunk.write_bytes(content)
    with pytest.raises(StoreCorruptError):
        WindowDataset([path], SHAPE, image_size=SIDE, cache=default_cache_folder())
    left = [f.name for f in cache_home.rglob("*") if f.is_file()]
    assert not [name for name in left if "front_rgb" in name]


def test_the_cache_is_used_and_rebuilt_when_it_is_wrong(
    write_store: Callable[..., Path], cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_store()

    def frames() -> np.ndarray:
        data = WindowDataset([path], SHAPE, image_size=16, cache=default_cache_folder())
        return data.windows(np.arange(len(data))).images["front"].numpy()

    expected = frames()
    file = next(cache_home.rglob("front_rgb-16px.npy"))
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "_decode", lambda *_: pytest.fail("decoded again"))
        np.testing.assert_array_equal(frames(), expected)
    file.write_bytes(file.read_bytes()[:-5])
    np.testing.assert_array_equal(frames(), expected)
    file.write_bytes(b"rubbish")
    np.testing.assert_array_equal(frames(), expected)
    assert not list(cache_home.rglob("*.partial"))


def test_another_store_at_the_same_path_has_another_cache(
    write_store: Callable[..., Path], tmp_path: Path
) -> None:
    import shutil

    def frames(path: Path) -> np.ndarray:
        data = WindowDataset([path], SHAPE, image_size=16, cache=default_cache_folder())
        return data.windows(np.arange(len(data))).images["front"].numpy()

    path = write_store(lengths=(8,))
    before = frames(path)
    shutil.rmtree(path)
    after = frames(write_store(lengths=(8,), first=5))
    assert before.shape == after.shape and not np.array_equal(before, after)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cameras": ["side"]}, "has no 'side'.*front_rgb"),
        ({"state": ("joints",)}, "has no 'joints'.*action.*state.*choose with .*--state"),
        ({"cameras": ["state"]}, "expected images"),
        ({"cameras": ["front", "front_rgb"]}, "expected each once"),
        ({"cameras": [], "state": ()}, "neither"),
        ({"state": ("state", "action")}, "got action, which a policy that acts does not see"),
        ({"weights": [1, 2]}, r"expected one a store \(1\), got 2"),
        ({"weights": [-1]}, "expected 0 or more"),
    ],
)
def test_refuses_what_does_not_fit(
    write_store: Callable[..., Path], settings: dict, message: str
) -> None:
    with pytest.raises((StoreError, ConfigError), match=message):
        WindowDataset([write_store()], SHAPE, image_size=16, **settings)


def test_refuses_stores_that_differ_or_cannot_be_read(
    write_store: Callable[..., Path], tmp_path: Path
) -> None:
    store = write_store("a.zarr")
    wider = write_store("b.zarr", action_dim=3)
    with pytest.raises(StoreError, match=r"b\.zarr: expected 'action' of 2 .*a\.zarr, got 3"):
        WindowDataset([store, wider], SHAPE, image_size=16)
    blind = write_store("c.zarr", drop=("wrist_rgb",))
    with pytest.raises(StoreError, match=r"c\.zarr: it has no 'wrist_rgb'"):
        WindowDataset([store, blind], SHAPE, image_size=16)
    broken = write_store("d.zarr", change=lambda rows: rows["action"].__setitem__((2, 0), np.nan))
    with pytest.raises(StoreError, match="'action' is not finite as float32 in step 2"):
        WindowDataset([broken], SHAPE, image_size=16)
    with pytest.raises(StoreError, match="found nothing"):
        WindowDataset([tmp_path / "nowhere.zarr"], SHAPE)
    with pytest.raises(ConfigError, match="expected one or more"):
        WindowDataset([], SHAPE)


def test_the_numbers_of_each_key_must_agree_not_only_their_sum(
    write_store: Callable[..., Path],
) -> None:
    def split(at: int) -> Callable[[dict], object]:
        def change(rows: dict) -> None:
            state = rows.pop("state")
            rows["arm"], rows["hand"] = state[:, :at], state[:, at:]

        return change

    store = write_store("a.zarr", change=split(1))
    other = write_store("b.zarr", change=split(2))
    with pytest.raises(StoreError, match=r"b\.zarr: expected 'arm' of 1 .*a\.zarr, got 2"):
        WindowDataset([store, other], SHAPE, state=("arm", "hand"), image_size=16)


def test_stores_of_other_and_of_unnamed_environments(
    write_store: Callable[..., Path], tmp_path: Path
) -> None:
    store = write_store("a.zarr")
    rows = episode(3, 6)
    unnamed = write_replay_buffer(tmp_path / "c.zarr", rows, [6])
    data = WindowDataset([store, unnamed], SHAPE, image_size=16)
    assert data.env_id == "Test/Env-v0" and not data.notes
    other = write_store("b.zarr", env_id="Test/Other-v0")
    data = WindowDataset([store, other], SHAPE, image_size=16)
    assert data.env_id == ""
    assert any("Test/Env-v0, Test/Other-v0" in note for note in data.notes)


def test_pictures_of_another_layout_are_not_left_out_in_silence(tmp_path: Path) -> None:
    rows = episode(3, 6)
    data = {"action": rows["action"], "state": rows["state"]}
    data["img"] = rows["front_rgb"].transpose(0, 3, 1, 2)
    first = write_replay_buffer(tmp_path / "first.zarr", data, [6])
    notes = WindowDataset([first], SHAPE, image_size=16).notes
    assert len(notes) == 1 and f"sees no pictures. {{'img': (6, 3, {SIDE}, {SIDE})}}" in notes[0]
    del data["img"]
    numbers = write_replay_buffer(tmp_path / "numbers.zarr", data, [6])
    assert not WindowDataset([numbers], SHAPE, image_size=16).notes


def test_cameras_that_only_a_later_store_has_are_noted(write_store: Callable[..., Path]) -> None:
    first = write_store("a.zarr", drop=("wrist_rgb",))
    second = write_store("b.zarr")
    data = WindowDataset([first, second], SHAPE, image_size=16)
    assert list(data.cameras) == ["front"]
    assert [note for note in data.notes if "b.zarr: the policy does not see wrist" in note]
    for stores, cameras in (([first, second], ["front"]), ([first], None), ([second] * 2, None)):
        assert not WindowDataset(stores, SHAPE, image_size=16, cameras=cameras).notes


def test_actions_that_teach_nothing_are_noted(write_store: Callable[..., Path]) -> None:
    still = write_store("a.zarr", change=lambda rows: rows["action"].fill(0.5))
    (note,) = WindowDataset([still], SHAPE, image_size=16).notes
    assert note.startswith("All actions are the same to within 0.0001")
    assert not WindowDataset([still, write_store("b.zarr")], SHAPE, image_size=16).notes


def test_a_digest_follows_numbers_pictures_and_bounds(write_store: Callable[..., Path]) -> None:
    def digest(name: str, lengths: tuple[int, ...] = (6, 9), **change: object) -> str:
        return WindowDataset([write_store(name, lengths, **change)], SHAPE, image_size=16).digest()

    def darken(rows: dict) -> None:
        rows["front_rgb"] //= 2

    def move(rows: dict) -> None:
        rows["action"][1] *= 0.5

    first = digest("a.zarr")
    assert digest("same.zarr") == first
    others = [digest("b.zarr", change=darken), digest("c.zarr", change=move)]
    assert len({first, *others, digest("d.zarr", (9, 6))}) == 4


def test_a_full_disk_under_decoded_frames_is_an_error(
    write_store: Callable[..., Path], cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing into the map of a sparse file would end the process by a signal instead."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ConfigError, match=r"front_rgb-16px.*No space left.*`cache: memory`"):
        WindowDataset([write_store()], SHAPE, image_size=16, cache=default_cache_folder())
    assert not [file for file in cache_home.rglob("*") if file.is_file()]


@pytest.mark.parametrize(
    "ends", [np.array([[3, 6]]), np.array(6), np.array([2.5, np.nan]), np.array([True, True])]
)
def test_ends_of_episodes_that_are_no_list_of_numbers(tmp_path: Path, ends: np.ndarray) -> None:
    rows = {"action": np.zeros((6, 2), np.float32), "state": np.zeros((6, 3), np.float32)}
    path = write_replay_buffer(tmp_path / "a.zarr", rows, [6])
    meta = zarr.open_group(path, mode="a")["meta"]
    meta.create_array("episode_ends", data=ends, overwrite=True)
    with pytest.raises(StoreError, match="episode_ends: expected a list of whole numbers"):
        WindowDataset([path], SHAPE)


def test_refuses_groups_that_are_no_replay_buffers(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "empty.zarr", mode="w", zarr_format=2)
    with pytest.raises(StoreError, match="without them"):
        WindowDataset([tmp_path / "empty.zarr"], SHAPE)
    rows = {"action": np.zeros((5, 2), np.float32), "img": episode(0, 5)["front_rgb"]}
    short = write_replay_buffer(tmp_path / "short.zarr", rows, [4, 8])
    with pytest.raises(StoreError, match="at least 8 rows"):
        WindowDataset([short], SHAPE, state=())
    dark = write_replay_buffer(
        tmp_path / "dark.zarr", rows | {"img": rows["img"].astype(np.float32) - 300}, [5]
    )
    with pytest.raises(StoreError, match="expected images in"):
        WindowDataset([dark], SHAPE, state=())


def test_a_data_set_of_another_format_says_how_it_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "my demos" / "meta").mkdir(parents=True)
    (tmp_path / "my demos" / "meta" / "info.json").write_text('{"codebase_version": "v3.0"}')
    with pytest.raises(StoreError, match=r"lerobot.*convert '.*demos' '.*demos_store.zarr' --ed"):
        WindowDataset([tmp_path / "my demos"], SHAPE)


def test_a_batch_needs_nothing_of_the_store(write_store: Callable[..., Path]) -> None:
    """What makes random windows fast; benchmarks/policy_reading.py says how fast."""
    path = write_store(lengths=(120, 120))
    data = WindowDataset([path], SHAPE, image_size=SIDE, cache=default_cache_folder())
    numbers = np.arange(0, len(data), 7)
    before = data.windows(numbers)
    shutil.rmtree(path)
    after = data.windows(numbers)
    assert torch.equal(before.images["front"], after.images["front"])
    assert torch.equal(before.action, after.action)


def test_reads_zipped_replay_buffers_as_umi_has_them(tmp_path: Path) -> None:
    rows = episode(0, 6)
    data = {"camera0_rgb": rows["front_rgb"], "action": rows["action"]}
    folder = write_replay_buffer(tmp_path / "a.zarr", data, [2, 6])
    file = shutil.make_archive(str(tmp_path / "a.zarr"), "zip", folder)
    found, expected = (
        WindowDataset([path], SHAPE, image_size=SIDE, state=()) for path in (file, folder)
    )
    numbers = np.arange(len(expected))
    assert torch.equal(found.windows(numbers).action, expected.windows(numbers).action)
    images = (data.windows(numbers).images["camera0"] for data in (found, expected))
    assert torch.equal(*images)


def test_a_pickle_codec_is_refused_before_it_runs(tmp_path: Path) -> None:
    rows = episode(0, 5)
    data = {"action": rows["action"], "img": rows["front_rgb"]}
    path = write_replay_buffer(tmp_path / "a.zarr", data, [5])
    header = path / "data" / "action" / ".zarray"
    header.write_text(json.dumps(json.loads(header.read_text()) | {"compressor": {"id": "pickle"}}))
    with pytest.raises(StoreError, match="codec 'pickle' is not accepted"):
        WindowDataset([path], SHAPE, image_size=SIDE, state=())


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.bool_])
@pytest.mark.parametrize("parts", [(), (2,)])
def test_actions_that_are_choices_are_refused_before_anything_is_learnt(
    tmp_path: Path, dtype: type, parts: tuple[int, ...]
) -> None:
    rows = episode(3, 6)
    data = {"img": rows["front_rgb"], "action": np.ones((6, *parts), dtype)}
    path = write_replay_buffer(tmp_path / "choices.zarr", data, [6])
    with pytest.raises(StoreError, match=r"continuous numbers, got .*Box"):
        WindowDataset([path], SHAPE, state=(), image_size=SIDE)
