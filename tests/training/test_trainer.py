from __future__ import annotations

import pytest
import torch
from accelerate.state import AcceleratorState

from spie_robo.errors import TrainingError

OBJECTIVES = ["spie", "nft", "draft"]
RANKING = ["spie", "nft"]
SMALL = {"rollout__inputs": 2, "rollout__edits": 2}


def weights(trainer):
    return {name: p.detach().clone() for name, p in trainer.policy.parameters().items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def assert_close(one, other):
    assert one.keys() == other.keys()
    scale = max(float(gradient.abs().max()) for gradient in one.values())
    assert scale > 1e-4
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-4 * scale, rtol=1e-3)


def nudged(tiny, pipeline, config, **kwargs):
    """A trainer in the middle of its training: no part has a gradient of zero."""
    trainer = tiny.trainer(pipeline, config, **kwargs)
    tiny.nudge(trainer.policy)
    return trainer


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_batch_size_does_not_change_the_gradient(tiny, base, objective):
    found = [
        tiny.gradients(
            nudged(tiny, base(), tiny.settings(objective=objective, optimizer__batch_size=size))
        )
        for size in (2, 8)
    ]
    for name, gradient in found[0].items():
        assert gradient.abs().max() > 0, name
    assert_close(*found)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradient_checkpointing_does_not_change_the_gradient(tiny, base, objective):
    found = [
        tiny.gradients(
            nudged(tiny, base(), tiny.settings(objective=objective, gradient_checkpointing=on))
        )
        for on in (False, True)
    ]
    assert_close(*found)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_update_raises_what_it_should_raise(tiny, base, objective):
    """After a step on an epoch, the epoch's own objective is lower."""
    config = tiny.settings(
        objective=objective,
        optimizer__learning_rate=1e-3,
        optimizer__updates=2,
        nft__adaptive=False,
    )
    trainer = nudged(tiny, base(), config)
    losses = []
    accumulate = trainer.accumulate

    def watch(epoch, prepared):
        row = accumulate(epoch, prepared)
        losses.append(row["loss"])
        return row

    trainer.accumulate = watch
    trainer.run_epoch(0)
    assert len(losses) == 2 and losses[1] < losses[0]


def test_preference_terms_add_up_to_the_loss_of_the_whole(tiny, base):
    """The stream of small losses is ``preference_loss`` over all inputs and steps."""
    from spie_robo.training.objectives.base import Epoch
    from spie_robo.training.preference import preference_loss

    trainer = nudged(tiny, base(), tiny.settings(optimizer__batch_size=3))
    seen = []
    accumulate = trainer.accumulate

    def watch(epoch: Epoch, prepared):
        row = accumulate(epoch, prepared)
        rollout = epoch.rollout
        whole, _ = preference_loss(
            rollout.log_probs, rollout.reference_log_probs, epoch.feedback.ranking,
            beta=0.1, eps=0.1,
        )  # fmt: skip
        seen.append((row["loss"], float(whole)))
        return row

    trainer.accumulate = watch
    trainer.run_epoch(0)
    assert seen[0][0] == pytest.approx(seen[0][1], abs=1e-5)


def test_a_share_of_the_steps_is_trained_on(tiny, base):
    trainer = nudged(
        tiny, base(), tiny.settings(**SMALL, preference__step_share=0.5, rollout__steps=5)
    )
    passes = []
    loss = type(trainer._objective)._loss

    def count(self, policy, epoch, chosen, step):
        passes.append(step)
        return loss(self, policy, epoch, chosen, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(trainer._objective), "_loss", count)
        trainer.run_epoch(0)
        assert len(set(passes)) == 2 and max(passes) < 4
        first = set(passes)
        for epoch in range(1, 5):
            trainer.run_epoch(epoch)
    assert set(passes) > first


@pytest.mark.parametrize("objective", RANKING)
def test_unscorable_groups_are_left_out_and_counted(tiny, base, objective):
    config = tiny.settings(objective=objective, group_advantages=False)
    trainer = nudged(tiny, base(), config, feedback=tiny.ColourFeedback())
    cameras = [one.frame.camera for one in _inputs(trainer).judged]
    broken = nudged(tiny, base(), config, feedback=tiny.ColourFeedback([cameras[1]]))
    parts = []
    accumulate = broken.accumulate
    broken.accumulate = lambda epoch, prepared: parts.append(epoch) or accumulate(epoch, prepared)
    row, skipped = broken.run_epoch(0)
    assert not skipped and row["unscorable"] == 1
    assert all(torch.isfinite(p).all() for p in broken.policy.parameters().values())
    (part,) = parts
    assert part.scorable == [0, 2, 3] and part.groups == 3
    assert row["semantic"] == pytest.approx(
        float(part.feedback.scores.semantic[[0, 2, 3]].mean()), abs=1e-6
    )


def _inputs(trainer):
    from spie_robo.training.inputs import epoch_inputs

    return epoch_inputs(trainer._data, trainer.config.rollout.inputs, seed=0, epoch=0)


@pytest.mark.parametrize("objective", RANKING)
def test_without_scorable_edits_nothing_changes_and_the_run_stops(tiny, base, objective):
    config = tiny.settings(objective=objective, epochs=9, optimizer__max_skipped=2)
    everything = [str(i) for i in range(6)]
    trainer = tiny.trainer(base(), config, feedback=tiny.ColourFeedback(everything))
    before = weights(trainer)
    with pytest.raises(TrainingError, match="2 epochs in a row"):
        trainer.run()
    assert_equal(weights(trainer), before)
    assert trainer.position.epoch == trainer.position.skipped == 2
    assert [row["skipped"] for row in trainer.position.history] == [1.0, 1.0]
    assert [row["unscorable"] for row in trainer.position.history] == [4.0, 4.0]


class Poisoned:
    """An objective whose losses are not finite in some epochs."""

    def __init__(self, objective, epochs):
        self.objective, self.epochs = objective, epochs
        self.needs_log_probs = objective.needs_log_probs
        self.prepare = objective.prepare

    def terms(self, policy, epoch, prepared):
        factor = float("nan") if epoch.number in self.epochs else 1.0
        for loss, metrics, share in self.objective.terms(policy, epoch, prepared):
            yield factor * loss, metrics, share


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_gradient_that_is_not_finite_changes_nothing(tiny, base, objective):
    trainer = tiny.trainer(base(), tiny.settings(**SMALL, objective=objective, epochs=3))
    trainer._objective = Poisoned(trainer._objective, epochs=[1])
    seen = [weights(trainer)]
    position = trainer.run(lambda position: seen.append(weights(trainer)) or {})
    assert [row["skipped"] for row in position.history] == [0.0, 1.0, 0.0]
    assert position.skipped == 0
    assert_equal(seen[1], seen[2])
    assert not torch.equal(seen[2]["unet.conv_in.weight"], seen[3]["unet.conv_in.weight"])
    assert all(torch.isfinite(value).all() for value in seen[3].values())


def test_too_many_bad_gradients_in_a_row_stop_the_run(tiny, base):
    trainer = tiny.trainer(base(), tiny.settings(**SMALL, epochs=9, optimizer__max_skipped=3))
    trainer._objective = Poisoned(trainer._objective, epochs=[0, 2, 3, 4])
    with pytest.raises(TrainingError, match="3 epochs in a row"):
        trainer.run()
    assert trainer.position.epoch == 5


def test_the_gradient_is_clipped(tiny, base):
    trainer = nudged(tiny, base(), tiny.settings(optimizer__clip=1e-6))
    norms = []
    step = trainer._optimizer.step

    def watch():
        norms.append(
            float(torch.stack([p.grad.norm() for p in trainer.policy.parameters().values()]).norm())
        )
        step()

    trainer._optimizer.step = watch
    row, _ = trainer.run_epoch(0)
    assert row["gradient_norm"] > 1e-5
    assert norms == [pytest.approx(1e-6, rel=1e-2)]


def test_rows_join_what_on_epoch_returns(tiny, base):
    trainer = tiny.trainer(base(), tiny.settings(**SMALL, epochs=2))
    position = trainer.run(lambda position: {"preview_semantic": float(position.epoch)})
    assert [row["preview_semantic"] for row in position.history] == [1.0, 2.0]
    assert [row["epoch"] for row in position.history] == [1, 2]
    for name in ("loss", "ratio", "structural", "semantic", "gradient_norm", "seconds"):
        assert name in position.history[0]


def test_group_advantages_are_what_the_objective_sees(tiny, base):
    seen = {}
    for grouped in (True, False):
        trainer = tiny.trainer(base(), tiny.settings(objective="nft", group_advantages=grouped))
        accumulate = trainer.accumulate
        trainer.accumulate = lambda epoch, prepared, grouped=grouped, accumulate=accumulate: (
            seen.update({grouped: epoch.feedback}) or accumulate(epoch, prepared)
        )
        trainer.run_epoch(0)
    means = {grouped: f.advantages.mean(dim=1).abs().max() for grouped, f in seen.items()}
    assert means[True] < 1e-5 < 1e-2 < means[False]
    assert torch.equal(seen[True].ranking, seen[False].ranking)


@pytest.fixture
def another_precision():
    """Accelerate allows one precision a process."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def test_bf16_gives_about_the_same_gradient(tiny, base, another_precision):
    found = []
    for precision in ("no", "bf16"):
        AcceleratorState._reset_state(True)
        trainer = nudged(tiny, base(), tiny.settings(objective="nft", precision=precision))
        gradients = tiny.gradients(trainer)
        assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}
        found.append(torch.cat([gradient.flatten() for gradient in gradients.values()]))
    assert torch.cosine_similarity(*found, dim=0) > 0.8
    assert not torch.equal(*found)


def test_in_bf16_the_first_ratio_is_one(tiny, base, another_precision):
    row, _ = tiny.trainer(base(), tiny.settings(precision="bf16")).run_epoch(0)
    assert row["ratio"] == pytest.approx(1.0, abs=1e-5)
