"""The observation step ``spie_robo/realism``: tensors in, tensors out, edited on the way."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from lerobot.configs import PipelineFeatureType, PolicyFeature
from lerobot.processor import ObservationProcessorStep, ProcessorStepRegistry
from lerobot.utils.constants import OBS_IMAGE, OBS_IMAGES, OBS_STR
from numpy.typing import NDArray
from torch import Tensor

from lerobot_env_spie.passengers import LOOK, PREFIX, unpack_geometry, unpack_looks
from spie_robo import Editor, Frame, GeometryGuard, GuardedEditor
from spie_robo.errors import ConfigError, FrameError

_OWN = f"{OBS_STR}.{PREFIX}"
_logger = logging.getLogger(__name__)
_ONE_AT_A_TIME = threading.Lock()
"""LeRobot evaluates several tasks in threads that share one step."""


@dataclass
class RealismConfig:
    """Says how frames are edited.

    Attributes:
        editor: "embedded", "embedded-labs", a folder of yours, or a Hub id.
        references: Folder of photos of the look; empty uses the editor's own.
        instruction: Text for the editor; empty uses the editor's own.
        guard: Judge every edit against the frame's geometry, and use the raw frame where none
            passes.
        retries: Further seeds to try for an edit that the guard rejects.
        on_error: On a failing editor, "raise", or "passthrough" the raw frame.
        cameras: Names of the cameras to edit, as after "observation.images."; empty edits all.
        seed: Look of the first episode where no environment gives seeds.
        device: Where the editor runs, e.g. "cuda:1"; empty follows the frames if they are on a
            GPU, and else takes a GPU if there is one.
        preview: Folder for a picture of each camera at the beginning of each look, raw beside
            edited; empty writes none. LeRobot's own videos show raw frames.
    """

    editor: str = "embedded"
    references: str = ""
    instruction: str = ""
    guard: bool = True
    retries: int = 1
    on_error: Literal["raise", "passthrough"] = "raise"
    cameras: list[str] = field(default_factory=list)
    seed: int = 0
    device: str = ""
    preview: str = ""


@ProcessorStepRegistry.register(name="spie_robo/realism")
@dataclass
class RealismProcessorStep(RealismConfig, ObservationProcessorStep):
    """Edits the images of an observation and leaves everything else as it is.

    Images are entries ``observation.image`` and ``observation.images.CAMERA`` of shape
    (B, ..., 3, H, W), float in 0..1 or uint8. They come back with the same shape, type and device.
    The look of each of the B rows is given by the environments (see :mod:`.passengers`, whose
    entries are taken out). Without them it changes at :meth:`reset`.

    Example:
        >>> import torch
        >>> from lerobot_env_spie import RealismProcessorStep
        >>> step = RealismProcessorStep(guard=False)
        >>> frames = torch.full((2, 3, 64, 64), 0.5)
        >>> edited = step.observation({"observation.images.front": frames})
        >>> edited["observation.images.front"].shape
        torch.Size([2, 3, 64, 64])
    """

    def __post_init__(self) -> None:
        """Begin with the first look and count from zero."""
        self._episode = 0
        self._looks: list[int] = []
        self._counts = {"edited": 0, "frames": 0}
        weakref.finalize(self, _log_counts, self._counts)

    def get_config(self) -> dict[str, Any]:
        """The settings, as plain values."""
        return asdict(self)

    def reset(self) -> None:
        """Go on to the next look, where no environment gives seeds."""
        self._episode += 1

    def transform_features(
        self, features: dict[PipelineFeatureType, dict[str, PolicyFeature]]
    ) -> dict[PipelineFeatureType, dict[str, PolicyFeature]]:
        """Shapes and types stay what they are."""
        return features

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Edit one batch.

        Args:
            observation: What LeRobot made of an observation.

        Returns:
            A new dictionary, without the passengers.

        Raises:
            ConfigError: If a camera that was named is not there, or a setting is invalid.
            FrameError: If an image has another shape, or numbers outside 0..1.
            EditorError: If there is no such editor, or it fails.
        """
        result = {k: v for k, v in observation.items() if not k.startswith(_OWN)}
        passengers = {
            key.removeprefix(f"{OBS_STR}."): np.asarray(value.cpu())
            for key, value in observation.items()
            if key.startswith(_OWN)
        }
        keys = self._image_keys(result)
        if not keys:
            return result
        with _ONE_AT_A_TIME:
            self._edit(result, keys, passengers)
        return result

    def _edit(
        self, batch: dict[str, Any], keys: Sequence[str], passengers: Mapping[str, NDArray[Any]]
    ) -> None:
        """Replace the images of ``keys`` in ``batch`` by their edits, all in one call."""
        began = self._begin_looks(passengers, len(batch[keys[0]]))
        images = {key: _to_images(batch[key], key) for key in keys}
        # The n images of a key are its B rows, each with the frames of a window.
        frames, seeds = [], []
        for key in keys:
            window = len(images[key]) // len(batch[key])
            for i, image in enumerate(images[key]):
                geometry = unpack_geometry(passengers, _camera(key), i // window)
                frames.append(Frame(image, _camera(key), geometry))
                seeds.append(self._looks[i // window])
        edits = iter(self._guarded(batch[keys[0]].device).edit(frames, seeds))
        for key in keys:
            made = [next(edits) for _ in images[key]]
            self._counts["edited"] += sum(edit.edited for edit in made)
            self._counts["frames"] += len(made)
            edited = np.stack([edit.rgb for edit in made])
            if began and self.preview:
                path = Path(self.preview) / f"{_camera(key)}_{self._looks[0]}.png"
                _write_pair(path, images[key][0], edited[0])
            batch[key] = _to_tensor(edited, batch[key])

    def _image_keys(self, observation: Mapping[str, Any]) -> list[str]:
        """Keys of the images to edit.

        Raises:
            ConfigError: If a camera that was named is not there.
        """
        found = {
            _camera(key): key
            for key, value in observation.items()
            if isinstance(value, Tensor) and (key == OBS_IMAGE or key.startswith(f"{OBS_IMAGES}."))
        }
        missing = sorted(set(self.cameras) - set(found))
        if missing:
            raise ConfigError(f"cameras: expected some of {sorted(found)}, got {missing}.")
        return [key for camera, key in found.items() if not self.cameras or camera in self.cameras]

    def _begin_looks(self, passengers: Mapping[str, NDArray[Any]], rows: int) -> bool:
        """Take over the looks of ``rows`` environments; whether a new one began."""
        if LOOK in passengers:
            looks = unpack_looks(passengers[LOOK])
        else:
            sequence = np.random.SeedSequence([self.seed, self._episode])
            looks = [int(seed) for seed in sequence.generate_state(rows) >> 1]
        began = looks != self._looks
        if began:
            _log_counts(self._counts)
        self._looks = looks
        return began

    def _guarded(self, device: torch.device) -> GuardedEditor:
        """Editor and guard for images on ``device``."""
        place = self.device or (str(device) if device.type != "cpu" else "")
        return GuardedEditor(
            load_editor(self.editor, place),
            load_guard() if self.guard else None,
            references=self.references or None,
            instruction=self.instruction or None,
            retries=self.retries,
            on_error=self.on_error,
        )


@lru_cache(maxsize=4)
def load_editor(name: str, device: str) -> Editor:
    """``Editor.from_pretrained``, once a process for each device; empty takes its default."""
    return Editor.from_pretrained(name, device=device or None)


@lru_cache(maxsize=1)
def load_guard() -> GeometryGuard:
    """The default guard, once a process."""
    return GeometryGuard()


def _camera(key: str) -> str:
    return key.removeprefix(f"{OBS_IMAGES}.").removeprefix(f"{OBS_STR}.")


def _to_images(tensor: Tensor, key: str) -> NDArray[np.uint8]:
    """uint8 (n, H, W, 3) from a tensor (B, ..., 3, H, W).

    Raises:
        FrameError: If it is no batch of images, or a normaliser has been at it.
    """
    if tensor.ndim < 4 or tensor.shape[-3] != 3:
        raise FrameError(
            f"{key}: expected images of shape (B, 3, height, width), got {tuple(tensor.shape)}."
        )
    flat = tensor.detach().reshape(-1, *tensor.shape[-3:]).movedim(1, -1)
    if tensor.dtype != torch.uint8:
        low, high = float(flat.min()), float(flat.max())
        if not (low >= 0 and high <= 1):
            raise FrameError(
                f"{key}: expected numbers in 0..1, got {low:g}..{high:g}. Put spie_robo/realism "
                "before the step that normalises."
            )
        flat = (flat.float() * 255).round().to(torch.uint8)
    return flat.contiguous().cpu().numpy()


def _to_tensor(images: NDArray[np.uint8], like: Tensor) -> Tensor:
    """The edits in the shape, type and place of what came."""
    made = torch.from_numpy(images).to(like.device).movedim(-1, 1).reshape(like.shape)
    return made if like.dtype == torch.uint8 else made.to(like.dtype).div_(255)


def _write_pair(path: Path, raw: NDArray[np.uint8], edited: NDArray[np.uint8]) -> None:
    """Write a raw frame and, to the right of it, its edit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(np.hstack([raw, edited]), cv2.COLOR_RGB2BGR))


def _log_counts(counts: dict[str, int]) -> None:
    """Log how many frames were edited; the rest the guard or a failing editor left raw."""
    if counts["frames"]:
        _logger.info("spie_robo/realism: %(edited)d of %(frames)d frames edited", counts)
