"""``spie-robo policy evaluate``: from names and numbers to a policy, an environment, a result."""

from __future__ import annotations

import dataclasses
from typing import Any

from spie_robo.errors import ConfigError
from spie_robo.files.output import require_place
from spie_robo.policies.checkpoint import CONFIG, WEIGHTS
from spie_robo.policies.config import PolicyEvaluateConfig
from spie_robo.policies.evaluate import EvaluationResult, evaluate_policy, write_result
from spie_robo.policies.policy import load_policy
from spie_robo.recording import load_edit_setup, make_env


def run_policy_evaluation(
    config: PolicyEvaluateConfig, *, progress: bool = True
) -> EvaluationResult:
    """Evaluate a policy as ``config`` says, and write the file that it names.

    Raises:
        ConfigError: If there is no policy, or the file cannot be written or is one of the policy's.
        TrainingError: If the policy's files are damaged.
        EnvError: If the environment cannot be made, or the policy is of another one.
        EditorError: If there is no such editor, or it fails.
    """
    if config.json is not None:
        require_place(config.json)
        own = [(config.policy / name).resolve() for name in (CONFIG, WEIGHTS)]
        if config.json.resolve() in own:
            raise ConfigError(f"--json {config.json}: expected another file than the policy's own.")
    policy = load_policy(config.policy)
    setup = load_edit_setup(config.edit)
    env = make_env(config.env, setup, config.image_size)
    try:
        result = evaluate_policy(
            policy,
            env,
            config.episodes,
            config.edit.seed,
            max_steps=config.max_steps,
            other_env=config.other_env,
            progress=progress,
        )
    finally:
        env.close()
    if config.json is not None:
        settings: dict[str, Any] = {
            "policy": str(config.policy),
            "env": config.env,
            "editor": None if setup.editor is None else setup.editor.id,
            "instruction": setup.metadata.instruction,
            "edits": dict(setup.metadata.provenance),
            "seed": config.edit.seed,
            "max_steps": config.max_steps,
            "image_size": config.image_size,
            "spec": dataclasses.asdict(policy.spec),
        }
        write_result(config.json, result, settings)
    return result
