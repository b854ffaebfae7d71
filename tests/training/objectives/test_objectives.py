from __future__ import annotations

import pytest
import torch

from spie_robo.training.inputs import epoch_inputs
from spie_robo.training.objectives.base import Epoch
from spie_robo.training.rollout import roll_out

DRAFT = {"objective": "draft", "rollout__inputs": 2, "rollout__edits": 2}


def drafting(tiny, base, **changes):
    """A trainer with objective draft, and an epoch of its; in float64, to compare closely."""
    config = tiny.settings(**DRAFT, **changes)
    pipeline = base()
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet, pipeline.visual_prompt):
        part.double()
    trainer = tiny.trainer(pipeline, config)
    tiny.nudge(trainer.policy)
    inputs = epoch_inputs(trainer._data, config.rollout.inputs, seed=0, epoch=0)
    rollout = roll_out(
        trainer.policy, inputs, config.rollout, trainer._chain, seed=0, epoch=0, record=False
    )
    feedback = trainer._judge(inputs, rollout)
    return trainer, Epoch(inputs, rollout, feedback, len(inputs), 0, 0)


@pytest.mark.parametrize("same_noise", [False, True])
def test_draft_differentiates_the_very_edits_that_were_scored(tiny, base, same_noise):
    trainer, epoch = drafting(tiny, base, rollout__same_noise=same_noise)
    objective = trainer._objective
    (pairs,) = objective._batches(epoch)
    clean = objective._clean(trainer.policy, epoch, pairs)
    assert clean.requires_grad and clean.dtype == torch.float64
    torch.testing.assert_close(clean.detach(), epoch.rollout.clean.flatten(0, 1))
    finished = objective._finished(trainer.policy, epoch, pairs, clean)
    scores = objective.feedback.score([epoch.inputs.judged[i] for i, _ in pairs], finished)
    for found, expected in zip(
        scores, (epoch.feedback.scores.structural, epoch.feedback.scores.semantic), strict=True
    ):
        torch.testing.assert_close(found.detach(), expected.flatten(), atol=1e-4, rtol=1e-4)


def test_the_reference_of_the_pull_keeps_no_graph(tiny, base):
    trainer, epoch = drafting(tiny, base, draft__pull=0.5)
    (reference,) = trainer._objective.prepare(trainer.policy, epoch)
    assert not reference.requires_grad
    losses = [loss for loss, _, _ in trainer._objective.terms(trainer.policy, epoch, [reference])]
    assert all(loss.requires_grad for loss in losses)
