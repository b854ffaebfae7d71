from __future__ import annotations

import os

import numpy as np
import pytest

from spie_robo.data.store.row_spool import RowSpool
from spie_robo.errors import StoreError


def rows(count):
    rng = np.random.default_rng(0)
    return [
        {
            "frame": rng.integers(0, 256, (8, 8, 3), np.uint8),
            "depth": rng.normal(size=(8, 8)).astype(np.float32),
            "reward": np.array(step, np.float32),
            "success": np.array(step % 2 == 0),
        }
        for step in range(count)
    ]


@pytest.mark.parametrize("block_bytes", [1, 1000, 2**20])
def test_rows_come_back_in_order_and_to_the_bit(tmp_path, block_bytes):
    spool = RowSpool(tmp_path, block_bytes)
    expected = rows(7)
    for row in expected:
        spool.append(row)
    blocks = list(spool.blocks())
    for key in expected[0]:
        got = np.concatenate([block[key] for block in blocks])
        assert got.dtype == expected[0][key].dtype
        np.testing.assert_array_equal(got, [row[key] for row in expected])
    assert bool(spool)
    spool.clear()
    assert not spool and list(spool.blocks()) == []


def test_the_file_has_no_name_and_goes_with_the_rows(tmp_path):
    spool = RowSpool(tmp_path, 1)
    for row in rows(3):
        spool.append(row)
    assert list(tmp_path.iterdir()) == []
    descriptors = len(os.listdir("/proc/self/fd"))
    spool.clear()
    assert len(os.listdir("/proc/self/fd")) == descriptors - 1
    spool.append(rows(1)[0])
    assert len(next(spool.blocks())["reward"]) == 1


@pytest.mark.parametrize("change", ["shape", "type", "missing", "new"])
def test_a_row_that_is_not_like_the_first_is_refused_by_name(tmp_path, change):
    spool = RowSpool(tmp_path, 1)
    first, second = rows(2)
    spool.append(first)
    if change == "shape":
        second["depth"] = second["depth"][:4]
    elif change == "type":
        second["depth"] = second["depth"].astype(np.float64)
    elif change == "missing":
        del second["depth"]
    else:
        second["depth2"] = second["depth"]
    with pytest.raises(StoreError, match="depth"):
        spool.append(second)


def test_a_folder_that_cannot_be_written_is_an_error_by_name(tmp_path):
    spool = RowSpool(tmp_path / "missing", 1)
    with pytest.raises(StoreError, match="Cannot write"):
        spool.append(rows(1)[0])
