from __future__ import annotations

import threading

import pytest

from spie_robo.data.conversion.streams import READ_AHEAD, read_ahead


def test_items_come_in_order_made_in_one_other_thread_and_a_few_ahead():
    threads, made = set(), []

    def items():
        for number in range(20):
            threads.add(threading.get_ident())
            made.append(number)
            yield number

    seen = []
    for number in read_ahead(items()):
        seen.append(number)
        assert len(made) <= number + 1 + READ_AHEAD + 1
    assert seen == list(range(20))
    assert len(threads) == 1 and threads != {threading.get_ident()}


def test_the_next_item_is_made_while_this_one_is_used():
    second = threading.Event()

    def items():
        yield 1
        second.set()
        yield 2

    reading = read_ahead(items())
    assert next(reading) == 1
    assert second.wait(timeout=30)
    reading.close()


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield from range(READ_AHEAD + 3)
        raise OSError("the disk is gone")

    seen = []
    with pytest.raises(OSError, match="the disk is gone"):
        for item in read_ahead(items()):
            seen.append(item)
    assert seen == list(range(READ_AHEAD + 3))


def test_closing_makes_no_more_and_leaves_no_thread():
    made = []
    before = threading.active_count()
    reading = read_ahead(made.append(n) or n for n in range(1000))
    assert next(reading) == 0
    reading.close()
    count = len(made)
    assert count <= READ_AHEAD + 3 and threading.active_count() == before
    assert next(iter(reading), None) is None and len(made) == count
