"""Reads the rendered pairs that the embedded models are trained on.

A folder of ``shard_00000.safetensors``, ``shard_00001.safetensors``, ... Each holds, for N scenes:

==================  ====================  ==================================================
``simulator_rgb``   uint8 (N, S, S, 3)    PyBullet's frame
``twin_rgb``        uint8 (N, S, S, 3)    the same scene, path-traced in a style
``depth``           float16 (N, S, S)     metres along the optical axis
``classes``         uint8 (N, S, S)       values of ``GeometryClass``
``style_id``        int32 (N,)            which style; a whole style is held out or not at all
==================  ====================  ==================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from spie_robo.errors import ConfigError
from spie_robo.guard.distortions import LabelledImage

HELD_OUT_EVERY = 10
"""Styles whose id is divisible by this are never trained on."""

_KEYS = ("simulator_rgb", "twin_rgb", "depth", "classes")


@final
@dataclass(frozen=True, eq=False)
class Pair:
    """One scene seen by the simulator and by its photoreal twin.

    Attributes:
        simulator: The simulator's frame and its geometry.
        twin: The twin's frame and the same geometry.
        style: Id of the twin's style.
    """

    simulator: LabelledImage
    twin: LabelledImage
    style: int


@final
class PairShards:
    """Random access to all pairs of a folder; pictures stay on disk until asked for.

    Raises:
        ConfigError: If the folder holds no shard, or one is not readable.
    """

    def __init__(self, folder: str | Path) -> None:
        """Open the shards.

        Args:
            folder: Where the shards are.
        """
        paths = sorted(Path(folder).glob("shard_*.safetensors"))
        if not paths:
            raise ConfigError(
                f"Expected shard_*.safetensors in {folder}, got none. Render pairs first."
            )
        self._files: list[Any] = []
        self._places: list[tuple[int, int]] = []
        styles: list[NDArray[np.int32]] = []
        for number, path in enumerate(paths):
            try:
                file: Any = safe_open(str(path), framework="np")
                styles.append(file.get_tensor("style_id"))
            except (OSError, SafetensorError) as error:
                raise ConfigError(
                    f"Expected a shard of rendered pairs in {path}, got: {error}. Render it again."
                ) from error
            self._files.append(file)
            self._places += [(number, row) for row in range(len(styles[-1]))]
        self.styles: NDArray[np.int32] = np.concatenate(styles)
        """int32, (number of pairs,): the style of each."""

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self._places)

    def __getitem__(self, index: int) -> Pair:
        """Read one pair from disk."""
        number, row = self._places[index]
        file = self._files[number]
        simulator, twin, depth, classes = (
            np.ascontiguousarray(file.get_slice(key)[row : row + 1][0]) for key in _KEYS
        )
        metres = depth.astype(np.float32)
        return Pair(
            LabelledImage(simulator, metres, classes),
            LabelledImage(twin, metres, classes),
            int(self.styles[index]),
        )

    def split(self, part: Literal["train", "held-out"]) -> NDArray[np.int64]:
        """Indices of the pairs in styles that are trained on, or of those held out."""
        held_out = self.styles % HELD_OUT_EVERY == 0
        wanted = held_out if part == "held-out" else ~held_out
        return cast("NDArray[np.int64]", np.flatnonzero(wanted))
