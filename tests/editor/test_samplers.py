from __future__ import annotations

import math

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, PNDMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from spie_robo.editor.guidance import Guidance
from spie_robo.editor.noise_prediction import denoiser
from spie_robo.editor.samplers import (
    build_sampler,
    draw_noise,
    log_prob,
    sample,
    step_log_prob,
    supported_scheduler,
)
from spie_robo.errors import ConfigError

SHAPE = (4, 8, 8)


def toy(latents, timestep):
    return torch.tanh(latents * 0.7) + 0.1 * torch.sin(timestep.float() / 100)


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def by_diffusers(scheduler, steps, noise, generator, eta):
    scheduler.set_timesteps(steps)
    latents = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        output = toy(scheduler.scale_model_input(latents, t), t)
        extra = {"eta": eta} if isinstance(scheduler, DDIMScheduler) else {}
        latents = scheduler.step(output, t, latents, generator=generator, **extra).prev_sample
    return latents


SCHEDULERS = [
    (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}),
    (DDIMScheduler, {"clip_sample": True}),
    (DDIMScheduler, {"clip_sample": False, "timestep_spacing": "linspace"}),
    (EulerAncestralDiscreteScheduler, {}),
    (EulerAncestralDiscreteScheduler, {"timestep_spacing": "leading", "steps_offset": 1}),
    (EulerAncestralDiscreteScheduler, {"timestep_spacing": "trailing"}),
]


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(("kind", "config"), SCHEDULERS)
@pytest.mark.parametrize("steps", [5, 7])
def test_equals_diffusers(kind, config, prediction_type, eta, steps):
    if kind is EulerAncestralDiscreteScheduler and prediction_type == "sample":
        pytest.skip("diffusers does not implement it")
    scheduler = kind(prediction_type=prediction_type, **config)
    noise = draw_noise(SHAPE, seeded(1), torch.empty(0))
    ours, _ = sample(toy, build_sampler(scheduler, steps, eta), noise, seeded(2))
    generator = seeded(2)[0]
    expected = by_diffusers(kind(**scheduler.config), steps, noise, generator, eta)
    assert torch.isfinite(expected).all()
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_zero_terminal_snr_equals_diffusers():
    config = {
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
        "rescale_betas_zero_snr": True,
        "clip_sample": False,
    }
    noise = draw_noise(SHAPE, seeded(1), torch.empty(0))
    ours, _ = sample(toy, build_sampler(DDIMScheduler(**config), 10, 0.5), noise, seeded(2))
    expected = by_diffusers(DDIMScheduler(**config), 10, noise, seeded(2)[0], 0.5)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
    # at eta 1, rounding makes diffusers take the root of a negative number here
    full, _ = sample(toy, build_sampler(DDIMScheduler(**config), 10, 1.0), noise, seeded(2))
    assert torch.isfinite(full).all()
    with pytest.raises(ConfigError, match="v_prediction"):
        build_sampler(DDIMScheduler(**{**config, "prediction_type": "epsilon"}), 10)


def test_log_prob_is_the_mean_gaussian_density():
    value, mean = torch.randn(3, *SHAPE), torch.randn(3, *SHAPE)
    expected = torch.distributions.Normal(mean, 0.3).log_prob(value).mean(dim=(1, 2, 3))
    torch.testing.assert_close(log_prob(value, mean, 0.3), expected)


@settings(max_examples=10, deadline=None)
@given(
    euler=st.booleans(), steps=st.integers(2, 6), seed=st.integers(0, 2**31), eta=st.floats(0.1, 1)
)
def test_recomputed_log_probs_equal_the_logged(euler, steps, seed, eta):
    kind = EulerAncestralDiscreteScheduler if euler else DDIMScheduler
    sampler = build_sampler(kind(), steps, eta)
    noise = draw_noise(SHAPE, seeded(seed, seed + 1), torch.empty(0))
    _, trajectory = sample(toy, sampler, noise, seeded(seed, seed + 1), record=True)
    assert trajectory.latents.shape == (2, steps, *SHAPE)
    assert trajectory.log_probs.shape == (2, steps - 1) and len(trajectory.timesteps) == steps - 1
    assert torch.isfinite(trajectory.log_probs).all()
    for i in range(steps - 1):
        now, after = trajectory.latents[:, i], trajectory.latents[:, i + 1]
        again = step_log_prob(toy, sampler, now, after, i)
        torch.testing.assert_close(again, trajectory.log_probs[:, i], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [DDIMScheduler, EulerAncestralDiscreteScheduler])
def test_recomputed_log_probs_of_the_pipeline(tiny_pipeline, kind):
    """The conditioning is made anew too, with gradients, and one row at a time."""
    z, style = torch.randn(2, *SHAPE), torch.randn(2, *SHAPE)
    texts, guidance = ["a wood table", "a dark room"], Guidance(1.5, 3.0, 7.5)
    sampler = build_sampler(kind(), 4, 1.0)
    with torch.no_grad():
        known = tiny_pipeline.condition(z, style, texts)
        _, trajectory = sample(
            denoiser(tiny_pipeline.unet, known, guidance),
            sampler,
            draw_noise(SHAPE, seeded(1, 2), z),
            seeded(3, 4),
            record=True,
        )
    for row in range(2):
        one = slice(row, row + 1)
        known = tiny_pipeline.condition(z[one], style[one], texts[one])
        predict = denoiser(tiny_pipeline.unet, known, guidance)
        for i in range(3):
            now, after = trajectory.latents[one, i], trajectory.latents[one, i + 1]
            again = step_log_prob(predict, sampler, now, after, i)
            torch.testing.assert_close(again, trajectory.log_probs[one, i], atol=1e-5, rtol=0)
    again.sum().backward()
    grads = [p.grad for p in tiny_pipeline.visual_prompt.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in grads)


def test_rows_do_not_depend_on_their_neighbours():
    sampler = build_sampler(DDIMScheduler(), 4, 1.0)
    noise = draw_noise(SHAPE, seeded(1, 2), torch.empty(0))
    both, _ = sample(toy, sampler, noise, seeded(3, 4))
    second, _ = sample(toy, sampler, noise[1:], seeded(4))
    assert torch.equal(both[1:], second)


def test_what_has_no_density_is_refused():
    noise = torch.randn(1, *SHAPE)
    with pytest.raises(ConfigError, match="eta > 0"):
        sample(toy, build_sampler(DDIMScheduler(), 4, 0.0), noise, seeded(0), record=True)
    with pytest.raises(ConfigError, match="at least 2 steps"):
        sample(toy, build_sampler(DDIMScheduler(), 1, 1.0), noise, seeded(0), record=True)
    sampler = build_sampler(EulerAncestralDiscreteScheduler(), 4)
    with pytest.raises(ConfigError, match="deterministic"):
        step_log_prob(toy, sampler, noise, noise, 3)


def test_standard_deviations_add_up():
    """Sampling with the true noise keeps unit variance all along (DDIM, eta 1)."""
    sampler = build_sampler(DDIMScheduler(clip_sample=False), 5, 1.0)
    unit = torch.randn(1, 4, 64, 64, generator=seeded(0)[0])
    mean, std = sampler.step(unit * math.sqrt(1 - sampler._alphas[0]), unit, 0)
    assert 0 < std < 1
    assert abs(float((mean.std() ** 2 + std**2).sqrt()) - 1) < 0.05


@pytest.mark.parametrize(("steps", "eta"), [(0, 0.0), (2000, 0.0), (4, 1.5), (4, float("nan"))])
def test_values_out_of_range(steps, eta):
    with pytest.raises(ConfigError, match="expected"):
        build_sampler(DDIMScheduler(), steps, eta)


def test_other_schedulers_are_named():
    with pytest.raises(ConfigError, match="PNDMScheduler"):
        build_sampler(PNDMScheduler(), 4)


OTHERS = (
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "UniPCMultistepScheduler",
)


@pytest.mark.parametrize("name", OTHERS)
def test_ddim_takes_the_place_of_solvers_of_the_same_equation(name):
    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    stock = getattr(diffusers, name)(**config)
    noise = torch.randn(1, *SHAPE, generator=seeded(0)[0])
    sampler = build_sampler(supported_scheduler(stock), 100)
    ours, _ = sample(toy, sampler, noise, seeded(0))
    stock.set_timesteps(100)
    latents = noise * stock.init_noise_sigma
    for t in stock.timesteps:
        output = toy(stock.scale_model_input(latents, t), t)
        latents = stock.step(output, t, latents).prev_sample
    # The same end of the same curve, but for the error of 100 steps.
    assert float((ours - latents).abs().mean() / latents.abs().mean()) < 0.05


def test_an_ancestral_scheduler_becomes_euler_ancestral_and_known_ones_stay():
    other = diffusers.KDPM2AncestralDiscreteScheduler(20, beta_start=0.001)
    chosen = supported_scheduler(other)
    assert isinstance(chosen, EulerAncestralDiscreteScheduler)
    assert chosen.config.beta_start == 0.001
    ddim = DDIMScheduler()
    assert supported_scheduler(ddim) is ddim


def test_flow_matching_is_refused_for_it_is_another_process():
    with pytest.raises(ConfigError, match="expected one with betas"):
        supported_scheduler(diffusers.FlowMatchEulerDiscreteScheduler())


@pytest.mark.parametrize("offset", [0, 1])
def test_as_many_steps_as_noise_levels_visit_every_level_once(offset):
    scheduler = DDIMScheduler(steps_offset=offset, set_alpha_to_one=False)
    sampler = build_sampler(scheduler, 1000)
    assert sampler.timesteps.tolist() == list(range(999, -1, -1))
    noise = torch.randn(1, *SHAPE, generator=seeded(0)[0])
    assert torch.isfinite(sampler.step(toy(noise, sampler.timesteps[0]), noise, 0)[0]).all()
