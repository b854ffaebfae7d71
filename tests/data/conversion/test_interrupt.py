"""Ctrl-C in the middle of a write: the episode is committed or dropped, nothing in between."""

from __future__ import annotations

import os
import runpy
import signal
import threading
import time
from pathlib import Path

import pytest
import zarr

from spie_robo import cli
from spie_robo.data import EpisodeStore, EpisodeWriter, verify_store
from spie_robo.errors import SpieRoboError
from spie_robo.files import atomic

episode = runpy.run_path(str(Path(__file__).parents[1] / "nursery.py"))["episode"]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def ctrl_c_interrupts():
    """Jobs that a shell runs in the background ignore SIGINT, and so do their children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_at(monkeypatch, count: int) -> None:
    """Send SIGINT when the n-th file is about to be written, which then takes a while."""
    write, left = atomic.write_synced, [count]

    def slow_write(path: Path, data: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)  # the main thread has long seen it
        write(path, data)

    monkeypatch.setattr(atomic, "write_synced", slow_write)


def test_an_interrupted_write_ends_before_the_clean_up_begins(tmp_path, monkeypatch):
    path = tmp_path / "s.zarr"
    with EpisodeWriter.create(path) as writer:
        writer.add_episode(episode(0), seed=0)
    outcomes = set()
    for count in range(1, 60, 4):
        before = len(EpisodeStore.open(path))
        with EpisodeWriter.open(path) as writer, monkeypatch.context() as patch:
            interrupt_at(patch, count)
            try:
                writer.add_episode(episode(before), seed=before)
            except KeyboardInterrupt:
                outcomes.add("interrupted")
            else:
                outcomes.add("done before")
        store = EpisodeStore.open(path)
        assert len(store) - before in (0, 1)
        assert verify_store(path).ok
        arrays = zarr.open_group(path, mode="r")["data"].arrays()
        assert {array.shape[0] for _, array in arrays} == {store.n_steps}
        if "done before" in outcomes:
            break
    assert outcomes == {"interrupted", "done before"}


def run(monkeypatch, command) -> int:
    spec = cli.COMMANDS["info"]
    monkeypatch.setitem(cli.COMMANDS, "info", type(spec)(spec.settings, command, "", spec.kept))
    return cli.main(["info", "S"])


def test_sigterm_ends_a_command_as_ctrl_c_does(monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    cleaned = []

    def command(options: object) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            cleaned.append(True)
        return 0

    assert run(monkeypatch, command) == 143
    assert cleaned == [True]
    assert "info: interrupted; nothing was written" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


def test_commands_run_in_threads_too(monkeypatch):
    def fail(options: object) -> int:
        raise SpieRoboError("expected this, got that.")

    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(run(monkeypatch, fail)))
    thread.start()
    thread.join()
    assert codes == [2]
