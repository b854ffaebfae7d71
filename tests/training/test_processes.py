"""Two processes on a CPU do what one does."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spie_robo.files.run_folder import LOGS

SCRIPT = Path(__file__).with_name("processes.py")
# --multi_gpu is accelerate's word for processes that talk to each other; with --cpu it starts one
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1",
          "--num_processes", "2", "--mixed_precision", "no", "--dynamo_backend", "no",
          "--main_process_port", "0"]  # fmt: skip


def launch(*words: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*LAUNCH, *words], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_do_what_one_does(base_folder, photo_folder, frame_folder, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    launch(str(SCRIPT), str(tmp_path), str(two))
    runpy.run_path(str(SCRIPT))["run_all"](tmp_path, one)
    for objective in ("spie", "nft"):
        assert_equal_epochs(one, two, objective)
    assert_equal_runs(one / "lab", two / "lab")


def assert_equal_epochs(one: Path, two: Path, objective: str) -> None:
    rows = [json.loads((out / f"{objective}.json").read_text()) for out in (one, two)]
    assert [row.pop("processes") for row in rows] == [1, 2]
    assert rows[0].keys() == rows[1].keys() and rows[0]["unscorable"] > 0
    for name, value in rows[0].items():
        if not name.startswith("seconds"):
            assert rows[1][name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
    found, expected = (load_file(out / f"{objective}.safetensors") for out in (two, one))
    assert found.keys() == expected.keys()
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    assert scale > 1e-3
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4 * scale, rtol=1e-3)


def assert_equal_runs(one: Path, two: Path) -> None:
    """The processes leave one whole adapter, not two halves."""
    files = [{str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
             for out in (one, two)]  # fmt: skip
    names = [{name for name in found if "tfevents" not in name} for found in files]
    assert names[0] == names[1] and not any(name.endswith(".partial") for name in names[1])
    assert len(files[1]) == len(names[1]) + 1  # one process keeps the log
    histories = [json.loads((out / LOGS / "history.json").read_text()) for out in (one, two)]
    assert len(histories[0]) == len(histories[1]) == 3
    for row, other in zip(*histories, strict=True):
        assert other["preview_semantic"] == pytest.approx(row["preview_semantic"], abs=1e-3)
