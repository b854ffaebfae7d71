from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spie_robo.commands import cores


def stat(*spent):
    """A /proc/stat whose cores spent these ticks: (user, nice, idle)."""
    lines = ["cpu 0 0 0 0 0 0 0 0"]
    lines += [f"cpu{i} {u} {n} 0 {idle} 0 0 0 0 0 0" for i, (u, n, idle) in enumerate(spent)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("spent", "free"),
    [
        ([(0, 0, 20), (0, 0, 20)], 2),
        ([(20, 0, 0), (0, 0, 20)], 1),
        ([(20, 0, 0), (20, 0, 0)], 1),
        ([(0, 20, 0), (0, 20, 0)], 1),  # others of low priority count too
        ([(0, 0, 20)] * 16, 16),
        ([(20, 0, 0)] * 12 + [(0, 0, 20)] * 4, 4),
    ],
)
def test_a_thread_for_each_idle_core(tmp_path: Path, monkeypatch, spent, free) -> None:
    ticks = iter([{i: [0] * 8 for i in range(len(spent))}, cores._ticks(_file(tmp_path, spent))])
    monkeypatch.setattr(cores, "_ticks", lambda: next(ticks))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(len(spent))))
    monkeypatch.setattr(cores, "_quota", lambda count: count)
    assert cores.free_cores(0) == free


def _file(folder: Path, spent) -> Path:
    file = folder / "stat"
    file.write_text(stat(*spent))
    return file


def test_a_container_has_no_more_cores_than_its_quota(tmp_path: Path, monkeypatch) -> None:
    for text, found in (("max 100000", 16), ("200000 100000", 2), ("50000 100000", 1)):
        (tmp_path / "cpu.max").write_text(text)
        assert cores._quota(16, tmp_path) == found
    (tmp_path / "cpu.max").unlink()
    assert cores._quota(16, tmp_path) == 16


def test_what_the_user_has_set_stays(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    given = {"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "ACTIVE"}
    environment = dict(given)
    cores.choose_threads(environment)
    assert environment == given


def test_a_command_computes_with_the_threads_that_were_chosen() -> None:
    code = (
        "import os, sys\n"
        "from spie_robo.commands import cores\n"
        "cores.free_cores = lambda: 1\n"
        "cores.choose_threads()\n"
        "import torch\n"
        "print(torch.get_num_threads(), os.environ['OMP_WAIT_POLICY'])\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
    command = [sys.executable, "-c", code]
    # Not in the repository, where spie_robo lacks the rooms that lie at the top level.
    answer = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment, cwd="/"
    )
    assert answer.stdout.split() == ["1", "PASSIVE"]
