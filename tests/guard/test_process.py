from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.errors import FrameError
from spie_robo.guard import GeometryGuard, GuardBudget
from spie_robo.guard.process import GuardProcess
from spie_robo.types import EditResult, Frame, Guard


def pairs(count: int = 3):
    rng = np.random.default_rng(0)
    frames = [Frame(rng.integers(0, 256, (48, 64, 3), np.uint8)) for _ in range(count)]
    images = [frame.rgb if n % 2 else frame.rgb[:, ::-1].copy() for n, frame in enumerate(frames)]
    return frames, [EditResult(image, n, "", "test", 1) for n, image in enumerate(images)]


@pytest.fixture(scope="module")
def apart():
    with GuardProcess(GeometryGuard()) as guard:
        yield guard


def test_verdicts_are_those_of_the_wrapped_guard(apart):
    frames, edits = pairs()
    here = GeometryGuard()
    assert isinstance(apart, Guard)
    assert repr(apart.judge_batch(frames, edits)) == repr(here.judge_batch(frames, edits))
    assert repr(apart.judge(frames[0], edits[0])) == repr(here.judge(frames[0], edits[0]))
    assert GuardedEditor(_Named(), apart).description == GuardedEditor(_Named(), here).description


def test_a_guard_with_settings_of_its_own_is_taken_along():
    frames, edits = pairs()
    here = GeometryGuard(GuardBudget(outline=1.0), roles={"tray*": "surface"})
    with warnings.catch_warnings(), GuardProcess(here) as guard:
        warnings.simplefilter("error")  # of judging here instead
        assert repr(guard.judge_batch(frames, edits)) == repr(here.judge_batch(frames, edits))
        assert guard.description == here.description


@pytest.mark.parametrize(("own", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_its_idle_threads_leave_the_cores_to_the_editor(monkeypatch, own, expected):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if own is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", own)
    frames, edits = pairs(1)
    with GuardProcess(GeometryGuard()) as guard:
        guard.judge_batch(frames, edits)
        environment = Path(f"/proc/{guard._process.pid}/environ").read_text().split("\0")
    assert f"OMP_WAIT_POLICY={expected}" in environment


class _Named:
    id = "an editor"

    def edit(self, frames, references=None, instruction=None, seeds=None):
        raise AssertionError


def test_errors_of_the_wrapped_guard_come_back_and_the_next_batch_is_judged(apart):
    frames, edits = pairs()
    with pytest.raises(FrameError):
        apart.judge(Frame(np.zeros((32, 32, 3), np.uint8)), edits[0])
    with pytest.raises(RuntimeError, match="guard failed"):
        apart.judge_batch(frames, [None])
    assert len(apart.judge_batch(frames, edits)) == 3


def test_a_killed_process_is_told_and_judging_goes_on_here():
    frames, edits = pairs()
    with GuardProcess(GeometryGuard()) as guard:
        expected = repr(guard.judge_batch(frames, edits))
        os.kill(guard._process.pid, signal.SIGKILL)
        with pytest.warns(RuntimeWarning, match="exit status -9"):
            assert repr(guard.judge_batch(frames, edits)) == expected
        assert repr(guard.judge_batch(frames, edits)) == expected


def test_the_process_ends_with_its_caller_however_that_dies():
    code = (
        "import time; from spie_robo.guard import GeometryGuard\n"
        "from spie_robo.guard.process import GuardProcess\n"
        "guard = GuardProcess(GeometryGuard()); print(guard._process.pid, flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as caller:
        assert caller.stdout is not None
        child = int(caller.stdout.readline())
        caller.kill()
    deadline = time.monotonic() + 60
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_after_an_interrupt_no_answer_is_taken_for_that_to_another_question(monkeypatch):
    frames, edits = pairs()
    here = GeometryGuard()
    with GuardProcess(here) as guard:
        with monkeypatch.context() as patch:
            patch.setattr(type(guard._connection), "recv", interrupt)
            with pytest.raises(KeyboardInterrupt):
                guard.judge(frames[0], edits[0])
        for frame, edit in zip(frames, edits, strict=True):
            assert repr(guard.judge(frame, edit)) == repr(here.judge(frame, edit))


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt
