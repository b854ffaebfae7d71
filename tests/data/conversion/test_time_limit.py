from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from spie_robo.data import StoreMetadata
from spie_robo.data.conversion.engine import Block, EditTask
from spie_robo.data.conversion.local_engine import LocalEngine
from spie_robo.data.conversion.time_limit import time_limit
from spie_robo.editing.guarded_editor import GuardedEditor
from spie_robo.errors import EditorError

TASK = EditTask(StoreMetadata(), ("front",), batch_size=2)
BLOCK = Block(0, 0, {"front_rgb": np.zeros((3, 16, 16, 3), np.uint8)}, last=True)

STUCK_IN_NATIVE_CODE = """
from spie_robo.data.conversion import time_limit
time_limit.GRACE_SECONDS = 0.1
with time_limit.time_limit(0.1, "stuck"):
    sum(range(10**11))  # one instruction, of minutes: no signal is looked at before its end
"""


class Hanging:
    id = "hanging@1"

    def edit(self, frames, references=None, instruction=None, seeds=None):
        threading.Event().wait(60)


class Accepting:
    def judge_batch(self, frames, edits):
        raise AssertionError("there is no edit to judge")


def test_python_code_is_interrupted_and_what_was_set_comes_back():
    def mine(number, frame):
        raise AssertionError

    before = signal.signal(signal.SIGALRM, mine)
    try:
        with pytest.raises(EditorError, match=r"'stuck' gave no edits within 0\.05 s"):
            with time_limit(0.05, "stuck"):
                time.sleep(60)
        assert signal.getsignal(signal.SIGALRM) is mine
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_what_is_quick_enough_is_not_disturbed():
    with time_limit(60, "quick"):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_there_is_no_limit_without_seconds_or_outside_the_main_thread():
    seen = []

    def body(seconds):
        with time_limit(seconds, "any"):
            seen.append(signal.getitimer(signal.ITIMER_REAL)[0])

    body(None)
    thread = threading.Thread(target=body, args=(60,))
    thread.start()
    thread.join()
    assert seen == [0.0, 0.0]


def test_native_code_that_never_comes_back_ends_the_process_and_says_where_it_was():
    found = subprocess.run(
        [sys.executable, "-c", STUCK_IN_NATIVE_CODE], capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 1
    assert "Timeout" in found.stderr
    assert 'File "<string>", line 5' in found.stderr


@pytest.mark.parametrize("guard", [None, Accepting()])
def test_a_hanging_editor_is_an_error_and_leaves_no_thread(guard):
    before = threading.active_count()
    engine = LocalEngine(GuardedEditor(Hanging(), guard), timeout=0.1)
    with pytest.raises(EditorError, match="'hanging@1' gave no edits"):
        list(engine.edit(TASK, [BLOCK]))
    assert threading.active_count() == before


def test_a_block_may_take_the_calls_of_all_its_batches_and_retries():
    assert TASK.calls(BLOCK, 1) == 4
    assert (
        EditTask(
            StoreMetadata(),
            ("front", "wrist"),
        ).calls(BLOCK, 0)
        == 1
    )
