"""``spie-robo policy evaluate`` and the file that it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spie_robo.commands.policy_evaluate import run_policy_evaluation
from spie_robo.editing.request import EditRequest
from spie_robo.policies.base import PolicySpec, build_policy
from spie_robo.policies.checkpoint import save_policy
from spie_robo.policies.config import PolicyEvaluateConfig


def test_the_file_of_a_result_says_what_it_depends_on(tmp_path: Path) -> None:
    spec = PolicySpec("bc", ("front",), ("state",), 14, 4, horizon=4, action_steps=4, width=8)
    save_policy(tmp_path / "p", build_policy(spec))

    def evaluated(**edit: Any) -> dict[str, Any]:
        config = PolicyEvaluateConfig(
            policy=tmp_path / "p",
            env="SpieRobo/Reach-v0",
            episodes=1,
            json=tmp_path / "result.json",
            max_steps=1,
            image_size=32,
            edit=EditRequest(seed=7, **edit),
        )
        run_policy_evaluation(config, progress=False)
        found: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
        return found

    guarded = evaluated(editor="embedded", retries=2)
    unguarded = evaluated(editor="embedded", guard=False, instruction="a lab")
    assert guarded["editor"] == unguarded["editor"] and guarded["seed"] == unguarded["seed"] == 7
    assert guarded["instruction"] and unguarded["instruction"] == "a lab"
    assert guarded["edits"]["retries"] == 2 and "guard" in guarded["edits"]
    assert "guard" not in unguarded["edits"]
    raw = evaluated(editor=None)
    assert raw["editor"] is None and raw["instruction"] == "" and "guard" not in raw["edits"]
