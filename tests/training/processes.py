"""An epoch of each objective and a whole run, in as many processes as start it.

``python processes.py FOLDER OUT``, under ``accelerate launch``; FOLDER holds ``base``, ``photos``
and ``frames``. The first process leaves gradients and metrics in OUT.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.training.run import post_train

TINY = runpy.run_path(str(Path(__file__).with_name("tiny.py")))


def run_epochs(base: Path, out: Path, objective: str) -> None:
    """Save the gradients of an epoch with unscorable inputs, and the metrics of the next."""
    config = TINY["settings"](objective=objective)
    feedback = TINY["ColourFeedback"](["0", "1"])
    # In double precision what batches round differently does not hide what processes do.
    pipeline = SpiePipeline.from_pretrained(base, dtype=torch.float64)
    trainer = TINY["trainer"](pipeline, config, feedback=feedback)
    TINY["nudge"](trainer.policy)
    found = TINY["gradients"](trainer)
    row, _ = trainer.run_epoch(1)
    accelerator = trainer._accelerator
    sums = [p.detach().double().sum() for p in trainer.policy.parameters().values()]
    gathered = accelerator.gather(torch.stack(sums)).view(accelerator.num_processes, -1)
    assert torch.equal(gathered, gathered[:1].expand_as(gathered)), "the processes drifted apart"
    if accelerator.is_main_process:
        save_file(found, out / f"{objective}.safetensors")
        row["processes"] = accelerator.num_processes
        (out / f"{objective}.json").write_text(json.dumps(row))


def run_all(folder: Path, out: Path) -> None:
    """Everything; the run goes to ``OUT/lab``."""
    out.mkdir(exist_ok=True)
    for objective in ("spie", "nft"):
        run_epochs(folder / "base", out, objective)
    config = TINY["settings"](
        editor=str(folder / "base"), epochs=2, objective="nft",
        rollout__inputs=2, optimizer__learning_rate=1e-4,
    )  # fmt: skip
    post_train(folder / "photos", folder / "frames", out / "lab", config, resume=False)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_all(Path(sys.argv[1]), Path(sys.argv[2]))
