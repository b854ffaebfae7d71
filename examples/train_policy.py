"""From demonstrations to a policy: record, convert, train, evaluate.

    python examples/train_policy.py --out policy_run --episodes 50 --steps 2000

The policy sees raw and edited frames half and half, so that it works in both looks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from spie_robo.commands.convert import ConvertCommand, convert
from spie_robo.commands.policy_evaluate import run_policy_evaluation
from spie_robo.commands.record import RecordCommand, record
from spie_robo.editing.request import EditRequest
from spie_robo.policies.config import PolicyEvaluateConfig, PolicyTrainConfig
from spie_robo.policies.training import train_policy


def main(
    out: Path = Path("policy_run"),
    env_id: str = "SpieRobo/Reach-v0",
    algorithm: Literal["bc", "diffusion"] = "bc",
    episodes: int = 50,
    steps: int = 2000,
    batch_size: int = 64,
    trials: int | None = None,
    max_steps: int | None = None,
) -> None:
    """Train a policy on raw and edited frames, and evaluate it on both.

    Args:
        out: Folder for the stores, the policy and the results.
        env_id: An environment with a scripted expert.
        algorithm: Behaviour cloning or Diffusion Policy.
        episodes: Demonstrations.
        steps: Optimiser steps.
        batch_size: Windows of a step.
        trials: Episodes to evaluate on, in each look; None: as many as there are demonstrations.
        max_steps: Length of all episodes at most.
    """
    raw, edited, policy = out / "raw.zarr", out / "edited.zarr", out / "policy"
    look = EditRequest(editor="embedded")  # or the folder that train_on_lab_photos.py writes

    # 1. Demonstrations of the scripted expert, as the simulator shows them.
    # If this is interrupted, run it again: what is finished is kept, the rest goes on.
    if not raw.exists():
        record(RecordCommand(env=env_id, episodes=episodes, out=raw, max_steps=max_steps))

    # 2. The same demonstrations in the look of a lab.
    print(f"{convert(ConvertCommand(source=raw, out=edited, edit=look))}.")

    # 3. A policy that sees both, half and half.
    settings = PolicyTrainConfig(
        (raw, edited), policy, algorithm, weights=(0.5, 0.5), steps=steps, batch_size=batch_size,
        resume=policy.exists(),
    )  # fmt: skip
    print(f"{train_policy(settings)}.")

    # 4. How often does it solve the task, in episodes that nobody demonstrated?
    for name, edit in (("raw", EditRequest(editor=None)), ("edited", look)):
        trial = PolicyEvaluateConfig(
            policy=policy,
            env=env_id,
            episodes=episodes if trials is None else trials,
            max_steps=max_steps,
            edit=EditRequest(editor=edit.editor, seed=10_000),
            json=out / f"{name}.json",
        )
        print(f"{name} frames: {run_policy_evaluation(trial)}.")


if __name__ == "__main__":
    tyro.cli(main)
