from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from spie_robo.errors import ConfigError
from spie_robo.feedback import FeedbackConfig, FeedbackInput, build_feedback
from spie_robo.feedback.differentiable import DifferentiableFeedback, normalise
from spie_robo.feedback.feedback import FeedbackModel
from spie_robo.feedback.semantic import SemanticScore
from spie_robo.feedback.structural import StructuralScore
from spie_robo.guard.relative_depth import normalised_depth as normalise_array

STRUCTURES = ("monocular", "paper", "simulator")


def inputs_and_edits(scene, noise, region=None):
    edits = [noise(1), noise(2)]
    inputs = [FeedbackInput(scene, noise(3), region) for _ in edits]
    pixels = torch.from_numpy(np.stack(edits)).permute(0, 3, 1, 2).float().requires_grad_()
    return inputs, edits, pixels


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("semantic", ["nearest", "paper"])
@pytest.mark.parametrize("judge", ["embedded", "embedded:color+stride4+stride16"])
@pytest.mark.parametrize("kept", [False, True])
def test_scores_are_those_of_the_feedback(scene, noise, structure, semantic, judge, kept):
    region = np.zeros((64, 64), bool)
    region[:32] = True
    inputs, edits, pixels = inputs_and_edits(scene, noise, region)
    if kept:
        inputs = [replace(one, kept=noise(4)) for one in inputs]
    model = build_feedback(
        FeedbackConfig(structure=structure, semantic=semantic, patch_judge=judge)
    )
    structural, look = DifferentiableFeedback(model).score(inputs, pixels)
    scores = model.score(inputs, [[edit] for edit in edits])
    torch.testing.assert_close(structural, scores.structural[:, 0], atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(look, scores.semantic[:, 0], atol=1e-4, rtol=1e-4)


def test_gradients_reach_every_edit(scene, noise):
    inputs, _, pixels = inputs_and_edits(scene, noise)
    model = build_feedback(FeedbackConfig(structure="simulator"))
    for score in DifferentiableFeedback(model).score(inputs, pixels):
        (gradient,) = torch.autograd.grad(score.sum(), pixels, retain_graph=True)
        assert (gradient.flatten(1).abs().amax(dim=1) > 0).all()


def test_following_the_gradient_lowers_the_score(scene, noise):
    inputs, _, pixels = inputs_and_edits(scene, noise)
    feedback = DifferentiableFeedback(build_feedback(FeedbackConfig(structure="simulator")))
    before = feedback.score(inputs, pixels)[1]
    (gradient,) = torch.autograd.grad(before.sum(), pixels)
    after = feedback.score(inputs, pixels.detach() - 5 * gradient.sign())[1]
    assert (after < before).all()


def test_normalising_is_that_of_the_guard():
    values = torch.randn(7, 8, generator=torch.Generator().manual_seed(0))
    expected = normalise_array(values.numpy())
    np.testing.assert_allclose(normalise(values).numpy(), expected, atol=1e-5)


def test_judges_without_gradients_are_refused(red_depth, colour_patches):
    from spie_robo.feedback.judges.depth import EmbeddedDepth

    with pytest.raises(ConfigError, match=r"depth_judge.*RedDepth"):
        DifferentiableFeedback(
            FeedbackModel(StructuralScore(red_depth), SemanticScore(colour_patches))
        )
    with pytest.raises(ConfigError, match=r"patch_judge.*ColourPatches"):
        DifferentiableFeedback(
            FeedbackModel(StructuralScore(EmbeddedDepth()), SemanticScore(colour_patches))
        )
