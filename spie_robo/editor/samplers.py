"""Run reverse diffusion as a chain of Gaussians, so that every step has a log-probability.

``noise -> step 0 -> ... -> step S-1 -> x0``. Step i draws ``x' ~ N(mean_i(x), std_i^2)``.

The tables are those of diffusers' schedulers. The steps equal theirs but keep no state, so that any
step can be repeated alone. The last step is left out of every log-probability, because its standard
deviation is zero, or so small that its density has no meaning.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler
from torch import Tensor

from spie_robo.editor.noise_prediction import Denoiser
from spie_robo.errors import ConfigError


class Sampler(ABC):
    """A schedule of S reverse steps.

    Attributes:
        timesteps: (S,), timestep of the UNet at each step, decreasing.
        initial_scale: Standard deviation of the noise at the start of the chain.
    """

    timesteps: Tensor
    initial_scale: float

    @abstractmethod
    def scale_input(self, latents: Tensor, index: int) -> Tensor:
        """Scale the latents for the UNet at step ``index``."""

    @abstractmethod
    def predict_clean(self, output: Tensor, latents: Tensor, index: int) -> Tensor:
        """Return the ``x0`` that the model output at step ``index`` implies."""

    @abstractmethod
    def step(self, output: Tensor, latents: Tensor, index: int) -> tuple[Tensor, float]:
        """Return mean and standard deviation of the latents after step ``index``.

        Args:
            output: (B, C, h, w), the model output.
            latents: (B, C, h, w), the latents before the step, not scaled.
            index: 0 <= index < S.

        Returns:
            The mean (B, C, h, w), and the standard deviation, one number for the whole step.
        """

    @property
    def steps(self) -> int:
        """Number of denoising steps, S."""
        return len(self.timesteps)


@final
class DDIMSampler(Sampler):
    """DDIM (Song, Meng, Ermon, arXiv 2010.02502).

    Args:
        scheduler: Scheduler with ``alphas_cumprod``, the spacing and the prediction type.
        steps: Number of denoising steps, S.
        eta: Noise of the steps: 0 is deterministic, 1 is DDPM.

    Raises:
        ConfigError: If the scheduler uses dynamic thresholding, which is not affine, or
            predicts noise from latents without signal.
    """

    def __init__(self, scheduler: DDIMScheduler, steps: int, eta: float) -> None:
        """Read the tables of ``scheduler``, which is not changed."""
        if scheduler.config.thresholding:
            raise ConfigError("Scheduler: dynamic thresholding is not supported; turn it off.")
        scheduler = DDIMScheduler.from_config(scheduler.config)
        scheduler.set_timesteps(steps)
        # With as many steps as noise levels, an offset reaches past the last one.
        last = scheduler.config.num_train_timesteps - 1
        self.timesteps = scheduler.timesteps - max(0, int(scheduler.timesteps[0]) - last)
        self.initial_scale = float(scheduler.init_noise_sigma)
        self._prediction_type: str = scheduler.config.prediction_type
        self._clip = scheduler.config.clip_sample_range if scheduler.config.clip_sample else None
        self._eta = eta
        stride = scheduler.config.num_train_timesteps // steps
        alphas = scheduler.alphas_cumprod.double()
        self._alphas = [float(alphas[t]) for t in self.timesteps]
        if self._prediction_type == "epsilon" and min(self._alphas) <= 0:
            raise ConfigError(
                "Scheduler: with zero terminal SNR the first latents hold no signal, and predicted "
                "noise says nothing about x0. Use prediction_type 'v_prediction' or 'sample'."
            )
        self._next_alphas = [
            float(alphas[t - stride] if t >= stride else scheduler.final_alpha_cumprod)
            for t in self.timesteps
        ]

    def scale_input(self, latents: Tensor, index: int) -> Tensor:
        """Return the latents unchanged, because DDIM keeps their variance."""
        return latents

    def predict_clean(self, output: Tensor, latents: Tensor, index: int) -> Tensor:
        """Return the predicted ``x0``, clipped if the scheduler clips."""
        clean, _ = self._clean_and_noise(output, latents, index)
        return clean

    def step(self, output: Tensor, latents: Tensor, index: int) -> tuple[Tensor, float]:
        """Compute formula (12) of the paper.

        Symbols (name here -> in the paper):
            - alpha -> alpha_t, the cumulative product
            - next_alpha -> alpha_{t-1}
            - noise -> e_theta(x_t)
            - clean -> f_theta(x_t), the predicted x_0
            - std -> sigma_t(eta)
        """
        # 1. alphas of this noise level and of the next, lower one
        alpha, next_alpha = self._alphas[index], self._next_alphas[index]
        # 2. predicted x_0 and the noise that goes with it
        clean, noise = self._clean_and_noise(output, latents, index)
        # 3. sigma_t(eta) = eta sqrt((1 - a_{t-1}) / (1 - a_t)) sqrt(1 - a_t / a_{t-1})   (16)
        variance = (1 - next_alpha) / (1 - alpha) * (1 - alpha / next_alpha)
        std = self._eta * math.sqrt(max(variance, 0.0))
        # 4. mean = sqrt(a_{t-1}) x_0 + sqrt(1 - a_{t-1} - sigma_t^2) e                   (12)
        direction = math.sqrt(max(1 - next_alpha - std**2, 0.0))
        return math.sqrt(next_alpha) * clean + direction * noise, std

    def _clean_and_noise(
        self, output: Tensor, latents: Tensor, index: int
    ) -> tuple[Tensor, Tensor]:
        signal, sigma = math.sqrt(self._alphas[index]), math.sqrt(1 - self._alphas[index])
        if self._prediction_type == "epsilon":
            clean, noise = (latents - sigma * output) / signal, output
        elif self._prediction_type == "v_prediction":
            clean, noise = signal * latents - sigma * output, signal * output + sigma * latents
        else:
            clean, noise = output, (latents - signal * output) / sigma
        if self._clip is not None:
            clean = clean.clamp(-self._clip, self._clip)
        return clean, noise


@final
class EulerAncestralSampler(Sampler):
    """Ancestral sampling with Euler steps (k-diffusion; Karras et al., arXiv 2206.00364).

    Args:
        scheduler: Scheduler with ``sigmas``, the spacing and the prediction type.
        steps: Number of denoising steps, S.
    """

    def __init__(self, scheduler: EulerAncestralDiscreteScheduler, steps: int) -> None:
        """Read the tables of ``scheduler``, which is not changed."""
        scheduler = EulerAncestralDiscreteScheduler.from_config(scheduler.config)
        scheduler.set_timesteps(steps)
        self.timesteps = scheduler.timesteps
        self.initial_scale = float(scheduler.init_noise_sigma)
        self._prediction_type: str = scheduler.config.prediction_type
        self._sigmas = [float(sigma) for sigma in scheduler.sigmas]

    def scale_input(self, latents: Tensor, index: int) -> Tensor:
        """Divide by ``sqrt(sigma^2 + 1)``, because the UNet was trained on unit variance."""
        return latents / math.sqrt(self._sigmas[index] ** 2 + 1)

    def predict_clean(self, output: Tensor, latents: Tensor, index: int) -> Tensor:
        """Return the predicted ``x0``."""
        sigma = self._sigmas[index]
        if self._prediction_type == "epsilon":
            return latents - sigma * output
        if self._prediction_type == "v_prediction":
            return latents / (sigma**2 + 1) - output * (sigma / math.sqrt(sigma**2 + 1))
        return output

    def step(self, output: Tensor, latents: Tensor, index: int) -> tuple[Tensor, float]:
        """Step down to ``sigma_down`` by Euler's rule, then add noise up to the next sigma.

        Symbols:
            - sigma, sigma_next: noise levels before and after the step; x = x_0 + sigma n
            - sigma_up: deviation of the added noise; sigma_down^2 = sigma_next^2 - sigma_up^2
        """
        # 1. noise levels
        sigma, sigma_next = self._sigmas[index], self._sigmas[index + 1]
        # 2. sigma_up^2 = sigma_next^2 (sigma^2 - sigma_next^2) / sigma^2
        sigma_up = math.sqrt(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2)
        sigma_down = math.sqrt(max(sigma_next**2 - sigma_up**2, 0.0))
        # 3. dx/dsigma = (x - x_0) / sigma
        derivative = (latents - self.predict_clean(output, latents, index)) / sigma
        # 4. mean = x + (sigma_down - sigma) dx/dsigma
        return latents + (sigma_down - sigma) * derivative, sigma_up


def supported_scheduler(scheduler: Any) -> DDIMScheduler | EulerAncestralDiscreteScheduler:
    """Return a scheduler that this module has a sampler for, on the same noise schedule.

    DDIM without noise of its own solves the same equation that PNDM, DPM++, Euler, Heun, LMS and
    UniPC solve, so it takes their place; ancestral ones become Euler ancestral.

    Args:
        scheduler: Any of diffusers' schedulers that are made of betas.

    Raises:
        ConfigError: If it is of another kind, such as flow matching.
    """
    if isinstance(scheduler, (DDIMScheduler, EulerAncestralDiscreteScheduler)):
        return scheduler
    name = type(scheduler).__name__
    if "FlowMatch" in name or "beta_schedule" not in getattr(scheduler, "config", {}):
        raise ConfigError(
            f"Scheduler: expected one with betas, as InstructPix2Pix has (DDIM, Euler, PNDM, DPM++ "
            f"and others), got {name}. Its weights were trained for another process."
        )
    if "Ancestral" in name:
        return EulerAncestralDiscreteScheduler.from_config(scheduler.config)
    # Other schedulers' configs lack clip_sample, whose default would clip latents.
    return DDIMScheduler.from_config(scheduler.config, clip_sample=False)


def build_sampler(
    scheduler: DDIMScheduler | EulerAncestralDiscreteScheduler, steps: int, eta: float = 0.0
) -> Sampler:
    """Build the sampler that equals a diffusers scheduler.

    Args:
        scheduler: Scheduler whose tables and config are read; its state is not used.
        steps: Number of denoising steps, at least 1.
        eta: Noise of DDIM's steps; Euler ancestral ignores it, because its noise is fixed.

    Raises:
        ConfigError: If the scheduler is another, or a value is out of range.
    """
    if not 1 <= steps <= scheduler.config.num_train_timesteps:
        limit = scheduler.config.num_train_timesteps
        raise ConfigError(f"steps: expected 1 to {limit}, got {steps}.")
    if not 0 <= eta <= 1:
        raise ConfigError(f"eta: expected a number in [0, 1], got {eta}.")
    prediction_type = scheduler.config.prediction_type
    if prediction_type not in ("epsilon", "v_prediction", "sample"):
        raise ConfigError(
            "prediction_type of the scheduler: expected 'epsilon', 'v_prediction' or 'sample', "
            f"got {prediction_type!r}."
        )
    if isinstance(scheduler, DDIMScheduler):
        return DDIMSampler(scheduler, steps, eta)
    if isinstance(scheduler, EulerAncestralDiscreteScheduler):
        return EulerAncestralSampler(scheduler, steps)
    raise ConfigError(
        "Scheduler: expected DDIMScheduler or EulerAncestralDiscreteScheduler, got "
        f"{type(scheduler).__name__}. supported_scheduler() gives one."
    )


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The stochastic part of a sampled chain: steps 0 to S-2.

    Attributes:
        latents: (B, S, C, h, w); step i led from ``latents[:, i]`` to ``latents[:, i + 1]``.
        timesteps: (S - 1,).
        log_probs: (B, S - 1), see :func:`log_prob`.
    """

    latents: Tensor
    timesteps: Tensor
    log_probs: Tensor


def log_prob(value: Tensor, mean: Tensor, std: float) -> Tensor:
    """Return the mean over latent elements of the Gaussian log density.

    ``-(x - mean)^2 / (2 std^2) - log std - log(2 pi) / 2``, averaged over C, h, w.

    Args:
        value: (B, C, h, w).
        mean: (B, C, h, w).
        std: Standard deviation, positive.

    Returns:
        (B,), float32.
    """
    squares = ((value.float() - mean.float()) / std) ** 2
    density = -squares / 2 - math.log(std) - math.log(2 * math.pi) / 2
    return density.flatten(1).mean(dim=1)


def step_log_prob(
    denoise: Denoiser, sampler: Sampler, latents: Tensor, next_latents: Tensor, index: int
) -> Tensor:
    """Return the log-probability of one recorded step, with gradients to the denoiser.

    Args:
        denoise: The policy, e.g. from :func:`spie_robo.editor.noise_prediction.denoiser`.
        sampler: Sampler of the trajectory.
        latents: (B, C, h, w), ``trajectory.latents[:, index]``.
        next_latents: (B, C, h, w), ``trajectory.latents[:, index + 1]``.
        index: 0 <= index < S - 1.

    Returns:
        (B,), float32; equals ``trajectory.log_probs[:, index]`` before any update.

    Raises:
        ConfigError: If the step is deterministic (DDIM with eta 0) or the last.
    """
    mean, std = _step(denoise, sampler, latents, index)
    if std <= 0 or index >= sampler.steps - 1:
        raise ConfigError(
            f"Step {index} of {sampler.steps} has no log-probability: it is "
            f"{'the last' if std > 0 else 'deterministic'}. Use eta > 0, or Euler ancestral."
        )
    return log_prob(next_latents, mean, std)


def draw_noise(shape: Sequence[int], generators: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """Draw standard normal noise, with one CPU generator a row so that rows are independent.

    Args:
        shape: (C, h, w) of one row.
        generators: B CPU generators.
        like: Tensor of the wanted device and dtype.

    Returns:
        (B, C, h, w).
    """
    rows = [torch.randn(tuple(shape), generator=generator) for generator in generators]
    return torch.stack(rows).to(like)


def sample(
    denoise: Denoiser,
    sampler: Sampler,
    noise: Tensor,
    generators: Sequence[torch.Generator],
    record: bool = False,
) -> tuple[Tensor, Trajectory | None]:
    """Sample a chain from noise to ``x0``.

    Args:
        denoise: Function that runs the model.
        sampler: Denoising steps.
        noise: (B, C, h, w), standard normal, the start of the chain.
        generators: B CPU generators of the steps' noise.
        record: Whether to keep the trajectory.

    Returns:
        The latents ``x0`` (B, C, h, w), and the trajectory if recorded.

    Raises:
        ConfigError: If a deterministic sampler or a single step should be recorded.
    """
    latents = noise * sampler.initial_scale
    chain, log_probs = [latents], []
    for index in range(sampler.steps):
        mean, std = _step(denoise, sampler, latents, index)
        latents = _drawn(mean, std, generators)
        if record and index < sampler.steps - 1:
            if std <= 0:
                raise ConfigError(
                    "A deterministic chain has no log-probabilities. Use DDIM with eta > 0, or "
                    "Euler ancestral."
                )
            chain.append(latents)
            log_probs.append(log_prob(latents, mean, std))
    if not record:
        return latents, None
    if not log_probs:
        raise ConfigError("A trajectory needs at least 2 steps: the last has no density.")
    trajectory = Trajectory(
        latents=torch.stack(chain, dim=1),
        timesteps=sampler.timesteps[:-1],
        log_probs=torch.stack(log_probs, dim=1),
    )
    return latents, trajectory


def sample_with_gradient(
    denoise: Denoiser, sampler: Sampler, noise: Tensor, generators: Sequence[torch.Generator]
) -> Tensor:
    """Sample a chain with gradients to the denoiser through the last step only.

    This is DRaFT-1 (Clark et al., arXiv 2309.17400): it needs the memory of one step.

    Args:
        denoise: Function that runs the model.
        sampler: Denoising steps.
        noise: (B, C, h, w), standard normal, the start of the chain.
        generators: B CPU generators of the steps' noise.

    Returns:
        The latents ``x0`` (B, C, h, w), equal to those of :func:`sample`.
    """
    latents = noise * sampler.initial_scale
    wanted = torch.is_grad_enabled()
    for index in range(sampler.steps):
        last = index == sampler.steps - 1
        if last:  # older releases of torch keep autocast's copies of weights without gradients
            torch.clear_autocast_cache()
        with torch.set_grad_enabled(wanted and last):
            latents = _drawn(*_step(denoise, sampler, latents, index), generators)
    return latents


def _drawn(mean: Tensor, std: float, generators: Sequence[torch.Generator]) -> Tensor:
    return mean + std * draw_noise(mean.shape[1:], generators, mean) if std > 0 else mean


def _step(denoise: Denoiser, sampler: Sampler, latents: Tensor, index: int) -> tuple[Tensor, float]:
    timestep = sampler.timesteps[index].to(latents.device)
    output = denoise(sampler.scale_input(latents, index), timestep)
    return sampler.step(output, latents, index)
