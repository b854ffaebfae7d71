"""``spie-robo policy evaluate``: how often a policy solves its task, with an interval."""

from __future__ import annotations

import dataclasses
import shlex
from typing import TYPE_CHECKING, Any

from spie_robo.commands.base import Command, nothing_kept, quoted
from spie_robo.errors import ConfigError
from spie_robo.policies.config import PolicyEvaluateConfig

if TYPE_CHECKING:
    from spie_robo.policies.evaluate import EvaluationResult


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
    from spie_robo.commands.acting import make_env
    from spie_robo.data.recording import metadata_of
    from spie_robo.files.output import require_place
    from spie_robo.policies.checkpoint import CONFIG, WEIGHTS
    from spie_robo.policies.evaluate import evaluate_policy, write_result
    from spie_robo.policies.policy import load_policy

    # Refuse what cannot be written before the policy acts.
    if config.json is not None:
        require_place(config.json)
        own = [(config.policy / name).resolve() for name in (CONFIG, WEIGHTS)]
        if config.json.resolve() in own:
            raise ConfigError(f"--json {config.json}: expected another file than the policy's own.")
    policy = load_policy(config.policy)
    guarded = config.edit.load()
    env = make_env(config.env, guarded, config.image_size)
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
        metadata = metadata_of(guarded)
        settings: dict[str, Any] = {
            "policy": str(config.policy),
            "env": config.env,
            "editor": metadata.editor_id or None,
            "instruction": metadata.instruction,
            "edits": dict(metadata.provenance),
            "seed": config.edit.seed,
            "max_steps": config.max_steps,
            "image_size": config.image_size,
            "spec": dataclasses.asdict(policy.spec),
        }
        write_result(config.json, result, settings)
    return result


def _run(options: PolicyEvaluateConfig) -> int:
    """Print how often a policy solves its task."""
    result = run_policy_evaluation(options)
    written = "" if options.json is None else f" Written: {options.json}."
    print(f"{options.policy} in {options.env}: {result}; {options.edit}.{written}")
    folder = options.policy if options.policy.name not in ("", "..") else options.policy.resolve()
    out = folder.with_name(f"{folder.name}.zarr")
    command = f"spie-robo record --env {shlex.quote(options.env)} --episodes 5"
    other = " --other-env" if options.other_env else ""
    print(f"Next: {command} --policy {quoted(options.policy)}{other} --out {quoted(out)}")
    return 0


COMMAND = Command(
    PolicyEvaluateConfig, _run, "Say how often a policy solves its task.", nothing_kept
)
