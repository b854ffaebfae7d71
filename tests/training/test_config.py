from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest

from spie_robo.editor.guidance import Guidance
from spie_robo.errors import ConfigError
from spie_robo.settings.yaml_files import load_config
from spie_robo.training.config import (
    AdapterConfig,
    NftConfig,
    OptimizerConfig,
    PreferenceConfig,
    RolloutConfig,
    TrainConfig,
    default_config,
    read_config,
)

CONFIGS = Path(__file__).parents[2] / "configs" / "train"


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_files_are_valid(file):
    assert isinstance(load_config(TrainConfig, file), TrainConfig)


def test_the_embedded_file_spells_out_the_defaults():
    assert load_config(TrainConfig, CONFIGS / "embedded.yaml") == TrainConfig()
    assert load_config(TrainConfig, CONFIGS / "embedded_nft.yaml") == default_config("nft")


def test_the_instruct_pix2pix_file_holds_the_paper_s_values():
    config = load_config(TrainConfig, CONFIGS / "instruct_pix2pix.yaml")
    assert config.objective == "spie"
    assert config.rollout.inputs * config.rollout.edits == 256
    assert config.rollout.guidance == Guidance(1.5, 3.0, 7.5) and config.rollout.same_noise
    assert (config.preference.beta, config.preference.eps) == (0.1, 0.1)
    assert (config.adapter.rank, config.adapter.alpha) == (8, 8)
    assert config.optimizer.learning_rate == 3e-5 and config.gradient_checkpointing


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: RolloutConfig(inputs=0), "rollout.inputs"),
        (lambda: RolloutConfig(edits=1), "rollout.edits"),
        (lambda: RolloutConfig(steps=0), "rollout.steps"),
        (lambda: RolloutConfig(batch_size=0), "rollout.batch_size"),
        (lambda: RolloutConfig(eta=1.1), "rollout.eta"),
        (lambda: RolloutConfig(initial_noise=-0.1), "rollout.initial_noise"),
        (lambda: RolloutConfig(exploration=-0.1), "rollout.exploration"),
        (lambda: PreferenceConfig(beta=0), "preference"),
        (lambda: PreferenceConfig(beta=float("nan")), "preference"),
        (lambda: PreferenceConfig(eps=1), "preference"),
        (lambda: PreferenceConfig(step_share=0), "preference"),
        (lambda: NftConfig(beta=0), "nft"),
        (lambda: NftConfig(advantage_max=0), "nft"),
        (lambda: NftConfig(pull=-1), "nft"),
        (lambda: NftConfig(draws=0), "nft"),
        (lambda: NftConfig(timesteps=(0.6, 0.5)), "nft.timesteps"),
        (lambda: NftConfig(timesteps=(0.5,)), "nft.timesteps"),
        (lambda: TrainConfig(kept="lit"), "kept: expected 'frame' or 'relit'"),
        (lambda: NftConfig(noise=1.5), "nft.noise"),
        (lambda: NftConfig(timesteps=(0.1, 0.5, 0.9)), "nft.timesteps"),
        (lambda: AdapterConfig(rank=0), "adapter"),
        (lambda: AdapterConfig(targets=()), "adapter"),
        (lambda: OptimizerConfig(learning_rate=0), "optimizer"),
        (lambda: OptimizerConfig(clip=0), "optimizer"),
        (lambda: OptimizerConfig(weight_decay=-1), "optimizer"),
        (lambda: OptimizerConfig(updates=0), "optimizer"),
        (lambda: OptimizerConfig(batch_size=0), "optimizer"),
        (lambda: OptimizerConfig(max_skipped=0), "optimizer"),
        (lambda: TrainConfig(epochs=0), "epochs"),
        (lambda: TrainConfig(frames=0), "frames"),
        (lambda: TrainConfig(preview=0), "preview"),
        (lambda: TrainConfig(checkpoint_every=0), "checkpoint_every"),
        (lambda: TrainConfig(seed=-1), "seed"),
        (lambda: TrainConfig(objective="dpo"), "objective"),
    ],
)
def test_values_out_of_range_are_refused(build, match):
    with pytest.raises(ConfigError, match=match):
        build()


def test_spie_needs_noisy_steps_of_the_policy_itself():
    with pytest.raises(ConfigError, match=r"rollout.eta"):
        TrainConfig(objective="spie", rollout=RolloutConfig(eta=0.0))
    with pytest.raises(ConfigError, match=r"rollout.steps >= 2"):
        TrainConfig(objective="spie", rollout=RolloutConfig(steps=1))
    with pytest.raises(ConfigError, match=r"rollout.exploration"):
        TrainConfig(objective="spie", rollout=RolloutConfig(exploration=0.1))
    TrainConfig(objective="nft", rollout=RolloutConfig(eta=0.0, steps=1, exploration=0.1))
    TrainConfig(objective="spie", rollout=RolloutConfig(eta=0.0, sampler="euler_ancestral"))


def test_a_wrong_file_is_refused_with_its_name(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("rollout: {inptus: 4}\n")
    with pytest.raises(ConfigError, match=r"mine.yaml.*inptus.*'inputs'"):
        load_config(TrainConfig, file)
    file.write_text("nft: {timesteps: [0.9]}\n")
    with pytest.raises(ConfigError, match=r"mine.yaml.*timesteps"):
        load_config(TrainConfig, file)


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().epochs = 3


def test_draft_refuses_edits_of_another_policy() -> None:
    with pytest.raises(ConfigError, match=r"draft.*exploration"):
        TrainConfig(rollout=RolloutConfig(exploration=0.5))


def test_a_file_that_says_some_things_leaves_the_rest_of_its_objective(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("feedback: {rec_lambda: 2.0}\n")
    expected = TrainConfig()
    assert read_config(file) == replace(
        expected, feedback=replace(expected.feedback, rec_lambda=2.0)
    )
    file.write_text("objective: nft\nfeedback: {region: surroundings}\n")
    nft = default_config("nft")
    assert read_config(file) == replace(nft, feedback=replace(nft.feedback, region="surroundings"))
    file.write_text("objective: draft\nepochs: 3\n")
    assert read_config(file, "spie", seed=5) == replace(default_config("spie"), epochs=3, seed=5)
    for name in ("embedded", "embedded_nft", "instruct_pix2pix"):
        whole = CONFIGS / f"{name}.yaml"
        assert read_config(whole) == load_config(TrainConfig, whole)


def test_a_file_whose_settings_contradict_each_other_is_named(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("objective: spie\nrollout: {steps: 1}\n")
    with pytest.raises(ConfigError, match=r"c\.yaml: objective 'spie' needs rollout\.steps"):
        read_config(file)
    file.write_text("objective: ppo\n")
    with pytest.raises(ConfigError, match=r"c\.yaml: objective: expected one of"):
        read_config(file)
