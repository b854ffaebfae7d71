from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from spie_robo.data.conversion.convert import convert_store
from spie_robo.data.formats import FORMATS, detect_format, export_episodes, open_source
from spie_robo.data.formats.detect import LOOKED_FOR
from spie_robo.errors import StoreError


# UMI is told by its keys, see test_diffusion_policy.
@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("umi", "minari-jpeg")])
def test_each_format_is_found_under_any_name(store, tmp_path, name):
    out = tmp_path / "no.ending.at.all"
    export_episodes(store, out, name, progress=False)
    assert detect_format(out) == name


def test_a_store_is_found(store):
    assert detect_format(store.path) == "zarr"


def test_what_fits_nothing_says_what_was_looked_for(tmp_path):
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "file.hdf5").write_bytes(b"\x89HDF and then nothing")
    (tmp_path / "empty.zip").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "other.zarr.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    for name in ("folder.zarr", "file.hdf5", "empty.zip", "other.zarr.zip"):
        with pytest.raises(StoreError, match="of no known format") as caught:
            detect_format(tmp_path / name)
        assert all(what in str(caught.value) for what in LOOKED_FOR)
    with pytest.raises(StoreError, match="found nothing"):
        detect_format(tmp_path / "nowhere")


def test_an_older_lerobot_is_named(tmp_path):
    (tmp_path / "d/meta").mkdir(parents=True)
    (tmp_path / "d/meta/info.json").write_text('{"codebase_version": "v2.1"}')
    with pytest.raises(StoreError, match=r"version v2\.1; v3 is read"):
        detect_format(tmp_path / "d")


@pytest.mark.parametrize("name", ["robomimic", "diffusion-policy-zip", "lerobot", "zarr"])
def test_a_data_set_is_read_through_a_symbolic_link(store, tmp_path, name):
    """The user made the link and gave it: what it leads to is the data set."""
    out = tmp_path / "far" / "data"
    if name == "zarr":
        convert_store(store.path, out, None, progress=False)
    else:
        export_episodes(store, out, name, progress=False)
    link = tmp_path / "near" / "link"
    link.parent.mkdir()
    link.symlink_to(Path("../far/data"))
    assert detect_format(link) == name
    assert open_source(link).fingerprint() == open_source(out).fingerprint()
    convert_store(link, tmp_path / "s.zarr", None, progress=False)
