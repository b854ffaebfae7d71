from __future__ import annotations

import threading
from functools import partial

import pytest

from spie_robo.data.store.durable import DISK_THREADS, at_once


def test_works_wait_for_each_other_and_are_all_done():
    together = threading.Barrier(DISK_THREADS, timeout=30)
    done = []
    at_once(partial(lambda i: done.append((together.wait(), i)), i) for i in range(DISK_THREADS))
    assert sorted(i for _, i in done) == list(range(DISK_THREADS))


def test_the_first_error_is_raised_when_every_work_is_over():
    over = threading.Event()

    def fail(message):
        raise ValueError(message)

    with pytest.raises(ValueError, match="first"):
        at_once([partial(fail, "first"), partial(fail, "second"), lambda: over.wait(0.1), over.set])
    assert over.is_set()
