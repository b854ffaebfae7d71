from __future__ import annotations

import json
import os
import runpy
from pathlib import Path

import pytest
import zarr

from spie_robo.data import EpisodeStore, EpisodeWriter, verify_store

shared = runpy.run_path(str(Path(__file__).parents[1] / "nursery.py"))
episode = shared["episode"]


def written(path, zarr_format, episodes=3):
    with EpisodeWriter.create(path, zarr_format=zarr_format) as writer:
        for i in range(episodes):
            writer.add_episode(episode(i), seed=i)
    return path


def edit(file, change):
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_headers_are_intact_while_a_store_grows(tmp_path, zarr_format):
    store = written(tmp_path / "sim.zarr", zarr_format)
    assert verify_store(store).ok
    with EpisodeWriter.open(store) as writer:
        writer.add_episode(episode(9), seed=9)
    assert verify_store(store).ok
    commit = EpisodeStore.open(store).commit
    assert {"data", "meta", "meta/seeds", "data/action"} <= commit.headers.keys()
    assert len(commit.headers) == len(commit.arrays) + 5


@pytest.mark.parametrize(
    ("zarr_format", "file", "change"),
    [
        (3, "data/action/zarr.json", lambda d: d.update(attributes={"units": "m"})),
        (3, "data/zarr.json", lambda d: d.update(attributs=d.pop("attributes"))),
        (3, "meta/seeds/zarr.json", lambda d: d.update(dimension_names=["x"])),
        (2, "data/reward/.zarray", lambda d: d["compressor"].update(clevel=7)),
        (2, "data/reward/.zattrs", lambda d: d.update(units="m")),
    ],
)
def test_a_header_that_changed_is_found_though_every_row_reads_right(
    tmp_path, zarr_format, file, change
):
    store = written(tmp_path / "sim.zarr", zarr_format)
    edit(store / file, change)
    assert len(EpisodeStore.open(store)[2]["action"]) > 0
    report = verify_store(store)
    assert report.problems == (
        f"{(store / file).parent}: its header is not the one that was committed.",
    )


def test_a_store_of_an_earlier_release_has_no_checksums_of_headers_until_it_grows(
    tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr("spie_robo.data.store.appending.header_checksums", lambda *_: {})
        store = written(tmp_path / "sim.zarr", 3)
    assert "headers" not in json.loads((store / "zarr.json").read_text())["attributes"]["commit"]
    edit(store / "data/action/zarr.json", lambda d: d.update(attributes={"units": "m"}))
    assert verify_store(store).ok
    with EpisodeWriter.open(store) as writer:
        writer.add_episode(episode(9), seed=9)
    assert EpisodeStore.open(store).commit.headers
    assert verify_store(store).ok


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_consolidated_metadata_does_no_harm_and_does_not_go_stale(tmp_path, zarr_format):
    store = written(tmp_path / "sim.zarr", zarr_format)
    zarr.consolidate_metadata(str(store))
    assert verify_store(store).ok
    with EpisodeWriter.open(store) as writer:
        writer.add_episode(episode(9), seed=9)
    assert verify_store(store).ok
    rows = EpisodeStore.open(store).n_steps
    assert zarr.open_group(str(store), mode="r")["data/action"].shape[0] == rows


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("folder", ["data", "data/action", "meta/seeds"])
def test_a_header_of_absurd_size_is_reported_and_not_read(tmp_path, zarr_format, folder):
    store = written(tmp_path / "sim.zarr", zarr_format)
    name = {3: "zarr.json", 2: ".zgroup" if folder == "data" else ".zarray"}[zarr_format]
    os.truncate(store / folder / name, 2**40)
    assert any(folder in problem for problem in verify_store(store).problems)


def test_a_header_is_not_read_through_a_link_out_of_the_store(tmp_path):
    store = written(tmp_path / "sim.zarr", 2)
    attributes = store / "data" / "reward" / ".zattrs"
    attributes.rename(tmp_path / "elsewhere")
    attributes.symlink_to(tmp_path / "elsewhere")
    assert any("data/reward" in problem for problem in verify_store(store).problems)
