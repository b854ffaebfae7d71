"""Draw the inputs of an epoch: frames, each with a photo, an instruction and a region.

``store, photos -> TrainingData -> epoch_inputs() -> EpochInputs`` is a pure function of seed, epoch
and process, so that a resumed run draws what an uninterrupted one would have drawn.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spie_robo.editor.latents import encode_image
from spie_robo.editor.pipeline import SpiePipeline
from spie_robo.editor.references import PhotoReferences, to_tensor
from spie_robo.editor.resolution import shrink, working_size
from spie_robo.errors import ConfigError, FrameError
from spie_robo.feedback.config import FeedbackConfig
from spie_robo.feedback.judges.segmenters import PhraseSegmenter
from spie_robo.feedback.records import FeedbackInput, Mask
from spie_robo.feedback.regions import visible_regions
from spie_robo.types import RGB, Frame

logger = logging.getLogger(__name__)

_CROPS = 2**32 - 1
"""Number that keeps the random draws of crops apart from those of epochs, which never use it."""
_LEAST_SIDE = 0.4
"""Smallest side of a crop, as a share of the photo's."""


@final
@dataclass(frozen=True, eq=False)
class TrainingData:
    """The data that epochs draw from; all frames have one working size.

    Attributes:
        frames: F frames at working size.
        frame_regions: F regions.
        photos: P reference photos.
        photo_regions: P regions.
        input_latents: (F, C, h, w), unscaled latents of the frames.
        style_latents: (P, C, h, w), latents of the photos; None without a visual prompt.
        instruction: Text for the edits.
        crop_latents: (P, V, C, h, w), latents of V random crops of each photo; None without crops.
    """

    frames: tuple[Frame, ...]
    frame_regions: tuple[Mask | None, ...]
    photos: tuple[RGB, ...]
    photo_regions: tuple[Mask | None, ...]
    input_latents: Tensor
    style_latents: Tensor | None
    instruction: str
    crop_latents: Tensor | None = None

    def subset(self, frames: slice) -> TrainingData:
        """Return the data with some of the frames and all photos."""
        return replace(
            self,
            frames=self.frames[frames],
            frame_regions=self.frame_regions[frames],
            input_latents=self.input_latents[frames],
        )


@final
@dataclass(frozen=True, eq=False)
class EpochInputs:
    """The n inputs of one process in one epoch.

    Attributes:
        numbers: Indices of the inputs among those of all processes; seeds derive from them.
        input_latents: (n, C, h, w).
        style_latents: (n, C, h, w), or None.
        instructions: n texts.
        judged: n inputs of the feedback.
    """

    numbers: tuple[int, ...]
    input_latents: Tensor
    style_latents: Tensor | None
    instructions: tuple[str, ...]
    judged: tuple[FeedbackInput, ...]

    def __len__(self) -> int:
        """Return the number of inputs, n."""
        return len(self.numbers)


@torch.no_grad()
def gather_data(
    pipeline: SpiePipeline,
    frames: Sequence[Frame],
    photos: Sequence[RGB],
    *,
    photo_regions: Sequence[Mask | None],
    feedback: FeedbackConfig,
    segmenter: PhraseSegmenter | None,
    resolution: int,
    instruction: str,
    use_references: bool = True,
    photo_crops: int = 0,
    seed: int = 0,
) -> TrainingData:
    """Resize frames and photos, find their regions and encode everything once.

    Frames that do not show the region are left out with a warning.

    Raises:
        FrameError: If the frames differ in shape, or none shows the region.
    """
    # All frames must have one working size.
    shapes = [frame.rgb.shape[:2] for frame in frames]
    sizes = {
        working_size(height, width, resolution, pipeline.size_multiple) for height, width in shapes
    }
    if len(sizes) != 1:
        raise FrameError(
            f"Frames: expected cameras of one shape, got working sizes {sorted(sizes)}. Choose "
            "cameras that agree with `cameras`."
        )
    size = sizes.pop()
    # Keep the frames that show the region.
    usable, regions, left_out = visible_regions(
        [_at_size(f, size) for f in frames], feedback, segmenter
    )
    if left_out:
        logger.warning(left_out)
    # Encode frames, photos and crops of the photos.
    vae = pipeline.vae
    latents = [
        encode_image(vae, to_tensor(frame.rgb)[None].to(vae.device, vae.dtype)) for frame in usable
    ]
    style = PhotoReferences(tuple(photos)).latents(vae, *size) if use_references else None
    crops = None
    if use_references and photo_crops:
        rng = np.random.default_rng([seed, _CROPS])
        shown = tuple(random_crop(photo, rng) for photo in photos for _ in range(photo_crops))
        flat = PhotoReferences(shown).latents(vae, *size)
        crops = flat.reshape(len(photos), photo_crops, *flat.shape[1:])
    return TrainingData(
        tuple(usable),
        tuple(regions),
        tuple(photos),
        tuple(photo_regions),
        torch.cat(latents),
        style,
        instruction,
        crops,
    )


def epoch_inputs(
    data: TrainingData, count: int, *, seed: int, epoch: int, process: int = 0, processes: int = 1
) -> EpochInputs:
    """Draw the inputs of an epoch.

    Args:
        data: Data to draw from.
        count: Number of inputs over all processes.
        seed: Seed of the run.
        epoch: Index of the epoch, from 0 on.
        process: Index of this process, which gets every ``processes``-th input.
        processes: Number of processes.

    Raises:
        ConfigError: If the inputs cannot be divided evenly.
    """
    if count % processes:
        raise ConfigError(
            f"rollout.inputs: expected a multiple of the {processes} processes, got {count}."
        )
    # Draw for all processes, so that their number changes nothing.
    rng = np.random.default_rng([seed, epoch])
    frames = _draw_evenly(len(data.frames), count, rng)
    photos = rng.integers(len(data.photos), size=count)
    crops = data.crop_latents
    views = rng.integers(-1, 0 if crops is None else crops.shape[1], size=count)
    # Keep the inputs of this process.
    mine = range(process, count, processes)
    chosen = torch.from_numpy(frames)[mine]
    return EpochInputs(
        numbers=tuple(mine),
        input_latents=data.input_latents[chosen],
        style_latents=_shown(data, photos[mine], views[mine]),
        instructions=(data.instruction,) * len(mine),
        judged=tuple(
            FeedbackInput(
                data.frames[frames[i]],
                data.photos[photos[i]],
                data.frame_regions[frames[i]],
                data.photo_regions[photos[i]],
            )
            for i in mine
        ),
    )


def frame_cameras(frames: Sequence[Frame]) -> list[str]:
    """Return the camera of each frame; pictures of a folder share the name ``"pictures"``."""
    cameras = [frame.camera for frame in frames]
    if len(set(cameras)) == len(cameras) and not any(frame.geometry for frame in frames):
        return ["pictures"] * len(cameras)
    return cameras


def held_out_first(frames: Sequence[Frame], count: int) -> list[Frame]:
    """Return all frames, with ``count`` to hold out first: of every camera and far apart.

    In the order of a store the first frames would show one episode and often one camera.
    """
    cameras = frame_cameras(frames)
    # Deal the held-out frames over the cameras in turn.
    own = [[i for i, of in enumerate(cameras) if of == name] for name in sorted(set(cameras))]
    turns = [(turn, camera) for turn in range(len(frames)) for camera in range(len(own))]
    dealt = [camera for turn, camera in turns if turn < len(own[camera])][:count]
    # Of each camera take frames at equal distances.
    chosen = []
    for camera, places in enumerate(own):
        share = dealt.count(camera)
        chosen += [places[(2 * k + 1) * len(places) // (2 * share)] for k in range(share)]
    rest = [i for i in range(len(frames)) if i not in chosen]
    return [frames[i] for i in (*sorted(chosen), *rest)]


def random_crop(photo: RGB, rng: np.random.Generator) -> RGB:
    """Return a random crop of a photo, mirrored half of the time; see ``TrainConfig.photo_crops``.

    Args:
        photo: uint8, (H, W, 3).
        rng: Source of size (each side ``_LEAST_SIDE`` or more), place and mirroring.
    """
    height, width = (round(side * rng.uniform(_LEAST_SIDE, 1)) for side in photo.shape[:2])
    top = rng.integers(photo.shape[0] - height + 1)
    left = rng.integers(photo.shape[1] - width + 1)
    part = photo[top : top + height, left : left + width]
    return np.ascontiguousarray(part[:, ::-1] if rng.integers(2) else part)


def _shown(
    data: TrainingData, photos: NDArray[np.int64], views: NDArray[np.int64]
) -> Tensor | None:
    """Return the style latents of some photos, each of a crop or of the whole photo (view -1).

    Returns:
        (n, C, h, w), or None without a visual prompt.
    """
    if data.style_latents is None:
        return None
    shown = data.style_latents[torch.from_numpy(photos)]
    for i in np.flatnonzero(views >= 0):
        assert data.crop_latents is not None
        shown[i] = data.crop_latents[photos[i], views[i]]
    return shown


def _draw_evenly(population: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw every element once in random order, then again until there are ``count``."""
    rounds = -(-count // population)
    return np.concatenate([rng.permutation(population) for _ in range(rounds)])[:count]


def _at_size(frame: Frame, size: tuple[int, int]) -> Frame:
    """Resize a frame; depth and segmentation keep their values."""
    if frame.rgb.shape[:2] == size:
        return frame
    geometry = frame.geometry
    if geometry is not None:
        resized = {
            name: cv2.resize(array, size[::-1], interpolation=cv2.INTER_NEAREST)
            for name in ("depth", "segmentation")
            if (array := getattr(geometry, name)) is not None
        }
        geometry = replace(geometry, **resized)
    return Frame(shrink(frame.rgb, size), frame.camera, geometry)
