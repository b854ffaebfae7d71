"""The geometry judge: reads depth and object classes off a picture, whatever its style.

A frozen EfficientNet-Lite0 gives features at strides 2 to 16; a small decoder merges them from
coarse to fine, adds the pixels themselves for sharp silhouettes, and predicts log depth and
class logits at 128x128. Only the decoder is trained (``spie_robo.pretraining.judge``) and shipped.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, cast, final, runtime_checkable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from spie_robo.errors import ConfigError
from spie_robo.files.permissions import share_weights
from spie_robo.guard.classes import GeometryClass
from spie_robo.types import RGB, check_image
from spie_robo.vision.features import encoder, images_to_tensor

WEIGHTS = Path(__file__).parent / "weights" / "judge.safetensors"
_PYRAMID_LEVELS = 4
_PYRAMID_CHANNELS = (16, 24, 40, 112)


@final
@dataclass(frozen=True, eq=False)
class GeometryEstimate:
    """Reading of one picture by a judge, on the judge's own square grid.

    Attributes:
        log_depth: float32, (size, size): natural logarithm of the depth in metres. Its offset is
            a guess, as one picture cannot tell scale: compare it normalised.
        classes: uint8, (size, size): the likeliest :class:`GeometryClass` of each pixel.
    """

    log_depth: NDArray[np.float32]
    classes: NDArray[np.uint8]


@runtime_checkable
class Judge(Protocol):
    """Anything that estimates geometry from pictures alone."""

    @property
    def size(self) -> int:
        """Height and width of the estimates, in pixels."""
        ...

    def estimate(self, images: Sequence[RGB]) -> list[GeometryEstimate]:
        """One estimate an image, independent of its neighbours; sizes may differ."""
        ...


@final
@dataclass(frozen=True)
class JudgeConfig:
    """The shape of a :class:`GeometryJudge`.

    Attributes:
        size: Height and width that pictures are judged at, in pixels; a multiple of 16.
        widths: Channels of the decoder at strides 1, 2, 4, 8 and 16.
        classes: Number of classes.
    """

    size: int = 128
    widths: tuple[int, int, int, int, int] = (8, 16, 32, 48, 64)
    classes: int = len(GeometryClass)

    def __post_init__(self) -> None:
        """Validate the shape."""
        if self.size < 32 or self.size % 16:
            raise ConfigError(f"size: expected a multiple of 16 from 32 on, got {self.size}.")
        if len(self.widths) != 5 or min(self.widths) < 1:
            raise ConfigError(f"widths: expected five positive numbers, got {self.widths}.")


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _fold_batch_norms(module: nn.Module) -> None:
    """Make each convolution and the norm behind it one convolution: same values, less to do."""
    for child in module.children():
        if isinstance(child, nn.Sequential) and isinstance(child[1], nn.BatchNorm2d):
            child[0] = fuse_conv_bn_eval(cast(nn.Conv2d, child[0]), child[1])
            child[1] = nn.Identity()
        else:
            _fold_batch_norms(child)


@final
class _Merge(nn.Module):
    """Double the resolution of a coarse map and merge it with a finer one."""

    def __init__(self, coarse: int, fine: int, outputs: int) -> None:
        super().__init__()
        # Reducing before upsampling costs a quarter of reducing after it.
        self.reduce = _convolution(coarse, outputs, 1)
        self.merge = _convolution(outputs + fine, outputs, 3)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        enlarged = nn.functional.interpolate(self.reduce(coarse), scale_factor=2.0, mode="bilinear")
        return cast(Tensor, self.merge(torch.cat([enlarged, fine], dim=1)))


@final
class JudgeHead(nn.Module):
    """The trained part of the judge: from pixels and encoder features to depth and classes."""

    def __init__(self, config: JudgeConfig) -> None:
        """Build an untrained head."""
        super().__init__()
        pixel, *_ = config.widths
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels in _PYRAMID_CHANNELS)
        self.pixels = _convolution(3, pixel, 3)
        self.deepest = _convolution(_PYRAMID_CHANNELS[-1], config.widths[-1], 3)
        self.merges = nn.ModuleList(
            _Merge(config.widths[level + 1], fine, config.widths[level])
            for level, fine in enumerate((pixel, *_PYRAMID_CHANNELS[:-1]))
        )
        self.output = nn.Conv2d(pixel, 1 + config.classes, 1)

    def forward(self, images: Tensor, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Predict from 0..255 pixels (N, 3, S, S) and features at strides 2, 4, 8, 16.

        Returns:
            Log depth (N, S, S) and class logits (N, C, S, S), both float32.
        """
        fine = [self.pixels((images.float() - 127.0) / 128.0)]
        fine += [norm(level) for norm, level in zip(self.norms, levels, strict=True)]
        merged = self.deepest(fine.pop())
        for merge in reversed(self.merges):
            merged = merge(merged, fine.pop())
        output = self.output(merged)
        return output[:, 0], output[:, 1:]


@final
class GeometryJudge(nn.Module):
    """Estimates geometry from pictures; implements :class:`Judge`.

    Example:
        >>> import numpy as np
        >>> judge = GeometryJudge()  # untrained; GeometryJudge.load() gives the shipped one
        >>> judge.estimate([np.zeros((48, 64, 3), np.uint8)])[0].classes.shape
        (128, 128)
    """

    def __init__(self, config: JudgeConfig | None = None) -> None:
        """Build an untrained judge.

        Args:
            config: Its shape; the default shape if None.
        """
        super().__init__()
        self.config = config or JudgeConfig()
        self.head = JudgeHead(self.config)
        self.eval()

    @property
    def size(self) -> int:
        """Height and width of the estimates, in pixels."""
        return self.config.size

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Predict from pixels.

        Args:
            images: (N, 3, S, S), sRGB in 0..255; gradients reach them.

        Returns:
            Log depth (N, S, S) in log metres and class logits (N, C, S, S).
        """
        device = str(next(self.head.parameters()).device)
        levels = encoder(device).levels_with_gradient(images, _PYRAMID_LEVELS)
        log_depth, logits = self.head(images, levels)
        return log_depth, logits

    @torch.no_grad()
    def estimate(self, images: Sequence[RGB]) -> list[GeometryEstimate]:
        """Estimate the geometry of each picture.

        On a CPU pictures go through one by one: convolutions may round differently at another
        batch size, and a verdict must not depend on its batch neighbours.

        Args:
            images: uint8, (height, width, 3) each, of any sizes.

        Raises:
            FrameError: If something is not a uint8 image.
        """
        for index, image in enumerate(images):
            check_image(image, f"image {index}")
        device = next(self.head.parameters()).device
        resized = [resize(image, self.size) for image in images]
        return [self._estimate_one(images_to_tensor([image], device)) for image in resized]

    def _estimate_one(self, image: Tensor) -> GeometryEstimate:
        log_depth, logits = self(image)
        # NumPy's argmax over the first axis takes an eighth of the time of torch's on a CPU.
        classes = logits[0].cpu().numpy().argmax(axis=0).astype(np.uint8)
        return GeometryEstimate(log_depth[0].cpu().numpy(), classes)

    def save(self, path: str | Path) -> None:
        """Write the head as safetensors, its shape in the file's metadata.

        Args:
            path: The file to write; an old one is replaced at once, never half.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_suffix(".staged")
        metadata = {"config": json.dumps(asdict(self.config))}
        weights = {name: value.contiguous() for name, value in self.head.state_dict().items()}
        save_file(weights, staged, metadata=metadata)
        share_weights(staged)
        os.replace(staged, path)

    @classmethod
    def load(cls, path: str | Path = WEIGHTS, device: str = "cpu") -> GeometryJudge:
        """Read a judge.

        Args:
            path: A file that :meth:`save` wrote; the shipped weights by default.
            device: Where it runs.

        Raises:
            ConfigError: If the file is missing or is not a judge.
        """
        try:
            weights = load_file(path)
            judge = cls(_config_of(path))
            judge.head.load_state_dict(weights)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"Expected the weights of a geometry judge in {path}, got: {error}. "
                "Train one with spie_robo.pretraining.judge, or reinstall spie_robo."
            ) from error
        judge.requires_grad_(False)
        return judge.to(device).eval()


def _config_of(path: str | Path) -> JudgeConfig:
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        values = json.loads(file.metadata()["config"])
    return JudgeConfig(**{**values, "widths": tuple(values["widths"])})


@functools.lru_cache(maxsize=2)
def shipped_judge(device: str = "cpu") -> GeometryJudge:
    """The judge that ships, loaded once a device and made fast: it cannot be saved or trained."""
    judge = GeometryJudge.load(WEIGHTS, device)
    _fold_batch_norms(judge.head)
    judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return judge


def resize(image: RGB, size: int) -> RGB:
    """Bring a picture to ``size`` x ``size`` pixels; aspect is not kept.

    Args:
        image: uint8, (height, width, 3).
        size: New height and width.
    """
    if image.shape[:2] == (size, size):
        return image
    # Averaging over areas keeps fine texture from turning into false edges.
    shrinks = min(image.shape[:2]) >= size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cast(RGB, cv2.resize(image, (size, size), interpolation=method))
