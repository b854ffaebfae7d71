"""What people do to a store by accident: optimised Python, deleted folders, permissions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from spie_robo.data import EpisodeStore, EpisodeWriter, verify_store
from spie_robo.errors import SpieRoboError, StoreError


def rows(steps=4):
    return {"action": np.zeros((steps, 2), np.float32)}


@contextmanager
def as_nobody():
    """Without the rights of root, which may read everything."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        yield


def test_a_python_without_asserts_is_refused_before_any_work(tmp_path):
    """Or works there, with a release of zarr that does not need them."""
    code = (
        "import sys, numpy as np\n"
        "from spie_robo.data import EpisodeStore, EpisodeWriter\n"
        "from spie_robo.errors import StoreError\n"
        "try:\n"
        "    with EpisodeWriter.create(sys.argv[1]) as writer:\n"
        "        writer.add_episode({'a': np.ones((3, 1))})\n"
        "    print(len(EpisodeStore.open(sys.argv[1])))\n"
        "except StoreError as error:\n"
        "    print(error)\n"
    )
    path = tmp_path / "s.zarr"
    command = [sys.executable, "-O", "-c", code, str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert answer.strip() == "1" or ("PYTHONOPTIMIZE" in answer and not path.exists())


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("what", ["store", "data", "meta"])
@pytest.mark.parametrize("when", ["before the rows", "after the rows"])
def test_a_store_that_is_deleted_meanwhile_is_an_error_and_does_not_come_back(
    tmp_path, zarr_format, what, when
):
    path = tmp_path / "s.zarr"
    writer = EpisodeWriter.create(path, zarr_format=zarr_format)
    writer.add_episode(rows())
    gone = path if what == "store" else path / what
    writer.begin_episode()
    writer.extend(rows())
    if when == "after the rows":
        writer._flush(writer._require_episode())
    shutil.rmtree(gone)
    with pytest.raises(StoreError, match="deleted or moved"):
        writer.end_episode()
    writer.close()
    assert not gone.exists()


def test_an_array_that_is_deleted_meanwhile_is_an_error(tmp_path):
    path = tmp_path / "s.zarr"
    with EpisodeWriter.create(path) as writer:
        writer.add_episode(rows())
        shutil.rmtree(path / "meta" / "episode_ends")
        with pytest.raises(StoreError, match="deleted or moved"):
            writer.add_episode(rows())


@pytest.mark.parametrize("mode", [0o000, 0o600])
def test_a_store_that_may_not_be_read_is_an_error_by_name(tmp_path, mode):
    path = tmp_path / "inside" / "s.zarr"
    with EpisodeWriter.create(path) as writer:
        writer.add_episode(rows())
    tmp_path.chmod(0o755)
    for place in (path, path.parent):
        place.chmod(mode)
        try:
            with as_nobody():
                for action in (EpisodeStore.open, verify_store, EpisodeWriter.open):
                    with pytest.raises(SpieRoboError, match=r"s\.zarr"):
                        action(path)
        finally:
            place.chmod(0o755)
    assert len(EpisodeStore.open(path)) == 1


def test_a_target_that_may_not_be_written_is_an_error_by_name(tmp_path):
    tmp_path.chmod(0o755)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    with as_nobody(), pytest.raises(SpieRoboError, match="Cannot write"):
        EpisodeWriter.create(locked / "s.zarr")
    assert list(locked.iterdir()) == []
