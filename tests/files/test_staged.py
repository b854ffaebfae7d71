from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from spie_robo.errors import StoreError, StoreLockedError
from spie_robo.files.staged import build_at, require_room


def test_what_is_built_appears_when_it_is_whole_and_nothing_else_stays(tmp_path):
    with build_at(tmp_path / "out") as building:
        building.mkdir()
        (building / "a").write_text("x")
        assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out/a").read_text() == "x"


def test_the_second_of_two_is_refused_and_told_who_builds(tmp_path):
    with build_at(tmp_path / "out") as building:
        building.write_text("first")
        with pytest.raises(StoreLockedError, match=f"written by process {os.getpid()} on host"):
            with build_at(tmp_path / "out"):
                pass
        code = (
            "import sys; from pathlib import Path; from spie_robo.files.staged import build_at\n"
            "with build_at(Path(sys.argv[1])): pass"
        )
        other = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True
        )
        assert "StoreLockedError" in other.stderr and str(os.getpid()) in other.stderr
        assert building.read_text() == "first"
    assert (tmp_path / "out").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_process_left_is_removed_and_names_like_it_are_not(tmp_path):
    (tmp_path / ".out.1.building").mkdir()
    (tmp_path / ".out.1.building/a").write_text("x")
    (tmp_path / ".outer.1.building").write_text("another's")
    with build_at(tmp_path / "out") as building:
        building.write_text("mine")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".outer.1.building", "out"]


def test_what_appeared_meanwhile_is_not_replaced(tmp_path):
    with pytest.raises(StoreError, match="already exists"):
        with build_at(tmp_path / "out") as building:
            building.write_text("mine")
            (tmp_path / "out").write_text("theirs")
    assert (tmp_path / "out").read_text() == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_into_which_a_thread_still_writes_is_removed_too(tmp_path):
    begun = threading.Event()

    def straggler(folder) -> None:
        for number in range(40):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / str(number)).write_text("late")
            begun.set()
            threading.Event().wait(0.005)

    with pytest.raises(StoreError, match="Nothing is left"):
        with build_at(tmp_path / "out") as building:
            thread = threading.Thread(target=straggler, args=(building,))
            thread.start()
            begun.wait()
            raise OSError(28, "No space left on device")
    thread.join()
    assert list(tmp_path.iterdir()) == []


def test_room_is_looked_for_where_the_file_is_to_be(tmp_path):
    require_room(tmp_path / "not/yet/there", 1)
    with pytest.raises(OSError, match="No space left"):
        require_room(tmp_path / "not/yet/there", 2**62)
