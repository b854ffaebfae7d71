from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from spie_robo.editor.guidance import Guidance
from spie_robo.editor.references import to_image, to_tensor
from spie_robo.errors import EditorError
from spie_robo.feedback.relight import relit
from spie_robo.training.config import RolloutConfig, TrainConfig
from spie_robo.training.inputs import epoch_inputs
from spie_robo.training.rollout import keep_relit, roll_out, seeded
from spie_robo.training.setup import build_chain
from spie_robo.training.trained_editor import TrainedEditor


@pytest.fixture
def rolled(tiny, base):
    """``rolled(process, processes, seed, epoch, **settings)``: a rollout of 4 inputs in all."""
    return roller(tiny, base())


@pytest.fixture
def exact(tiny, base):
    """``rolled`` in float64: how float32 rounds depends on the processor and the batch."""
    return roller(tiny, base().to(torch.float64))


def roller(tiny, pipeline):
    plain = tiny.settings()
    data, policy = tiny.data(pipeline, plain), TrainedEditor(pipeline, plain.adapter)
    tiny.nudge(policy)

    def run(process=0, processes=1, seed=0, epoch=0, record=True, **changes):
        settings = tiny.settings(**changes)
        config = settings.rollout
        inputs = epoch_inputs(
            data, config.inputs, seed=0, epoch=epoch, process=process, processes=processes
        )
        chain = build_chain(pipeline, settings, tiny.EDITING)
        return roll_out(policy, inputs, config, chain, seed=seed, epoch=epoch, record=record)

    run.policy, run.data = policy, data
    return run


def assert_same(one, other):
    torch.testing.assert_close(one.clean, other.clean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one.latents, other.latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one.log_probs, other.log_probs, atol=1e-5, rtol=0)
    for mine, others in zip(one.edits, other.edits, strict=True):
        for edit, twin in zip(mine, others, strict=True):
            assert np.abs(edit.astype(int) - twin.astype(int)).max() <= 1


def test_shapes(rolled):
    rollout = rolled()
    assert rollout.clean.shape == (4, 3, 4, 4, 4)
    assert rollout.latents.shape == (4, 3, 3, 4, 4, 4)
    assert rollout.log_probs.shape == rollout.reference_log_probs.shape == (4, 3, 2)
    assert [len(group) for group in rollout.edits] == [3] * 4
    assert rollout.edits[0][0].shape == (16, 16, 3) and rollout.edits[0][0].dtype == np.uint8


def test_nothing_is_recorded_unless_asked(rolled):
    rollout = rolled(record=False)
    assert rollout.latents is rollout.log_probs is rollout.reference_log_probs is None
    torch.testing.assert_close(rollout.clean, rolled().clean)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_an_edit_does_not_depend_on_the_batch_size(exact, batch_size):
    assert_same(exact(rollout__batch_size=batch_size), exact())


def test_an_edit_does_not_depend_on_the_processes(exact):
    whole = exact()
    for process in range(2):
        part = exact(process, 2)
        assert len(part.clean) == 2
        torch.testing.assert_close(part.clean, whole.clean[process::2], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(part.log_probs, whole.log_probs[process::2], atol=1e-5, rtol=0)


def test_the_edits_of_a_frame_differ(rolled):
    clean = rolled().clean
    for k in range(1, 3):
        assert (clean[:, 0] - clean[:, k]).abs().amax(dim=(1, 2, 3)).min() > 0.01


def test_same_noise_gives_equal_starts_and_other_edits(rolled):
    shared = rolled(rollout__same_noise=True)
    starts = shared.latents[:, :, 0]
    assert torch.equal(starts[:, :1].expand_as(starts), starts)
    assert not torch.equal(starts[0, 0], starts[1, 0])
    assert (shared.clean[:, 0] - shared.clean[:, 1]).abs().max() > 0.01
    assert not torch.equal(*rolled().latents[0, :2, 0])


def test_starts_have_the_deviation_that_was_asked_for(rolled):
    torch.testing.assert_close(
        rolled(rollout__initial_noise=0.25).latents[:, :, 0], 0.25 * rolled().latents[:, :, 0]
    )


def test_the_same_seed_gives_the_same_bytes(rolled):
    one, same = rolled(), rolled()
    assert torch.equal(one.latents, same.latents) and torch.equal(one.log_probs, same.log_probs)
    assert np.array_equal(one.edits, same.edits)
    assert not torch.allclose(one.clean, rolled(seed=1).clean, atol=1e-3)
    assert not torch.allclose(one.clean, rolled(epoch=1).clean, atol=1e-3)


def test_an_edit_is_what_the_pipeline_makes_of_the_same_noise(rolled):
    rollout = rolled(record=False, objective="nft", rollout__eta=0.0)
    inputs = epoch_inputs(rolled.data, 4, seed=0, epoch=0)
    for i in range(2):
        expected = rolled.policy.pipeline(
            to_tensor(inputs.judged[i].frame.rgb)[None],
            [inputs.instructions[i]],
            [seeded(0, 0, 0, i, 1)],
            style_latents=inputs.style_latents[[i]],
            guidance=Guidance(),
            steps=3,
        )
        difference = to_image(expected[0]).astype(int) - rollout.edits[i][1].astype(int)
        assert np.abs(difference).max() <= 1


def test_edits_that_are_not_finite_stop_the_run(rolled):
    with torch.no_grad():
        next(iter(rolled.policy.parameters().values())).fill_(float("nan"))
    with pytest.raises(EditorError, match="not finite"):
        rolled()


def test_a_generator_is_a_function_of_all_its_numbers():
    def draw(*numbers):
        return float(torch.randn(1, generator=seeded(*numbers)))

    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({draw(1, 2, 3), draw(1, 3, 2), draw(0, 2, 3), draw(1, 2, 4)}) == 4
    assert draw(2**40, 1) != draw(0, 1)


def test_exploration_moves_all_edits_of_a_frame_but_the_first(rolled):
    plain = rolled(record=False, objective="nft")
    before = {name: p.detach().clone() for name, p in rolled.policy.parameters().items()}
    explored = rolled(record=False, objective="nft", rollout__exploration=0.5)
    assert torch.equal(explored.clean[:, 0], plain.clean[:, 0])
    for k in (1, 2):
        assert (explored.clean[:, k] - plain.clean[:, k]).abs().max() > 1e-3
    after = rolled.policy.parameters()
    assert all(torch.equal(after[name], before[name]) for name in before)
    halves = [
        rolled(p, 2, record=False, objective="nft", rollout__exploration=0.5).clean
        for p in range(2)
    ]
    torch.testing.assert_close(halves[1], explored.clean[1::2], atol=1e-4, rtol=1e-3)


def test_the_light_is_the_base_s_whatever_the_policy_has_learnt(tiny, base):
    pipeline, settings = base(), tiny.settings()
    policy = TrainedEditor(pipeline, settings.adapter)
    inputs = epoch_inputs(tiny.data(pipeline, settings), 4, seed=0, epoch=0)
    region = np.zeros((16, 16), np.bool_)
    region[:8] = True
    judged = tuple(replace(one, frame_region=region) for one in inputs.judged)
    inputs = replace(inputs, judged=judged)
    chain = build_chain(pipeline, settings, tiny.EDITING)

    def kept():
        held = keep_relit(policy, inputs, settings.rollout, chain, seed=0, epoch=0)
        return [one.kept for one in held.judged]

    rollout = roll_out(
        policy, inputs, settings.rollout, chain, seed=0, epoch=0, record=False, edits=1
    )
    untrained = kept()
    for mine, group, one in zip(untrained, rollout.edits, judged, strict=True):
        assert np.array_equal(mine, relit(one.frame.rgb, group[0], region))
        assert not np.array_equal(mine, one.frame.rgb)
    tiny.nudge(policy)
    assert all(np.array_equal(*pair) for pair in zip(kept(), untrained, strict=True))


def test_what_the_config_leaves_open_is_the_editors(tiny, base):
    one_step = replace(tiny.EDITING, steps=1, eta=0.0)
    open_rollout = RolloutConfig()
    nft, spie = (
        build_chain(base(), TrainConfig(objective=name, rollout=open_rollout), one_step)
        for name in ("nft", "spie")
    )
    assert nft.sampler.steps == 1 and spie.sampler.steps == 4
    given = build_chain(base(), TrainConfig(rollout=replace(open_rollout, steps=3)), one_step)
    assert given.sampler.steps == 3
