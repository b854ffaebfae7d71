from __future__ import annotations

import pytest
import torch

from spie_robo.editor.guidance import Branch, Guidance
from spie_robo.editor.noise_prediction import Conditioning, condition, predict_noise
from spie_robo.errors import ConfigError


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def conditioning():
    return Conditioning(
        text=random(2, 16, 16, seed=1),
        null_text=random(2, 16, 16, seed=2),
        image_latents=random(2, 4, 8, 8, seed=3),
        prompt=random(2, 4, 8, 8, seed=4),
        null_prompt=random(2, 4, 8, 8, seed=5),
    )


def test_weighted_sum_is_the_formula(tiny_pipeline, conditioning):
    latents, timestep = random(2, 4, 8, 8), torch.tensor(400)
    unet, scales = tiny_pipeline.unet, Guidance(1.5, 3.0, 7.5)

    def single(text, image, prompt):
        inputs = torch.cat([latents, image, prompt], dim=1)
        return unet(inputs, timestep, encoder_hidden_states=text).sample

    c, zero = conditioning, torch.zeros(2, 4, 8, 8)
    with torch.no_grad():
        e_u = single(c.null_text, zero, zero)
        e_i = single(c.null_text, c.image_latents, zero)
        e_is = single(c.null_text, c.image_latents, c.null_prompt)
        e_ist = single(c.text, c.image_latents, c.prompt)
        expected = e_u + 1.5 * (e_i - e_u) + 3.0 * (e_is - e_i) + 7.5 * (e_ist - e_is)
        found = predict_noise(unet, latents, timestep, conditioning, scales)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("scales", "rows"),
    [((1, 1, 1), 1), ((1.5, 1.5, 1.5), 2), ((1, 3, 7.5), 3), ((1.5, 3, 7.5), 4), ((1, 1, 0), 1)],
)
def test_branches_without_weight_are_never_computed(tiny_pipeline, conditioning, scales, rows):
    seen = []
    hook = tiny_pipeline.unet.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    predict_noise(
        tiny_pipeline.unet, random(2, 4, 8, 8), torch.tensor(4), conditioning, Guidance(*scales)
    )
    hook.remove()
    assert seen == [2 * rows]


def test_dropout_reduces_each_row_to_its_branch(conditioning):
    dropped = conditioning.dropped(torch.tensor([Branch.IMAGE, Branch.TEXT]))
    text, image, prompt = dropped.branch(Branch.TEXT)
    assert torch.equal(text[0], conditioning.null_text[0])
    assert torch.equal(image[0], conditioning.image_latents[0])
    assert not prompt[0].any()
    assert torch.equal(text[1], conditioning.text[1])
    assert torch.equal(prompt[1], conditioning.prompt[1])


def test_no_style_latents_mean_no_prompt(tiny_pipeline):
    image, text = random(1, 4, 8, 8), random(1, 16, 16)
    assert not condition(tiny_pipeline.visual_prompt, image, None, text, text).prompt.any()
    with_style = condition(tiny_pipeline.visual_prompt, image, image + 1, text, text).prompt
    assert with_style.abs().mean() > 0.01


def test_scales_are_validated():
    with pytest.raises(ConfigError, match=r"guidance\.style"):
        Guidance(style=float("nan"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rounds_the_sum_and_not_its_parts(dtype):
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(1, 4, 16, 16, generator=generator)
    apart = 0.05 * torch.randn(4, 4, 16, 16, generator=generator)
    branches = (common + apart).to(dtype)
    found = Guidance(1.5, 3.0, 7.5).combine(branches)
    exact = Guidance(1.5, 3.0, 7.5).combine(branches.double())
    assert found.dtype == dtype
    half_a_step = 0.51 * torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), exact, rtol=half_a_step, atol=1e-6)
