from __future__ import annotations

import json
import shutil
import sys
import warnings
import zipfile
from pathlib import Path

import google_crc32c
import numcodecs
import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore, ZipStore

from spie_robo.data.conversion.camera_choice import edited_cameras
from spie_robo.data.conversion.convert import convert_store
from spie_robo.data.formats import detect_format, export_episodes, open_source
from spie_robo.data.formats.source_record import SourceRecord
from spie_robo.data.store.episode_store import EpisodeStore
from spie_robo.errors import ConfigError, MissingExtraError, StoreError

NAMES = ("diffusion-policy", "diffusion-policy-zip")


def replay_buffer(store, arrays: dict[str, np.ndarray], ends=(3, 8), codec=None) -> None:
    """A replay buffer as Diffusion Policy's own code writes it, made without our writer."""
    root = zarr.create_group(store, zarr_format=2, attributes={"lab": "north"})
    data, meta = root.create_group("data"), root.create_group("meta")
    codec = codec or numcodecs.Blosc("lz4", clevel=5, shuffle=2)
    for key, rows in arrays.items():
        chunks = (min(2, len(rows)), *rows.shape[1:])
        data.create_array(
            key, shape=rows.shape, dtype=rows.dtype, chunks=chunks, compressors=codec
        )[...] = rows
    meta.create_array("episode_ends", data=np.array(ends, np.int64))
    meta.create_array("robot_number", data=np.array([4, 5], np.int32))


def pusht(rng: np.random.Generator, steps: int = 8) -> dict[str, np.ndarray]:
    """The arrays of the paper's ``pusht_cchi_v7_replay.zarr``: float images, 0 to 255."""
    return {
        "action": rng.normal(size=(steps, 2)).astype(np.float32),
        "img": rng.integers(0, 256, (steps, 96, 96, 3)).astype(np.float32),
        "keypoint": rng.normal(size=(steps, 9, 2)).astype(np.float32),
        "n_contacts": np.ones((steps, 1), np.float32),
        "state": rng.normal(size=(steps, 5)).astype(np.float32),
    }


def umi(rng: np.random.Generator, steps: int = 8) -> dict[str, np.ndarray]:
    return {
        "camera0_rgb": rng.integers(0, 256, (steps, 48, 48, 3), np.uint8),
        "robot0_eef_pos": rng.normal(size=(steps, 3)).astype(np.float32),
        "robot0_eef_rot_axis_angle": rng.normal(size=(steps, 3)).astype(np.float32),
        "robot0_gripper_width": rng.random((steps, 1)).astype(np.float32),
        "robot0_demo_start_pose": rng.normal(size=(steps, 6)).astype(np.float64),
    }


@pytest.mark.parametrize("name", [*NAMES, "umi"])
def test_every_array_survives_bit_by_bit(store, tmp_path, name, same_episodes):
    report = export_episodes(store, tmp_path / "out", name, progress=False)
    assert (report.losses, report.dropped) == ((), {})
    with open_source(tmp_path / "out", name) as source:
        same_episodes(source, store)
        assert source.seeds.tolist() == [40, -1, 42]
        assert source.metadata == store.metadata
    back = tmp_path / "back.zarr"
    convert_store(tmp_path / "out", back, None, progress=False)
    same_episodes(EpisodeStore.open(back), store)
    assert EpisodeStore.open(back).seeds.tolist() == [40, -1, 42]


@pytest.mark.parametrize("name", NAMES)
def test_files_of_others_are_read_and_written_back_under_their_own_names(
    tmp_path, name, same_episodes
):
    arrays = pusht(np.random.default_rng(0))
    path = tmp_path / "x.bin"
    inner = LocalStore(path) if name == "diffusion-policy" else ZipStore(path, mode="w")
    replay_buffer(inner, arrays)
    inner.close()
    assert detect_format(path) == name
    with open_source(path) as source:
        assert source.keys == ("action", "img_rgb", "keypoint", "n_contacts", "state")
        assert [source.episode_length(i) for i in range(2)] == [3, 5]
        rows = source.read_rows(1, 1, 3)
        np.testing.assert_array_equal(rows["state"], arrays["state"][4:6])
        assert rows["img_rgb"].dtype == np.uint8
        np.testing.assert_array_equal(rows["img_rgb"], arrays["img"][4:6])
    convert_store(path, tmp_path / "store.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "store.zarr")
    export_episodes(store, tmp_path / "again", name, progress=False)
    with open_source(tmp_path / "again") as source:
        same_episodes(source, store)
    opened = LocalStore(tmp_path / "again") if name == "diffusion-policy" else None
    root = zarr.open_group(opened or ZipStore(tmp_path / "again", mode="r"), mode="r")
    assert sorted(root["data"].array_keys()) == sorted(arrays)
    assert root.attrs["lab"] == "north"
    assert root["meta/robot_number"][:].tolist() == [4, 5]
    for key, rows in arrays.items():
        np.testing.assert_array_equal(root[f"data/{key}"][:], rows)


def test_umi_is_told_from_other_zips_and_has_one_frame_a_chunk(tmp_path):
    arrays = umi(np.random.default_rng(0))
    with ZipStore(tmp_path / "dataset", mode="w") as inner:
        replay_buffer(inner, arrays)
    assert detect_format(tmp_path / "dataset") == "umi"
    with open_source(tmp_path / "dataset") as source:
        assert "camera0_rgb" in source.keys
        export_episodes(source, tmp_path / "out.zarr.zip", "umi", progress=False)
    root = zarr.open_group(ZipStore(tmp_path / "out.zarr.zip", mode="r"), mode="r")
    assert root["data/camera0_rgb"].chunks == (1, 48, 48, 3)
    for key, rows in arrays.items():
        np.testing.assert_array_equal(root[f"data/{key}"][:], rows)


def test_the_same_episodes_give_the_same_bytes(store, tmp_path):
    for name in ("a.zip", "b.zip"):
        export_episodes(store, tmp_path / name, "diffusion-policy-zip", progress=False)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_nothing_is_overwritten_and_nothing_half_done_is_left(store, tmp_path, monkeypatch):
    (tmp_path / "there").write_text("mine")
    with pytest.raises(StoreError, match="already exists"):
        export_episodes(store, tmp_path / "there", "diffusion-policy", progress=False)
    assert (tmp_path / "there").read_text() == "mine"
    before = sorted(p.name for p in tmp_path.iterdir())

    def full(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("spie_robo.data.formats.diffusion_policy._pack_zip", full)
    with pytest.raises(StoreError, match=r"No space left.*Nothing is left"):
        export_episodes(store, tmp_path / "new.zip", "diffusion-policy-zip", progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def edit_header(path: Path, **changes) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [8, 2**20, 2**20, 3]}, "claims .* bytes of a step, at most"),
        ({"shape": [2**40, 5]}, "claims .* steps, at most"),
        ({"chunks": [2**40, 5]}, "claims .* bytes of a chunk, at most"),
        ({"chunks": [0, 5]}, "do not cut"),
        ({"filters": [{"id": "pickle"}]}, "pickle would run code"),
        ({"compressor": {"id": "pickle"}}, "codec 'pickle' is not accepted"),
        ({"shape": "x"}, "header of the array is damaged"),
    ],
)
def test_headers_that_ask_for_too_much_are_refused(tmp_path, changes, message):
    replay_buffer(LocalStore(tmp_path / "x"), pusht(np.random.default_rng(0)))
    edit_header(tmp_path / "x/data/state/.zarray", **changes)
    with pytest.raises(StoreError, match=message):
        open_source(tmp_path / "x")


CODECS = [
    numcodecs.Blosc("zstd"),
    numcodecs.LZ4(),
    numcodecs.Zstd(),
    numcodecs.Zlib(),
    numcodecs.GZip(),
    numcodecs.BZ2(),
    numcodecs.LZMA(),
]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.codec_id)
def test_a_chunk_that_unpacks_to_more_is_refused(tmp_path, codec):
    arrays = pusht(np.random.default_rng(0))
    replay_buffer(LocalStore(tmp_path / "x"), arrays, codec=codec)
    with open_source(tmp_path / "x") as source:
        np.testing.assert_array_equal(source.read_rows(0, 0, 3)["state"], arrays["state"][:3])
    chunk = tmp_path / "x/data/state/0.0"
    chunk.write_bytes(codec.encode(np.zeros(2**24, np.uint8)))
    with open_source(tmp_path / "x") as source, pytest.raises(StoreError, match="unpacks to more"):
        source.read_rows(0, 0, 2)


def test_nor_is_one_whose_numbers_are_folders(tmp_path):
    codec = numcodecs.Zlib()
    arrays = pusht(np.random.default_rng(0))
    replay_buffer(LocalStore(tmp_path / "x"), arrays, codec=codec)
    state = tmp_path / "x/data/state"
    for chunk in [file for file in state.iterdir() if file.name[0].isdigit()]:
        content = chunk.read_bytes()
        chunk.unlink()
        (state / chunk.name.replace(".", "/")).parent.mkdir(exist_ok=True)
        (state / chunk.name.replace(".", "/")).write_bytes(content)
    edit_header(state / ".zarray", dimension_separator="/")
    with open_source(tmp_path / "x") as source:
        np.testing.assert_array_equal(source.read_rows(0, 0, 3)["state"], arrays["state"][:3])
    (state / "0" / "0").write_bytes(codec.encode(np.zeros(2**24, np.uint8)))
    with open_source(tmp_path / "x") as source, pytest.raises(StoreError, match="unpacks to more"):
        source.read_rows(0, 0, 2)


def test_links_and_members_that_lead_out_are_refused(tmp_path):
    replay_buffer(LocalStore(tmp_path / "x"), pusht(np.random.default_rng(0)))
    chunk = tmp_path / "x/data/state/0.0"
    chunk.replace(tmp_path / "secret")
    chunk.symlink_to(tmp_path / "secret")
    with open_source(tmp_path / "x") as source, pytest.raises(StoreError, match="leads out of"):
        source.read_rows(0, 0, 2)
    for member in ("../evil", "/etc/evil", "data/../../evil", "data\\..\\evil"):
        path = tmp_path / "evil.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("meta/episode_ends/.zarray", "{}")
            archive.writestr(member, "x")
        with pytest.raises(StoreError, match="climbs out"):
            detect_format(path)
    assert not (tmp_path.parent / "evil").exists()


def test_damage_is_an_error_not_other_numbers(tmp_path):
    replay_buffer(LocalStore(tmp_path / "x"), pusht(np.random.default_rng(0)))
    chunk = tmp_path / "x/data/state/0.0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    with open_source(tmp_path / "x") as source, pytest.raises(StoreError):
        source.read_rows(0, 0, 2)
    edit_header(tmp_path / "x/data/action/.zarray", shape=[7, 2])
    with pytest.raises(StoreError, match="one row a step"):
        open_source(tmp_path / "x")


@pytest.mark.parametrize("ends", [(0, 8), (5, 3), (8, 8)])
def test_episode_ends_must_grow(tmp_path, ends):
    replay_buffer(LocalStore(tmp_path / "x"), pusht(np.random.default_rng(0)), ends=ends)
    with pytest.raises(StoreError, match="does not grow"):
        open_source(tmp_path / "x")


def test_images_with_fractions_are_not_rounded_silently(tmp_path):
    arrays = pusht(np.random.default_rng(0))
    arrays["img"] /= 255
    replay_buffer(LocalStore(tmp_path / "x"), arrays)
    with open_source(tmp_path / "x") as source, pytest.raises(StoreError, match="fractions"):
        source.read_rows(0, 0, 2)


def test_jpeg_xl_names_the_package_that_reads_it(tmp_path, monkeypatch):
    replay_buffer(LocalStore(tmp_path / "x"), umi(np.random.default_rng(0)))
    header = tmp_path / "x/data/camera0_rgb/.zarray"
    edit_header(header, compressor={"id": "imagecodecs_jpegxl", "level": 99})
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(MissingExtraError, match="pip install imagecodecs"):
        open_source(tmp_path / "x")


@pytest.mark.parametrize("name", NAMES)
def test_arrays_in_groups_are_read_in_folders_and_in_zips(tmp_path, name, same_episodes):
    path = tmp_path / "x"
    inner = LocalStore(path) if name == "diffusion-policy" else ZipStore(path, mode="w")
    arrays = pusht(np.random.default_rng(0))
    replay_buffer(inner, {key: rows for key, rows in arrays.items() if key != "state"})
    group = zarr.open_group(inner, mode="a", zarr_format=2).create_group("data/obs/robot")
    group.create_array("pose", data=arrays["state"], chunks=(2, 5))
    inner.close()
    with open_source(path) as source:
        assert "obs_robot_pose" in source.keys
        np.testing.assert_array_equal(
            source.read_rows(1, 0, 5)["obs_robot_pose"], arrays["state"][3:]
        )
    convert_store(path, tmp_path / "s.zarr", None, progress=False)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    export_episodes(store, tmp_path / "again", name, progress=False)
    with open_source(tmp_path / "again") as source:
        same_episodes(source, store)
        assert {array.name for array in source.arrays} >= {"obs/robot/pose", "img"}


def test_texts_are_left_out_and_named(tmp_path):
    replay_buffer(LocalStore(tmp_path / "x"), pusht(np.random.default_rng(0)))
    data = zarr.open_group(tmp_path / "x", mode="a", zarr_format=2)["data"]
    data.create_array("phase", data=np.array(["reach"] * 8, "<U8"), chunks=(4,))
    header = tmp_path / "x/data/phase/.zarray"
    shutil.copytree(header.parent, tmp_path / "x/data/objects")
    edit_header(tmp_path / "x/data/objects/.zarray", dtype="|O", filters=[{"id": "pickle"}])
    with open_source(tmp_path / "x") as source:
        assert not {"phase", "objects"} & set(source.keys)
        notes = SourceRecord.of(source.metadata).notes
    for name in ("data/phase", "data/objects"):
        assert f"{name} was not kept: a store holds numbers, not texts or objects." in notes


def test_actions_is_the_action(tmp_path):
    arrays = pusht(np.random.default_rng(0))
    arrays["actions"] = arrays.pop("action")
    replay_buffer(LocalStore(tmp_path / "x"), arrays)
    with open_source(tmp_path / "x") as source:
        np.testing.assert_array_equal(source.read_rows(0, 0, 3)["action"], arrays["actions"][:3])


def test_a_zip_to_which_zarr_itself_appended_is_read(tmp_path):
    """A header that is written again is a second member of one name; the last one counts."""
    path = tmp_path / "x.zarr.zip"
    arrays = pusht(np.random.default_rng(0))
    with ZipStore(path, mode="w") as inner:
        replay_buffer(inner, arrays)
    with ZipStore(path, mode="a") as inner, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = zarr.open_group(inner, mode="a", zarr_format=2)
        for key, rows in arrays.items():
            root["data"][key].resize((12, *rows.shape[1:]))
            root["data"][key][8:] = rows[:4]
        root["meta/episode_ends"].resize(3)
        root["meta/episode_ends"][2:] = 12
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    assert len(names) > len(set(names))
    assert detect_format(path) == "diffusion-policy-zip"
    with open_source(path) as source:
        assert [source.episode_length(i) for i in range(3)] == [3, 5, 4]
        np.testing.assert_array_equal(source.read_rows(2, 0, 4)["state"], arrays["state"][:4])
        np.testing.assert_array_equal(source.read_rows(1, 0, 5)["img_rgb"], arrays["img"][3:8])


def test_what_was_changed_in_a_buffer_of_ours_wins(store, tmp_path):
    """``ReplayBuffer`` appends and drops episodes at the end, in place."""
    export_episodes(store, tmp_path / "x", "diffusion-policy", progress=False)
    root = zarr.open_group(tmp_path / "x", mode="a", zarr_format=2)
    ends = store.episode_ends
    for array in root["data"].arrays():
        more = array[1][: int(ends[0])]
        array[1].append(more)
    root["meta/episode_ends"].append(np.array([ends[-1] + ends[0]]))
    root["meta"].create_array("operator", data=np.array([7], np.int64))
    with open_source(tmp_path / "x") as source:
        assert source.seeds.tolist() == [40, -1, 42, -1]
        np.testing.assert_array_equal(source.read_rows(3, 0, 2)["action"], store[0]["action"][:2])


def test_images_that_are_no_camera_are_named(tmp_path):
    arrays = pusht(np.random.default_rng(0))
    arrays["img"] = np.zeros((8, 40, 40, 4), np.uint8)
    replay_buffer(LocalStore(tmp_path / "x"), arrays)
    with open_source(tmp_path / "x") as source:
        with pytest.raises(ConfigError, match=r"found img \(uint8 40x40x4\)"):
            edited_cameras(source, ())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shards", [None, (4, 5)])
def test_buffers_of_zarr_3_are_read(tmp_path, name, shards, same_episodes):
    path = tmp_path / "x"
    inner = LocalStore(path) if name == "diffusion-policy" else ZipStore(path, mode="w")
    arrays = pusht(np.random.default_rng(0))
    root = zarr.create_group(inner, zarr_format=3, attributes={"lab": "south"})
    data, meta = root.create_group("data"), root.create_group("meta")
    for key, rows in arrays.items():
        cut = shards if key == "state" else None
        data.create_array(key, data=rows, chunks=(2, *rows.shape[1:]), shards=cut)
    data.create_group("obs").create_array("pose", data=arrays["state"], compressors=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr 3 has no settled type of texts
        data.create_array("words", data=np.array(["a"] * 8, "<U3"))
    meta.create_array("episode_ends", data=np.array([3, 8], np.int64))
    inner.close()
    assert detect_format(path) == name
    with open_source(path) as source:
        record = SourceRecord.of(source.metadata)
        assert any(note.startswith("data/words was not kept") for note in record.notes)
        assert record.extras["attributes"] == {"lab": "south"}
        rows = source.read_rows(1, 0, 5)
        for key in ("action", "state", "keypoint"):
            np.testing.assert_array_equal(rows[key], arrays[key][3:])
        np.testing.assert_array_equal(rows["obs_pose"], arrays["state"][3:])
        np.testing.assert_array_equal(rows["img_rgb"], arrays["img"][3:])


def test_a_shard_whose_chunk_unpacks_to_more_is_refused(tmp_path):
    root = zarr.create_group(LocalStore(tmp_path / "x"), zarr_format=3)
    codec = zarr.codecs.GzipCodec()
    rows = np.ones((8, 5), np.float32)
    root.create_group("data").create_array(
        "state", data=rows, chunks=(2, 5), shards=(8, 5), compressors=codec
    )
    root.create_group("meta").create_array("episode_ends", data=np.array([8], np.int64))
    (file,) = [f for f in (tmp_path / "x/data/state/c").rglob("*") if f.is_file()]
    with open_source(tmp_path / "x") as source:
        source.read_rows(0, 0, 8)
    whole = file.read_bytes()
    bomb = numcodecs.GZip().encode(bytes(2**24))
    index = np.frombuffer(whole[-68:-4], "<u8").copy()
    index[:2] = 0, len(bomb)
    body = index.tobytes()
    checksum = np.uint32(google_crc32c.value(body)).tobytes()
    file.write_bytes(bomb + whole[:-68] + body + checksum)
    with open_source(tmp_path / "x") as source, pytest.raises(StoreError, match="unpacks to more"):
        source.read_rows(0, 0, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codecs": [{"name": "pickle", "configuration": {}}]}, "codecs .* are not accepted"),
        ({"codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}]}, "are not accepted"),
        ({"shape": [8, 2**40]}, "bytes of a step, at most"),
        ({"chunk_grid": {"name": "rectangular", "configuration": {"chunk_shape": [2, 5]}}},
         "only regular"),
        ({"codecs": 7}, "damaged"),
    ],
)  # fmt: skip
def test_headers_of_zarr_3_that_ask_for_too_much_are_refused(tmp_path, change, message):
    root = zarr.create_group(LocalStore(tmp_path / "x"), zarr_format=3)
    root.create_group("data").create_array("state", data=np.zeros((8, 5), np.float32))
    root.create_group("meta").create_array("episode_ends", data=np.array([8], np.int64))
    edit_header(tmp_path / "x/data/state/zarr.json", **change)
    with pytest.raises(StoreError, match=message):
        open_source(tmp_path / "x")
