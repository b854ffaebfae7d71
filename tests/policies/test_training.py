from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spie_robo.errors import ConfigError, StoreError, StoreLockedError, TrainingError
from spie_robo.files.lock import StoreLock
from spie_robo.policies import training
from spie_robo.policies.behaviour_cloning import BehaviourCloning
from spie_robo.policies.checkpoint import read_policy, steps_folder
from spie_robo.policies.config import PolicyTrainConfig
from spie_robo.policies.training import (
    PolicyTrainer,
    build_new_policy,
    learning_rate,
    open_dataset,
    train_policy,
)
from spie_robo.settings.yaml_files import read_values

Build = Callable[..., PolicyTrainConfig]


def partly(config: PolicyTrainConfig, until: int) -> None:
    """The first steps of a run that is then cut off."""
    data = open_dataset(config)
    PolicyTrainer(build_new_policy(config, data), data, config).run(until, show=False)


@pytest.mark.parametrize("algorithm", ["bc", "diffusion"])
def test_two_and_resume_and_two_equal_four_bit_for_bit(
    algorithm: str, write_store: Callable[..., Path], train_config: Build, tmp_path: Path
) -> None:
    store = write_store()
    config = train_config(store, algorithm=algorithm, out=tmp_path / "whole", color=0.1)
    train_policy(config, progress=False)
    cut = dataclasses.replace(config, out=tmp_path / "cut")
    partly(cut, 2)
    assert not (cut.out / "config.json").exists()
    done = train_policy(dataclasses.replace(cut, resume=True), progress=False)
    assert (done.steps, done.skipped) == (4, 0)
    for file in ("policy.safetensors", "checkpoints/step_0000004/state.safetensors"):
        expected, found = load_file(config.out / file), load_file(cut.out / file)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)
    other = dataclasses.replace(config, out=tmp_path / "other", seed=1)
    train_policy(other, progress=False)
    mine, theirs = (load_file(c.out / "policy.safetensors") for c in (config, other))
    assert not all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_two_checkpoints_are_kept_and_a_finished_run_resumes_to_itself(
    write_store: Callable[..., Path], train_config: Build
) -> None:
    config = train_config(write_store(), steps=5, checkpoint_every=1)
    train_policy(config, progress=False)
    assert [p.name for p in steps_folder(config.out).checkpoints()] == [
        "step_0000004",
        "step_0000005",
    ]
    before = (config.out / "policy.safetensors").read_bytes()
    assert list((config.out / "logs").glob("events*"))
    again = train_policy(dataclasses.replace(config, resume=True), progress=False)
    assert again.steps == 5
    assert (config.out / "policy.safetensors").read_bytes() == before


def test_what_is_left_of_a_checkpoint_that_was_being_deleted_goes(
    write_store: Callable[..., Path], train_config: Build
) -> None:
    config = train_config(write_store(), steps=2, checkpoint_every=2, resume=True)
    remains = config.out / "checkpoints" / "step_0000001"
    remains.mkdir(parents=True)
    train_policy(config, progress=False)
    assert [path.name for path in remains.parent.iterdir()] == ["step_0000002"]


def test_a_folder_is_never_overwritten_and_settings_stay(
    write_store: Callable[..., Path], train_config: Build, tmp_path: Path
) -> None:
    config = train_config(write_store())
    partly(config, 2)
    with pytest.raises(ConfigError, match="Go on with --resume"):
        train_policy(config, progress=False)
    changed = dataclasses.replace(config, resume=True, learning_rate=0.5)
    with pytest.raises(ConfigError, match=r"learning_rate was 0.001, is 0\.5"):
        train_policy(changed, progress=False)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match="expected a folder"):
        train_policy(dataclasses.replace(config, out=file), progress=False)


def test_a_broken_checkpoint_is_named(
    write_store: Callable[..., Path], train_config: Build
) -> None:
    config = train_config(write_store())
    partly(config, 2)
    state = config.out / "checkpoints" / "step_0000002" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(TrainingError, match=r"step_0000002 is broken .* Delete it"):
        train_policy(dataclasses.replace(config, resume=True), progress=False)
    assert not (config.out / "policy.safetensors").exists()


class NotFinite:
    """Makes the losses of some steps NaN."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
        original, self.calls = BehaviourCloning.chunk_loss, -1

        def chunk_loss(policy: BehaviourCloning, *arguments: torch.Tensor) -> object:
            self.calls += 1
            loss, metrics = original(policy, *arguments)
            return loss * (float("nan") if self.calls in steps else 1.0), metrics

        monkeypatch.setattr(BehaviourCloning, "chunk_loss", chunk_loss)


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(
    write_store: Callable[..., Path], train_config: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = train_config(write_store())
    data = open_dataset(config)
    trainer = PolicyTrainer(build_new_policy(config, data), data, config)
    NotFinite(monkeypatch, {1})
    trainer.step()
    before = {name: value.clone() for name, value in trainer.policy.state_dict().items()}
    trainer.step()
    assert (trainer.progress.step, trainer.progress.updates) == (2, 1)
    assert all(torch.equal(before[n], v) for n, v in trainer.policy.state_dict().items())
    trainer.step()
    assert (trainer.progress.updates, trainer.progress.skipped_in_a_row) == (2, 0)
    assert not all(torch.equal(before[n], v) for n, v in trainer.policy.state_dict().items())


def test_many_in_a_row_end_the_run(
    write_store: Callable[..., Path], train_config: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "MAX_SKIPPED", 3)
    NotFinite(monkeypatch, set(range(2, 9)))
    config = train_config(write_store(), steps=9)
    with pytest.raises(TrainingError, match=r"3 steps in a row changed nothing.*since step 2"):
        train_policy(config, progress=False)
    assert not (config.out / "policy.safetensors").exists()
    assert steps_folder(config.out).checkpoints()


def test_a_run_that_ends_in_such_steps_leaves_no_policy(
    write_store: Callable[..., Path], train_config: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    NotFinite(monkeypatch, {4, 5})
    config = train_config(write_store(), steps=6, checkpoint_every=1)
    with pytest.raises(TrainingError, match=r"last 2 steps in a row.*step 4.*lower --learning-ra"):
        train_policy(config, progress=False)
    assert not (config.out / "policy.safetensors").exists()
    assert [path.name for path in steps_folder(config.out).checkpoints()] == [
        "step_0000003",
        "step_0000004",
    ]


def test_a_resumed_run_needs_the_same_episodes(
    write_store: Callable[..., Path], train_config: Build
) -> None:
    config = train_config(write_store())
    partly(config, 2)
    shutil.rmtree(config.stores[0])
    write_store(first=5)  # as long as those before
    with pytest.raises(ConfigError, match="other settings: content was"):
        train_policy(dataclasses.replace(config, resume=True), progress=False)


def test_out_is_a_folder_of_its_own(
    write_store: Callable[..., Path], train_config: Build, tmp_path: Path
) -> None:
    store = write_store()
    before = sorted(path.name for path in store.iterdir())
    for resume in (False, True):
        with pytest.raises(ConfigError, match="this is one of the stores"):
            train_policy(train_config(store, out=store, resume=resume), progress=False)
        with pytest.raises(ConfigError, match=r"one of the stores, or in it: .*a\.zarr"):
            train_policy(train_config(store, out=store / "x", resume=resume), progress=False)
    assert sorted(path.name for path in store.iterdir()) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(ConfigError, match=r"an empty folder, found 'notes\.txt'"):
        train_policy(train_config(store, out=tmp_path / "mine"), progress=False)


def test_a_finished_policy_is_not_replaced_where_no_checkpoint_is_left(
    write_store: Callable[..., Path], train_config: Build
) -> None:
    config = train_config(write_store())
    train_policy(config, progress=False)
    shutil.rmtree(config.out / "checkpoints")
    before = (config.out / "policy.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="no whole checkpoint to resume"):
        train_policy(dataclasses.replace(config, resume=True, seed=7), progress=False)
    with pytest.raises(ConfigError, match="holds a finished result already"):
        train_policy(dataclasses.replace(config, seed=7), progress=False)
    assert (config.out / "policy.safetensors").read_bytes() == before


def test_a_run_cut_off_before_its_first_checkpoint_begins_again(
    write_store: Callable[..., Path], train_config: Build
) -> None:
    config = train_config(write_store(), resume=True)
    (config.out / "logs").mkdir(parents=True)
    assert train_policy(config, progress=False).steps == 4


def test_the_log_keeps_the_point_at_which_a_run_was_cut(
    write_store: Callable[..., Path], train_config: Build
) -> None:
    config = train_config(write_store(), steps=20, checkpoint_every=10)
    partly(config, 10)
    train_policy(dataclasses.replace(config, resume=True), progress=False)
    events = EventAccumulator(str(config.out / "logs")).Reload()
    assert [point.step for point in events.Scalars("learning_rate")] == [10, 20]


def test_a_summary_says_what_the_policy_sees(
    write_store: Callable[..., Path], train_config: Build
) -> None:
    done = train_policy(train_config(write_store(), steps=1), progress=False)
    assert "windows of front, wrist and a state of 3 numbers, loss" in str(done)


def test_a_bad_store_leaves_nothing_behind(
    write_store: Callable[..., Path], train_config: Build
) -> None:
    config = train_config(write_store(), camera=("side",))
    with pytest.raises(StoreError, match="'side'"):
        train_policy(config, progress=False)
    assert not config.out.exists()


def test_a_folder_that_cannot_be_written_is_an_error(
    write_store: Callable[..., Path], train_config: Build, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/run/logs: .* cannot be written .*another --out"):
        train_policy(train_config(write_store(), out=tmp_path / "file" / "run"), progress=False)


def test_two_runs_in_one_folder_are_refused(
    write_store: Callable[..., Path], train_config: Build
) -> None:
    config = train_config(write_store())
    with (
        StoreLock(config.out.resolve() / "logs" / "run"),
        pytest.raises(StoreLockedError, match=rf"written by process {os.getpid()}"),
    ):
        train_policy(config, progress=False)
    train_policy(config, progress=False)


def test_one_step_episodes_train(write_store: Callable[..., Path], train_config: Build) -> None:
    config = train_config(write_store(lengths=(1, 1, 1)), action_steps=1, steps=1)
    assert train_policy(config, progress=False).windows == 3


WRONG_SPECS: list[object] = [
    None, [], {"hidden": -1}, {"state_dim": "3"}, {"width": 32.0}, {"width": 3}, {"image_size": 0},
    {"denoising_steps": 0}, {"cameras": "front"}, {"state_keys": [1]}, {"env_id": None},
    {"action_steps": True}, {"algorithm": "ppo"}, {"depth": 3},
]  # fmt: skip


def test_damaged_policies_are_named(
    write_store: Callable[..., Path], train_config: Build, tmp_path: Path
) -> None:
    config = train_config(write_store())
    train_policy(config, progress=False)
    read_policy(config.out)
    weights, about = config.out / "policy.safetensors", config.out / "config.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    with pytest.raises(TrainingError, match=r"policy\.safetensors: it is damaged"):
        read_policy(config.out)
    weights.write_bytes(whole)
    record = json.loads(about.read_text())
    record["spec"]["hidden"] = 64
    about.write_text(json.dumps(record))
    with pytest.raises(TrainingError, match="do not fit"):
        read_policy(config.out)
    for changed in WRONG_SPECS:
        wrong = record["spec"] | changed if isinstance(changed, dict) else changed
        about.write_text(json.dumps(record | {"spec": wrong}))
        with pytest.raises(TrainingError, match="no policy's"):
            read_policy(config.out)
    about.write_text('{"format": "other"}')
    with pytest.raises(TrainingError, match="no policy's"):
        read_policy(config.out)
    os.truncate(about, 2**40)
    with pytest.raises(TrainingError, match=f"no policy's .{2**40} bytes"):
        read_policy(config.out)
    with pytest.raises(ConfigError, match="expected the folder of a policy"):
        read_policy(tmp_path)


def test_learning_rate_warms_up_and_ends_at_zero() -> None:
    config = PolicyTrainConfig((Path("s"),), Path("o"), steps=1000, learning_rate=1.0)
    rates = [learning_rate(config, step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01) and rates[-1] < 1e-5
    assert max(rates) == rates[99] > 0.95


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps: expected 1"),
        ({"image_size": 8}, "image_size: expected 16"),
        ({"learning_rate": float("nan")}, "learning_rate: expected above 0"),
        ({"learning_rate": 1e38}, "at most 1, got 1e\\+38"),
        ({"seed": 10**20}, "seed: expected 9007199254740992 or less"),
        ({"color": 2.0}, "color: expected 0 to 1"),
        ({"weights": (0.5, 0.5)}, r"weights: expected one a store \(1\), got 2"),
        ({"stores": ()}, "stores: expected one or more"),
        ({"horizon": 0}, "horizon: expected 1"),
    ],
)
def test_settings_are_checked(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PolicyTrainConfig(**{"stores": (Path("s"),), "out": Path("o"), **changes})


def test_the_window_is_as_long_as_needed() -> None:
    def length(**changes: object) -> int:
        return PolicyTrainConfig((Path("s"),), Path("o"), **changes).chunk_length

    assert length(observation_horizon=2, action_steps=4) == 5
    assert length(observation_horizon=2, action_steps=4, algorithm="diffusion") == 6
    assert length(horizon=16) == 16


def test_shipped_settings_can_be_read() -> None:
    folder = Path(__file__).resolve().parents[2] / "configs" / "policy"
    files = sorted(folder.glob("*.yaml"))
    algorithms = {str(read_values(PolicyTrainConfig, file)["algorithm"]) for file in files}
    assert algorithms == {file.stem for file in files} == {"bc", "diffusion"}
    for file in files:
        PolicyTrainConfig(
            **{"stores": (Path("s"),), "out": Path("o"), **read_values(PolicyTrainConfig, file)}
        )
