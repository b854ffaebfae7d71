"""Acting, evaluating, and the commands that do both."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from spie_robo import cli
from spie_robo.commands.acting import RandomPolicy
from spie_robo.commands.record import RecordCommand, record
from spie_robo.data import EpisodeStore
from spie_robo.errors import ConfigError, EnvError, TrainingError
from spie_robo.policies.base import PolicySpec, build_policy
from spie_robo.policies.checkpoint import save_policy
from spie_robo.policies.config import PolicyEvaluateConfig, PolicyTrainConfig
from spie_robo.policies.evaluate import (
    EpisodeOutcome,
    EvaluationResult,
    evaluate_policy,
    wilson_interval,
    write_result,
)
from spie_robo.policies.policy import ActingPolicy, load_policy
from spie_robo.policies.training import PolicyTrainer, train_policy
from spie_robo.types import PolicyLike

ENV_ID = "PolicyTests/Columns-v0"


class Columns(gym.Env):
    """The brightest column says what to do; solved by three good actions."""

    def __init__(self, width: int = 20, height: int = 20, says: bool = True) -> None:
        image = gym.spaces.Box(0, 255, (height, width, 3), np.uint8)
        self.observation_space = gym.spaces.Dict(
            front=image, wrist=image, state=gym.spaces.Box(-9, 9, (3,))
        )
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self._size, self._says = (height, width), says

    def _observe(self) -> dict[str, Any]:
        self._wanted = float(self.np_random.uniform(-1, 1))
        image = np.zeros((*self._size, 3), np.uint8)
        image[:, round((self._wanted + 1) / 2 * (self._size[1] - 1))] = 250
        return {"front": image, "wrist": 255 - image, "state": np.zeros(3, np.float32)}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self._good, self._steps = 0, 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        self._good += abs(float(action[0]) - self._wanted) < 0.25
        self._steps += 1
        info = {"success": self._good >= 3} if self._says else {}
        return self._observe(), 1.0, False, self._steps >= 6, info


@pytest.fixture(autouse=True)
def registered() -> Any:
    gym.register(ENV_ID, Columns)
    yield
    gym.registry.pop(ENV_ID)


def acting(**changes: Any) -> ActingPolicy:
    settings = {"cameras": ("front",), "state_keys": ("state",), "state_dim": 3, "action_dim": 2}
    sizes = {"horizon": 6, "action_steps": 3, "image_size": 16, "width": 8, "hidden": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        spec = PolicySpec(**{"algorithm": "bc", **settings, **sizes, **changes})
        return ActingPolicy(build_policy(spec), "p")


def observations(count: int) -> list[dict[str, Any]]:
    env = Columns()
    return [env.reset(seed=0)[0], *(env.step(np.zeros(2))[0] for _ in range(count - 1))]


def test_satisfies_the_protocol() -> None:
    assert isinstance(acting(), PolicyLike)


def test_executes_its_chunk_before_it_looks_again() -> None:
    policy, seen = acting(), observations(7)
    needs, actions = [], []
    for observation in seen:
        needs.append(policy.needs_observation)
        actions.append(policy.act(observation if policy.needs_observation else {}))
    assert needs == [True, False, False, True, False, False, True]
    assert actions[0].shape == (2,) and actions[0].dtype == np.float32
    policy.reset()
    np.testing.assert_array_equal(policy.act(seen[3]), actions[3])


def test_history_is_padded_with_the_first_observation_and_then_the_newest() -> None:
    policy, seen = acting(observation_horizon=2, horizon=4, action_steps=3), observations(5)
    windows: list[tuple[torch.Tensor, torch.Tensor]] = []
    network = policy._policy
    original = network.act_chunk

    def spy(images: Any, state: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        windows.append((images["front"].clone(), state))
        return original(images, state, generator)

    network.act_chunk = spy  # type: ignore[method-assign]
    needs = []
    for observation in seen:
        needs.append(policy.needs_observation)
        policy.act(observation if policy.needs_observation else {})
    assert needs == [True, False, True, True, False]
    first, second = windows[0][0][0], windows[1][0][0]
    assert torch.equal(first[0], first[1])
    from spie_robo.policies.cache import resize_frames

    np.testing.assert_array_equal(second[0], resize_frames(seen[2]["front"], 16))
    np.testing.assert_array_equal(second[1], resize_frames(seen[3]["front"], 16))


def test_seeds_of_episodes_decide_what_a_diffusion_policy_does() -> None:
    policy, observation = acting(algorithm="diffusion"), observations(1)[0]

    def act(seed: int) -> np.ndarray:
        policy.reset(seed=seed)
        return policy.act(observation)

    np.testing.assert_array_equal(act(1), act(1))
    assert not np.array_equal(act(1), act(2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cameras": ("side",)}, r"needs the camera 'side' \(as in Other-v0\).*'front', 'wrist'"),
        ({"state_keys": ("joints",)}, "needs 'joints'"),
        ({"state_dim": 4}, "a state of 4 numbers .* got 3"),
    ],
)
def test_another_env_is_named(changes: dict[str, Any], message: str) -> None:
    policy = acting(env_id="Other-v0", **changes)
    with pytest.raises(EnvError, match=message):
        policy.act(observations(1)[0])


def test_other_actions_are_found_before_the_first_step() -> None:
    with pytest.raises(EnvError, match="gives 5 numbers an action"):
        evaluate_policy(acting(action_dim=5), Columns(), 1, progress=False)


@pytest.mark.parametrize("space", [gym.spaces.Discrete(2), gym.spaces.Box(-1, 1, (1, 2))])
def test_actions_that_are_no_flat_box_are_found_before_the_first_step(space: Any) -> None:
    env = Columns()
    env.action_space = space
    with pytest.raises(EnvError, match="numbers an action"):
        evaluate_policy(acting(action_dim=space.shape[-1] if space.shape else 1), env, 1)


def test_a_reward_that_is_not_finite_does_not_lose_the_result(tmp_path: Path) -> None:
    episodes = (EpisodeOutcome(0, True, 3, math.inf), EpisodeOutcome(1, False, 4, 1.5))
    write_result(tmp_path / "r.json", EvaluationResult(episodes), {})
    found = json.loads((tmp_path / "r.json").read_text())
    assert [episode["reward"] for episode in found["episodes"]] == [None, 1.5]


def test_evaluation_counts_solved_episodes_by_seed() -> None:
    env = Columns()

    class Oracle:
        def reset(self, seed: int | None = None) -> None:
            self.good = seed is not None and seed % 2 == 0

        def act(self, observation: Any) -> np.ndarray:
            wanted = env._wanted if self.good else env._wanted + 9
            return np.array([wanted, 0], np.float32)

    seen: list[int] = []
    result = evaluate_policy(
        Oracle(), env, 5, seed=10, on_episode=lambda o: seen.append(o.seed), progress=False
    )
    assert [e.success for e in result.episodes] == [True, False, True, False, True]
    assert seen == [10, 11, 12, 13, 14]
    assert (result.success_rate, result.episodes[0].steps, result.episodes[0].reward) == (0.6, 6, 6)
    assert result.interval == wilson_interval(3, 5)
    cut = evaluate_policy(Oracle(), env, 1, seed=10, max_steps=2, progress=False)
    assert (cut.episodes[0].steps, cut.successes) == (2, 0)


def test_equal_seeds_give_equal_results() -> None:
    def rewards(seed: int) -> Any:
        env = Columns()
        return evaluate_policy(RandomPolicy(env.action_space), env, 4, seed, progress=False)

    assert rewards(3) == rewards(3)


def test_test_episodes_are_not_the_first_demonstrations() -> None:
    """A seed is a whole scene, and ``record`` numbers its episodes from 0."""
    env = Columns()
    by_default = evaluate_policy(RandomPolicy(env.action_space), env, 2, progress=False)
    seeds = [outcome.seed for outcome in by_default.episodes]
    asked = PolicyEvaluateConfig("policy", ENV_ID, 2).edit.seed
    assert seeds == [asked, asked + 1] and asked >= 1_000_000


def test_numbers_that_are_not_finite_are_not_acted_on() -> None:
    policy = acting()
    seen = observations(1)[0]
    with pytest.raises(EnvError, match="expected finite numbers in state"):
        policy.act(seen | {"state": np.array([0, np.nan, 0])})
    with torch.no_grad():
        next(policy._policy.parameters()).fill_(torch.nan)
    policy.reset(seed=0)
    with pytest.raises(TrainingError, match=r"p: its actions are not finite.*--learning-rate"):
        policy.act(seen)


def test_the_next_command_names_a_store_beside_the_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "push_v0.5"
    save_policy(out, acting()._policy)
    monkeypatch.chdir(out)
    for folder, store in (
        (".", f"{out}.zarr"),
        (str(out), f"{out}.zarr"),
        ("../push_v0.5", "../push_v0.5.zarr"),
    ):
        line = f"policy evaluate {folder} --env {ENV_ID} --episodes 1 --max-steps 1"
        assert cli.main(line.split()) == 0
        assert capsys.readouterr().out.strip().endswith(f"--policy {folder} --out {store}")
    assert cli.main([*line.split(), "--other-env"]) == 0
    assert " --other-env --out " in capsys.readouterr().out


def test_an_interrupt_says_what_is_there(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    write_store: Callable[..., Path],
) -> None:
    store, out, cut = write_store(), tmp_path / "p", [0]
    original = PolicyTrainer.step

    def interrupted(trainer: PolicyTrainer) -> dict[str, float]:
        if trainer.progress.step == cut[0]:
            raise KeyboardInterrupt
        return original(trainer)

    monkeypatch.setattr(PolicyTrainer, "step", interrupted)
    file = tmp_path / "c.yaml"
    file.write_text("checkpoint_every: 2\nimage_size: 16\n")
    line = f"policy train {store} --out {out} --config {file} --steps 9 --batch-size 2 --resume"
    for step, message in ((1, "holds no checkpoint yet"), (3, "run it again with --resume")):
        cut[0] = step
        assert cli.main(line.split()) == 130
        assert message in capsys.readouterr().err


def test_evaluation_needs_an_env_that_says_success() -> None:
    env = Columns(says=False)
    with pytest.raises(EnvError, match="expected info"):
        evaluate_policy(RandomPolicy(env.action_space), env, 1, progress=False)
    with pytest.raises(ConfigError, match="1 or more"):
        evaluate_policy(RandomPolicy(env.action_space), env, 0, progress=False)


class LastStepSays(gym.Wrapper):
    """``is_success`` comes with the last step alone; rewards are arrays of one number."""

    def step(self, action: np.ndarray) -> tuple[Any, Any, bool, bool, dict]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        said = {"is_success": np.array([info["success"]])} if truncated else {}
        return observation, np.array([reward]), terminated, truncated, said


def test_success_that_only_the_last_step_says_is_counted_and_shaped_rewards_are_summed() -> None:
    plain, late = Columns(), LastStepSays(Columns())
    one = evaluate_policy(RandomPolicy(plain.action_space), plain, 30, 100, progress=False)
    other = evaluate_policy(RandomPolicy(plain.action_space), late, 30, 100, progress=False)
    assert one.successes == other.successes > 0
    assert [e.reward for e in other.episodes] == [e.reward for e in one.episodes] == [6.0] * 30


def test_an_env_of_choices_is_not_called_another_environment() -> None:
    env = Columns()
    env.action_space = gym.spaces.Discrete(4)
    with pytest.raises(EnvError, match="takes choices: Discrete"):
        evaluate_policy(acting(action_dim=1), env, 1, progress=False)


def test_wilson_interval_against_published_values() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    for successes, trials, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = wilson_interval(successes, trials)
        assert found == pytest.approx((low, high), abs=1e-4)
    with pytest.raises(ConfigError):
        wilson_interval(2, 1)


class ColumnExpert:
    """Reads the column out of the image, as the policy must learn to."""

    def reset(self, seed: int | None = None) -> None: ...

    def act(self, observation: Any) -> np.ndarray:
        column = int(observation["front"][0, :, 0].argmax())
        return np.array([2 * column / 19 - 1, 0.5], np.float32)


@pytest.mark.slow
def test_behaviour_cloning_solves_what_it_was_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands from end to end: demonstrations, training, evaluation, recording."""
    from spie_robo.commands import acting as commands_acting

    store, out, file = tmp_path / "demo.zarr", tmp_path / "policy", tmp_path / "result.json"
    with monkeypatch.context() as patch:
        patch.setattr(commands_acting, "make_policy", lambda *_, **__: ColumnExpert())
        record(RecordCommand(ENV_ID, 15, store), progress=False)
    line = f"policy train {store} --out {out} --camera front --steps 200 --action-steps 1"
    line += " --shift 0 --batch-size 32 --image-size 20 --learning-rate 3e-3 --threads 1"
    assert cli.main(line.split()) == 0
    assert f"policy evaluate {out} --env {ENV_ID}" in capsys.readouterr().out
    line = f"policy evaluate {out} --env {ENV_ID} --episodes 10 --seed 100 --json {file}"
    assert cli.main(line.split()) == 0
    assert "of 10 episodes solved" in capsys.readouterr().out
    result = json.loads(file.read_text())
    untrained = evaluate_policy(acting(), Columns(), 10, 100, progress=False)
    assert result["success_rate"] >= 0.9 > untrained.success_rate
    assert result["episodes"][0]["seed"] == 100 and result["spec"]["cameras"] == ["front"]
    mine = tmp_path / "mine.zarr"
    record(RecordCommand(ENV_ID, 2, mine, policy=str(out)), progress=False)
    rows = EpisodeStore.open(mine)[0]
    policy = load_policy(out)
    policy.reset(seed=0)
    seen = {"front": rows["front_rgb"][0], "state": rows["state"][0]}
    np.testing.assert_array_equal(policy.act(seen), rows["action"][0])


def test_a_policy_of_another_task_is_refused_although_its_spaces_are_the_same() -> None:
    env = gym.make(ENV_ID)
    acting(env_id=ENV_ID).check_env(env)
    acting().check_env(env)  # of a store that names no environment
    other = acting(env_id="SpieRobo/Reach-v0")
    with pytest.raises(EnvError, match=f"learnt in SpieRobo/Reach-v0, this is {ENV_ID}"):
        other.check_env(env)
    with pytest.raises(EnvError, match="--other-env"):
        evaluate_policy(other, env, 1, progress=False)
    result = evaluate_policy(other, env, 1, max_steps=1, other_env=True, progress=False)
    assert len(result.episodes) == 1
    env.close()


def test_commands_name_mistakes_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], train_config: Callable[..., Any]
) -> None:
    out = tmp_path / "p"
    save_policy(out, acting(action_dim=5)._policy)
    lines = {
        f"policy evaluate {tmp_path} --env {ENV_ID} --episodes 1": "expected the folder",
        f"policy evaluate {out} --env {ENV_ID} --episodes 1": "policy of another environment",
        f"policy evaluate {out} --env None-v0 --episodes 1": "cannot be made",
        f"policy train {tmp_path / 'no.zarr'} --out {tmp_path / 'q'}": "found nothing",
        f"policy evaluate {out} --env E --episodes 1 --json {tmp_path}": "this is a folder",
        f"policy evaluate {out} --env E --episodes 1 --json {out}/config.json": "policy's own",
        "policy trian": "Did you mean 'policy train'?",
        "polcy": "Did you mean 'policy'?",
        f"record --env {ENV_ID} --episodes 1 --out {tmp_path / 's'} --policy {out}": "another env",
    }
    for line, message in lines.items():
        assert cli.main(line.split()) == 2
        error = capsys.readouterr().err.strip()
        assert len(error.splitlines()) == 1 and message in error
    assert not (tmp_path / "q").exists() and not (tmp_path / "s").exists()
    weights = out / "policy.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(TrainingError):
        load_policy(out)


def test_help_of_the_group_and_of_its_commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    wanted = {
        "policy": ["policy train", "policy evaluate"],
        "policy --help": ["policy train", "policy evaluate"],
        "policy train --help": ["STORE", "--out", "--algorithm", "--camera", "--resume"],
        "policy evaluate --help": ["DIR", "--env", "--episodes", "--seed", "--json", "--editor"],
    }
    for line, words in wanted.items():
        assert cli.main(line.split()) == 0
        text = capsys.readouterr().out
        assert all(word in text for word in words)
        assert len(text.splitlines()) <= 60


def test_training_file_and_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spie_robo.commands import registry
    from spie_robo.commands.base import Command

    file, seen = tmp_path / "c.yaml", []
    file.write_text("stores: [a.zarr, b.zarr]\nweights: [1.0, 3]\nsteps: 7\n")
    old = registry.COMMANDS["policy train"]
    new = Command(old.settings, lambda o: seen.append(o) or 0, "", old.kept)
    monkeypatch.setitem(registry.COMMANDS, "policy train", new)
    assert cli.main(["policy", "train", "--config", str(file), "--out", "o", "--steps", "9"]) == 0
    expected = PolicyTrainConfig(
        (Path("a.zarr"), Path("b.zarr")), Path("o"), weights=(1.0, 3.0), steps=9
    )
    assert seen == [expected]


def test_importing_the_package_and_its_settings_is_light(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys, spie_robo.policies, spie_robo.policies.config; "
    code += "assert not {'torch', 'zarr', 'cv2', 'diffusers'} & set(sys.modules)"
    # Elsewhere: in the repository's root its own folders would stand before what is installed.
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert callable(train_policy)
