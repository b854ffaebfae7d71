"""What makes the ratio to the reference 1 before any update, and the reference the base."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from spie_robo.editor.guidance import Guidance
from spie_robo.editor.noise_prediction import denoiser, predict_noise
from spie_robo.editor.samplers import step_log_prob
from spie_robo.training.config import AdapterConfig
from spie_robo.training.inputs import epoch_inputs
from spie_robo.training.rollout import condition_rows, roll_out
from spie_robo.training.setup import build_chain
from spie_robo.training.trained_editor import TrainedEditor

SCHEDULERS = ["DDIMScheduler", "EulerAncestralDiscreteScheduler"]
PAPER, PLAIN = Guidance(1.5, 3.0, 7.5), Guidance(1.0, 1.0, 1.0)


def recompute(policy, inputs, rollout, chain, rows):
    """(rows, K, S - 1), as the update computes them: all edits of some inputs in one pass."""
    edits = rollout.clean.shape[1]
    conditioning = condition_rows(
        policy.pipeline, inputs, [row for row in rows for _ in range(edits)]
    )
    denoise = denoiser(policy.pipeline.unet, conditioning, chain.guidance)
    chains = rollout.latents[rows].flatten(0, 1)
    steps = range(chain.sampler.steps - 1)
    columns = [
        step_log_prob(denoise, chain.sampler, chains[:, i], chains[:, i + 1], i) for i in steps
    ]
    return torch.stack(columns, dim=1).view(len(rows), edits, -1)


def setting(tiny, pipeline, guidance=PAPER, **changes):
    config = tiny.settings(rollout__guidance=guidance, **changes)
    data = tiny.data(pipeline, config)
    policy = TrainedEditor(pipeline, config.adapter)
    chain = build_chain(pipeline, config, tiny.EDITING)
    return config, policy, epoch_inputs(data, 4, seed=0, epoch=0), chain


def rolled(config, policy, inputs, chain):
    return roll_out(policy, inputs, config.rollout, chain, seed=0, epoch=0, record=True)


def outputs(pipeline, inputs, guidance=PAPER):
    latents = torch.randn(inputs.input_latents.shape, generator=torch.Generator().manual_seed(3))
    conditioning = condition_rows(pipeline, inputs, range(len(inputs)))
    return predict_noise(pipeline.unet, latents, torch.tensor(500), conditioning, guidance)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("guidance", [PAPER, PLAIN])
@pytest.mark.parametrize("use_references", [True, False])
def test_recomputed_log_probs_equal_those_of_the_rollout(
    tiny, base, scheduler, guidance, use_references
):
    # float64: how float32 rounds depends on the processor and the batch.
    config, policy, inputs, chain = setting(
        tiny, base(scheduler).to(torch.float64), guidance, use_references=use_references
    )
    tiny.nudge(policy)  # no update since the rollout; the policy itself is not the base
    rollout = rolled(config, policy, inputs, chain)
    again = torch.cat(
        [recompute(policy, inputs, rollout, chain, rows) for rows in ([0], [1, 2, 3])]
    )
    assert again.requires_grad
    assert rollout.log_probs.shape == (4, 3, 2)
    torch.testing.assert_close(again.detach(), rollout.log_probs, atol=1e-5, rtol=0)
    assert not torch.allclose(rollout.log_probs, rollout.reference_log_probs, atol=1e-4)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_at_the_start_the_reference_is_the_policy(tiny, base, scheduler):
    config, policy, inputs, chain = setting(tiny, base(scheduler))
    rollout = rolled(config, policy, inputs, chain)
    torch.testing.assert_close(rollout.log_probs, rollout.reference_log_probs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_reference_log_probs_are_the_untouched_base_s(tiny, base, scheduler):
    config, policy, inputs, chain = setting(tiny, base(scheduler))
    tiny.nudge(policy)
    rollout = rolled(config, policy, inputs, chain)
    untouched = dataclasses.make_dataclass("Base", ["pipeline"])(base(scheduler))
    with torch.no_grad():
        expected = recompute(untouched, inputs, rollout, chain, [0, 1, 2, 3])
    torch.testing.assert_close(rollout.reference_log_probs, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("objective", ["spie", "nft"])
def test_after_an_update_the_reference_is_the_base_bit_for_bit(tiny, base, objective):
    config = tiny.settings(objective=objective, optimizer__learning_rate=1e-2)
    untouched, trainer = base(), tiny.trainer(base(), config)
    inputs = epoch_inputs(trainer._data, 4, seed=0, epoch=0)
    for epoch in range(2):
        trainer.run_epoch(epoch)
    with torch.no_grad():
        expected = outputs(untouched, inputs)
        assert not torch.allclose(outputs(trainer.policy.pipeline, inputs), expected, atol=1e-4)
        with trainer.policy.reference():
            assert torch.equal(outputs(trainer.policy.pipeline, inputs), expected)
        assert not torch.allclose(outputs(trainer.policy.pipeline, inputs), expected, atol=1e-4)


@pytest.mark.parametrize("part", ["lora", "unet.conv_in", "visual_prompt"])
def test_each_part_is_switched_off_and_on_again(tiny, base, part):
    policy = TrainedEditor(base(), AdapterConfig(rank=2, alpha=2))
    config = tiny.settings()
    inputs = epoch_inputs(tiny.data(base(), config), 2, seed=0, epoch=0)
    with torch.no_grad():
        expected = outputs(base(), inputs)
        kept = {n: p.clone() for n, p in policy.parameters().items()}
        tiny.nudge(policy, 0.1)
        for name, parameter in policy.parameters().items():
            if part not in name:
                parameter.copy_(kept[name])
        changed = outputs(policy.pipeline, inputs)
        assert not torch.allclose(changed, expected, atol=1e-4)
        with policy.reference():
            assert torch.equal(outputs(policy.pipeline, inputs), expected)
        assert torch.equal(outputs(policy.pipeline, inputs), changed)


def test_the_reference_survives_an_error_inside(base, tiny):
    policy = TrainedEditor(base(), AdapterConfig(rank=2, alpha=2))
    tiny.nudge(policy)
    before = {n: p.detach().clone() for n, p in policy.parameters().items()}
    with pytest.raises(RuntimeError, match="inside"), policy.reference():
        raise RuntimeError("inside")
    after = policy.parameters()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_exploration_moves_what_says_the_look_and_comes_back(base, tiny):
    policy = TrainedEditor(base(), AdapterConfig(rank=2, alpha=2))
    tiny.nudge(policy)
    before = {n: p.detach().clone() for n, p in policy.parameters().items()}

    def perturbed(strength, seed=0):
        with policy.perturbed(strength, torch.Generator().manual_seed(seed)):
            return {n: p.detach().clone() for n, p in policy.parameters().items()}

    moved = perturbed(0.1)
    assert all(torch.equal(moved[n], before[n]) for n in before if "lora_" in n)
    style = "unet.conv_in.weight"
    assert torch.equal(moved[style][:, :8], before[style][:, :8])
    for name in (n for n in before if "visual_prompt" in n and n.endswith("weight")):
        change = (moved[name] - before[name]).square().mean().sqrt()
        assert change == pytest.approx(0.1 * before[name].square().mean().sqrt(), rel=0.5)
    assert (moved[style][:, 8:] != before[style][:, 8:]).all()
    assert all(torch.equal(moved[n], other) for n, other in perturbed(0.1).items())
    assert not torch.equal(moved[style], perturbed(0.1, seed=1)[style])
    assert all(torch.equal(before[n], same) for n, same in perturbed(0.0).items())
    with pytest.raises(RuntimeError, match="inside"), policy.perturbed(0.1, torch.Generator()):
        raise RuntimeError("inside")
    assert all(torch.equal(p, before[n]) for n, p in policy.parameters().items())


def test_under_autocast_exploration_is_seen(tiny, base):
    policy = TrainedEditor(base(), AdapterConfig(rank=2, alpha=2))
    inputs = epoch_inputs(tiny.data(base(), tiny.settings()), 2, seed=0, epoch=0)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        plain = outputs(policy.pipeline, inputs)
        with policy.perturbed(0.5, torch.Generator().manual_seed(0)):
            assert not torch.equal(outputs(policy.pipeline, inputs), plain)
        assert torch.equal(outputs(policy.pipeline, inputs), plain)


def test_under_autocast_the_reference_reads_its_own_weights(tiny, base):
    """Autocast keeps copies of trainable weights; a stale one would be the policy's."""
    policy = TrainedEditor(base(), AdapterConfig(rank=2, alpha=2))
    inputs = epoch_inputs(tiny.data(base(), tiny.settings()), 2, seed=0, epoch=0)
    untouched = base()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = outputs(untouched, inputs)
    tiny.nudge(policy, 0.1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        changed = outputs(policy.pipeline, inputs)
        with policy.reference():
            assert torch.equal(outputs(policy.pipeline, inputs), expected)
        assert torch.equal(outputs(policy.pipeline, inputs), changed)
    assert not torch.equal(changed, expected)


@pytest.mark.parametrize("objective", ["spie", "nft"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_of_conv_in_only_the_style_channels_move(tiny, base, objective, weight_decay):
    trainer = tiny.trainer(
        base(),
        tiny.settings(
            objective=objective,
            optimizer__learning_rate=1e-2,
            optimizer__weight_decay=weight_decay,
            optimizer__updates=2,
        ),
    )
    weight = trainer.policy.pipeline.unet.conv_in.weight
    before = weight.detach().clone()
    trainer.run_epoch(0)
    assert torch.equal(weight[:, :8], before[:, :8])
    assert (weight[:, 8:] != before[:, 8:]).all()


def test_what_trains_is_what_the_settings_say(base):
    def trained(**changes):
        return TrainedEditor(base(), AdapterConfig(rank=2, alpha=2, **changes)).parameters()

    everything = trained()
    assert "unet.conv_in.weight" in everything
    assert any("visual_prompt" in name for name in everything)
    lora = trained(style_channels=False, visual_prompt=False)
    assert lora and all("lora_" in name for name in lora)
    only_queries = trained(targets=("to_q",), style_channels=False, visual_prompt=False)
    assert all("to_q" in name for name in only_queries) and len(only_queries) < len(lora)


def test_the_start_of_the_lora_is_a_function_of_the_seed_alone(base):
    def start(seed):
        torch.randn(3)  # the global generator is in another state each time
        parameters = TrainedEditor(base(), AdapterConfig(rank=2, alpha=2), seed).parameters()
        return {name: p for name, p in parameters.items() if "lora_A" in name}

    one, same, other = start(0), start(0), start(1)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_names_that_match_no_layer_are_refused(base):
    from spie_robo.errors import ConfigError

    with pytest.raises(ConfigError, match=r"adapter\.targets"):
        TrainedEditor(base(), AdapterConfig(targets=("to_nowhere",)))


def test_the_adapter_changes_nothing_before_it_is_trained(tiny, base):
    inputs = epoch_inputs(tiny.data(base(), tiny.settings()), 2, seed=0, epoch=0)
    pipeline = base()
    with torch.no_grad():
        expected = outputs(copy.deepcopy(pipeline), inputs)
        policy = TrainedEditor(pipeline, AdapterConfig(rank=2, alpha=2))
        torch.testing.assert_close(outputs(policy.pipeline, inputs), expected, atol=1e-6, rtol=0)
