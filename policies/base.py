"""Define what all policies share: their inputs, their predictions and their interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from spie_robo.policies.dataset import WindowBatch
from spie_robo.policies.encoder import ObservationEncoder, color_jitter, random_shift
from spie_robo.policies.normalizer import Normalizer
from spie_robo.policies.windows import WindowShape
from spie_robo.settings.yaml_files import from_mapping

Algorithm = Literal["bc", "diffusion"]
_NUMBERS = (
    "state_dim", "action_dim", "observation_horizon", "horizon", "action_steps", "image_size",
    "width", "hidden", "denoising_steps",
)  # fmt: skip


@final
@dataclass(frozen=True)
class PolicySpec:
    """The settings that build a policy, without its weights.

    Attributes:
        algorithm: ``"bc"`` or ``"diffusion"``.
        cameras: Names of the cameras in an environment's observations.
        state_keys: Keys of the observation that make the state, in order.
        state_dim: Number of values in a state; 0 for none.
        action_dim: Number of values in an action.
        observation_horizon: Observation steps of a window, To.
        horizon: Predicted steps, H, from the oldest observation on.
        action_steps: Actions that are executed before the next prediction, Ta.
        image_size: Side of the input images, pixels.
        width: Channels of the image encoders.
        hidden: Width of the network that predicts actions.
        denoising_steps: Denoising steps of a diffusion policy when it acts.
        env_id: Environment that the training data came from; empty if unknown.
    """

    algorithm: Algorithm
    cameras: tuple[str, ...]
    state_keys: tuple[str, ...]
    state_dim: int
    action_dim: int
    observation_horizon: int = 1
    horizon: int = 8
    action_steps: int = 8
    image_size: int = 64
    width: int = 32
    hidden: int = 256
    denoising_steps: int = 10
    env_id: str = ""

    @property
    def window(self) -> WindowShape:
        """Lengths of the training windows."""
        return WindowShape(self.observation_horizon, self.horizon, self.action_steps)


@final
@dataclass(frozen=True)
class Augmentation:
    """Random changes of the images of a training batch.

    Attributes:
        shift: Largest shift of an image, pixels.
        color: Largest change of gain and offset of its channels.
    """

    shift: int = 0
    color: float = 0.0


class Policy(nn.Module, ABC):
    """A network that predicts a chunk of actions from a window of observations.

    The normalisers are part of the weights.

    Args:
        spec: Settings of the policy.
    """

    def __init__(self, spec: PolicySpec) -> None:
        """Draw the weights from torch's global generator."""
        super().__init__()
        self.spec = spec
        self.encoder = ObservationEncoder(
            spec.cameras, spec.state_dim, spec.observation_horizon, spec.width
        )
        self.state_normalizer = Normalizer(spec.state_dim)
        self.action_normalizer = Normalizer(spec.action_dim)

    @abstractmethod
    def chunk_loss(
        self, features: Tensor, chunk: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Return loss and metrics of normalised actions (B, H, A), given features (B, F)."""

    @abstractmethod
    def predict(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Predict normalised actions (B, H, A), given features (B, F)."""

    def loss(
        self,
        batch: WindowBatch,
        generator: torch.Generator,
        augmentation: Augmentation = Augmentation(),
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch on the policy's device.

        Args:
            batch: Windows of the lengths of :attr:`spec`.
            generator: CPU generator of all random draws.
            augmentation: Random changes of the images.

        Returns:
            A scalar, and metrics for the log.
        """
        features = self._features(batch.images, batch.state, generator, augmentation)
        return self.chunk_loss(features, self.action_normalizer.normalize(batch.action), generator)

    @torch.no_grad()
    def act_chunk(
        self, images: Mapping[str, Tensor], state: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Predict the actions to execute next.

        Args:
            images: By camera, uint8, (B, To, side, side, 3), oldest first.
            state: float32, (B, To, S).
            generator: CPU generator of a diffusion policy's noise.

        Returns:
            float32, (B, action_steps, A), in the units of the store.
        """
        features = self._features(images, state, generator, Augmentation())
        chunk = self.action_normalizer.unnormalize(self.predict(features, generator))
        first = self.spec.observation_horizon - 1
        return chunk[:, first : first + self.spec.action_steps]

    def _features(
        self,
        images: Mapping[str, Tensor],
        state: Tensor,
        generator: torch.Generator,
        augmentation: Augmentation,
    ) -> Tensor:
        """Encode windows to vectors (B, F)."""
        seen = {}
        for name in self.spec.cameras:
            image = images[name].movedim(-1, 2).float() / 127.5 - 1
            image = random_shift(image, augmentation.shift, generator)
            seen[name] = color_jitter(image, augmentation.color, generator)
        features: Tensor = self.encoder(seen, self.state_normalizer.normalize(state))
        return features


def build_policy(spec: PolicySpec) -> Policy:
    """Build a policy with new weights, drawn from torch's global generator."""
    if spec.algorithm == "bc":
        from spie_robo.policies.behaviour_cloning import BehaviourCloning

        return BehaviourCloning(spec)
    from spie_robo.policies.diffusion import DiffusionPolicy

    return DiffusionPolicy(spec)


def spec_from_json(record: Any) -> PolicySpec:
    """Read a spec from plain JSON values.

    Raises:
        TypeError, ValueError, ConfigError: If the values have another form.
    """
    if not isinstance(record, Mapping):
        raise TypeError(f"expected a mapping as spec, got {record!r:.80}")
    spec = from_mapping(PolicySpec, record)
    for name in _NUMBERS:
        value, least = getattr(spec, name), 0 if name == "state_dim" else 1
        if value < least:
            raise ValueError(f"{name}: expected {least} or more, got {value}")
    _ = spec.window  # checks the lengths
    return spec
