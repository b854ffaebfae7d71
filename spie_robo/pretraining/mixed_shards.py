"""Reads the shards of :mod:`spie_robo.pretraining.mixed_pairs`, as they come."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from spie_robo.editor.frame_geometry import geometry_channels
from spie_robo.errors import ConfigError
from spie_robo.pretraining.mixed_pairs import PICTURES, unpack_depth

_NUMBERS = ("style_id", "scene_id", "world", "drawn_by", "focal")


@dataclass(frozen=True, eq=False)
class MixedBatch:
    """B pairs and K photos of each one's lab; images (.., 3, H, W) in [-1, 1].

    Attributes:
        inputs: (B, 3, H, W), the simulators' frames.
        targets: (B, 3, H, W), the same moments in their labs, free of sensor noise.
        geometry: (B, 6, H, W); see :mod:`spie_robo.editor.frame_geometry`.
        classes: uint8, (B, H, W).
        references: (B, K, 3, H, W), other moments in the same labs.
        rows: int64, (B,): which pairs they are.
    """

    inputs: Tensor
    targets: Tensor
    geometry: Tensor
    classes: Tensor
    references: Tensor
    rows: Tensor


@final
class MixedShards:
    """Random access to pairs; encoded pictures stay in memory, a few tens of KiB each.

    Args:
        folder: Where the shards are.
        shards: Numbers of the shards to read; those that are not there yet are left out.

    Raises:
        ConfigError: If none is there, or one is broken.
    """

    def __init__(self, folder: str | Path, shards: range) -> None:
        """Read what is there."""
        self._folder, self._shards = Path(folder), shards
        self._loaded: set[int] = set()
        self._pictures: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in PICTURES}
        self._numbers: dict[str, list[float]] = {name: [] for name in _NUMBERS}
        self.worlds: list[str] = []
        """Names that :meth:`world_of` gives."""
        self.refresh()
        if not self._loaded:
            raise ConfigError(
                f"Expected mixed_*.safetensors in {folder}, shards {shards.start} to "
                f"{shards.stop - 1}; got none. Render pairs first: "
                "python -m spie_robo.pretraining.mixed_pairs CONFIG.yaml"
            )

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self._numbers["style_id"])

    def refresh(self) -> int:
        """Read shards that came since; returns how many pairs there are."""
        for index in self._shards:
            path = self._folder / f"mixed_{index:05d}.safetensors"
            if index not in self._loaded and path.exists():
                self._read(path)
                self._loaded.add(index)
        styles = np.array(self._numbers["style_id"], np.int64)
        self._of_style = {
            int(style): np.flatnonzero(styles == style) for style in np.unique(styles)
        }
        return len(self)

    def _read(self, path: Path) -> None:
        try:
            with safe_open(path, framework="np") as file:
                self.worlds = json.loads(file.metadata()["worlds"])
                for name in PICTURES:
                    data, ends = file.get_tensor(name), file.get_tensor(f"{name}_ends")
                    self._pictures[name] += np.split(data, ends[:-1])
                for name in _NUMBERS:
                    self._numbers[name] += file.get_tensor(name).tolist()
        except (OSError, KeyError, SafetensorError) as error:
            raise ConfigError(
                f"Expected a shard of rendered pairs in {path}, got: {error}. Delete it and render "
                "again."
            ) from error

    def world_of(self, row: int) -> str:
        """The world that a pair is from."""
        return self.worlds[int(self._numbers["world"][row])]

    def others_of_style(self, row: int) -> NDArray[np.int64]:
        """Rows in the same lab as a row, without itself."""
        rows = self._of_style[int(self._numbers["style_id"][row])]
        return np.asarray(rows[rows != row], np.int64)

    def image(self, name: str, row: int) -> NDArray[Any]:
        """A decoded picture: uint8 (H, W, 3) rgb, or (H, W) of classes, instances, depth code."""
        image = cv2.imdecode(self._pictures[name][row], cv2.IMREAD_UNCHANGED)
        assert image is not None
        return np.ascontiguousarray(image[..., ::-1]) if image.ndim == 3 else image

    def batch(self, rows: Tensor, photos: list[list[int]]) -> MixedBatch:
        """Decode pairs.

        Args:
            rows: int64, (B,).
            photos: For each of them K rows whose targets are its photos.
        """
        indices = rows.tolist()
        depth = np.stack([unpack_depth(self.image("depth", row)) for row in indices])
        instances = np.stack([self.image("instances", row) for row in indices]).astype(np.int64)
        focal = np.array([self._numbers["focal"][row] for row in indices]) * depth.shape[1]
        references = [torch.stack([self.rgb("target", k) for k in chosen]) for chosen in photos]
        return MixedBatch(
            inputs=torch.stack([self.rgb("source", row) for row in indices]),
            targets=torch.stack([self.rgb("target", row) for row in indices]),
            geometry=geometry_channels(
                torch.from_numpy(depth),
                torch.from_numpy(instances),
                torch.from_numpy(focal).float(),
            ),
            classes=torch.from_numpy(np.stack([self.image("classes", row) for row in indices])),
            references=torch.stack(references),
            rows=rows,
        )

    def rgb(self, name: str, row: int) -> Tensor:
        """A decoded source or target, (3, H, W) in [-1, 1]."""
        pixels = torch.from_numpy(self.image(name, row)).permute(2, 0, 1)
        return pixels.float() / 127.5 - 1
