"""Rendered pairs of many simulators' looks: a frame, and the same moment in a random lab.

On disk, a folder of shards, each written whole or not at all. A shard is a safetensors file of N
pairs; pictures are kept as encoded bytes:

```
mixed_00000.safetensors
    source, target             uint8 (bytes,)       JPEG, 256x256: simulator; path-traced, denoised
    depth                      uint8 (bytes,)       PNG, 16 bits, see encode_depth
    classes, instances         uint8 (bytes,)       PNG: role of a pixel (worlds.CLASSES); instance
    <each of these>_ends       int64 (N,)           where each picture's bytes end
    style_id, scene_id         int64 (N,)           seed of sample_lab_style; seed of the moment
    world, drawn_by            uint8 (N,)           index into the metadata's lists
    focal                      float32 (N,)         focal length over image height
```

Pairs of a style lie together. No style and no moment is in two shards.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from spie_robo.errors import ConfigError
from spie_robo.pretraining.training_worlds import TRAINING_WORLDS, kept_world
from spie_robo.pretraining.worlds import WorldView
from spie_robo.types import RGB

RENDERERS = ("tiny", "mujoco", "mitsuba")
PICTURES = ("source", "target", "depth", "classes", "instances")

_NEAREST, _FARTHEST = 0.01, 100.0

_DARKEST, _BRIGHTEST, _TRIES = 45, 230, 3


@dataclass(frozen=True)
class MixedPairsConfig:
    """The settings say what to render.

    Attributes:
        folder: Where the shards go.
        shards: Number of shards.
        styles_per_shard: Labs in a shard.
        scenes_per_style: Moments of each lab, from different worlds.
        worlds: Names of the worlds, each as often as it is to be drawn.
        size: Height and width in pixels.
        samples: Path-traced samples a pixel.
        workers: Processes; each ends after one shard, since long renders leak memory.
        first_seed: First style; moments count from a thousand times that.
    """

    folder: str = "runs/mixed_pairs"
    shards: int = 200
    styles_per_shard: int = 12
    scenes_per_style: int = 5
    worlds: tuple[str, ...] = TRAINING_WORLDS
    size: int = 256
    samples: int = 3
    workers: int = 1
    first_seed: int = 50_000

    def __post_init__(self) -> None:
        """Check ranges and names."""
        for name in ("shards", "styles_per_shard", "samples", "workers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected 1 or more, got {getattr(self, name)}.")
        if self.scenes_per_style < 2:
            raise ConfigError("scenes_per_style: expected 2 or more: one is the reference.")
        if self.size < 32 or self.size % 16:
            raise ConfigError(f"size: expected a multiple of 16 from 32 up, got {self.size}.")
        unknown = sorted(set(self.worlds) - set(TRAINING_WORLDS))
        if unknown or not self.worlds:
            raise ConfigError(f"worlds: expected some of {list(TRAINING_WORLDS)}, got {unknown}.")

    def shard_path(self, index: int) -> Path:
        """File of a shard."""
        return Path(self.folder) / f"mixed_{index:05d}.safetensors"


def render_mixed_pairs(config: MixedPairsConfig) -> None:
    """Render the shards that are not there yet; killed and started again, it goes on."""
    from spie_robo.envs.twin.pool import run_in_fresh_processes

    Path(config.folder).mkdir(parents=True, exist_ok=True)
    missing = [i for i in range(config.shards) if not config.shard_path(i).exists()]
    render = functools.partial(render_shard, config)
    for report in run_in_fresh_processes(render, missing, config.workers):
        print(report, flush=True)


def render_shard(config: MixedPairsConfig, index: int) -> str:
    """Render one shard; returns a line that says what it cost."""
    _limit_threads()
    started, cpu = time.perf_counter(), time.process_time()
    rows = []
    for offset in range(config.styles_per_shard):
        style_id = config.first_seed + index * config.styles_per_shard + offset
        for scene in range(config.scenes_per_style):
            rows.append(render_pair(config, style_id, 1000 * style_id + scene))
    path = config.shard_path(index)
    staged = path.with_suffix(".partial")
    metadata = {"worlds": json.dumps(TRAINING_WORLDS), "drawn_by": json.dumps(RENDERERS)}
    save_file(pack_rows(rows), staged, metadata)
    os.replace(staged, path)
    seconds, count = time.perf_counter() - started, len(rows)
    return (
        f"{path.name}: {count} pairs, {seconds:.0f} s ({3600 * count / seconds:.0f} an hour), "
        f"{(time.process_time() - cpu) / count:.1f} CPU seconds and "
        f"{path.stat().st_size / count / 1024:.0f} KiB a pair"
    )


PairRow = Mapping[str, bytes | int | float]
"""One pair: encoded pictures by the names of PICTURES, and numbers."""


def render_pair(config: MixedPairsConfig, style_id: int, scene_id: int) -> PairRow:
    """Draw one moment and render it in a lab.

    Args:
        config: Worlds, size and samples.
        style_id: Seed of the lab.
        scene_id: Seed of the moment.
    """
    from spie_robo.envs.twin.lab_styles import sample_lab_style
    from spie_robo.envs.twin.renderer import TwinRenderer

    rng = np.random.default_rng([scene_id, 0x9A125])
    name = config.worlds[int(rng.integers(len(config.worlds)))]
    world, style = kept_world(name, config.size, style_id), sample_lab_style(style_id)
    for _ in range(_TRIES):
        view = world.sample(rng)
        target = TwinRenderer(samples=config.samples).render(
            view.state, view.camera.name, style, scene_id, sensor_noise=False, metering=True
        )
        # Furniture can stand between all lamps and what the camera sees.
        if _DARKEST < target.mean() < _BRIGHTEST:
            break
    return {
        **encode_view(view),
        "target": _jpeg(target),
        "style_id": style_id,
        "scene_id": scene_id,
        "world": TRAINING_WORLDS.index(name),
        "drawn_by": RENDERERS.index(view.drawn_by),
        "focal": float(view.camera.intrinsics[1, 1]) / view.camera.height,
    }


def encode_view(view: WorldView) -> dict[str, bytes]:
    """The simulator's side of a pair as encoded pictures."""
    numbers = np.unique(view.instances, return_inverse=True)[1].reshape(view.instances.shape)
    return {
        "source": _jpeg(view.rgb),
        "depth": _png(encode_depth(view.depth)),
        "classes": _png(view.classes),
        "instances": _png(numbers.astype(np.uint16)),
    }


def encode_depth(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Metres as 16 bits: 0 is nothing, then 1 cm to 100 m in steps of 0.014 %."""
    scaled = np.log(np.clip(depth, _NEAREST, _FARTHEST) / _NEAREST) / np.log(_FARTHEST / _NEAREST)
    return np.where(depth > 0, 1 + np.rint(scaled * 65534), 0).astype(np.uint16)


def unpack_depth(code: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Undo :func:`encode_depth`; 0 where nothing is."""
    scaled = (code.astype(np.float32) - 1) / 65534
    metres = _NEAREST * np.exp(scaled * np.log(_FARTHEST / _NEAREST))
    return np.where(code > 0, metres, 0).astype(np.float32)


def pack_rows(rows: Sequence[PairRow]) -> dict[str, NDArray[np.generic]]:
    """The arrays of a shard."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name in PICTURES:
        pictures = [bytes(row[name]) for row in rows]  # type: ignore[arg-type]
        arrays[name] = np.frombuffer(b"".join(pictures), np.uint8)
        arrays[f"{name}_ends"] = np.cumsum([len(picture) for picture in pictures])
    for name, kind in (
        ("style_id", np.int64),
        ("scene_id", np.int64),
        ("world", np.uint8),
        ("drawn_by", np.uint8),
        ("focal", np.float32),
    ):
        arrays[name] = np.array([row[name] for row in rows], kind)
    return arrays


def _jpeg(image: RGB) -> bytes:
    quality = [
        cv2.IMWRITE_JPEG_QUALITY,
        93,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    return _encoded(".jpg", np.ascontiguousarray(image[..., ::-1]), quality)


def _png(image: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    return _encoded(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _encoded(
    suffix: str, image: NDArray[np.uint8] | NDArray[np.uint16], options: list[int]
) -> bytes:
    done, data = cv2.imencode(suffix, image, options)
    assert done
    return data.tobytes()


def _limit_threads() -> None:
    """One worker, one core."""
    import drjit

    os.environ.update(OIDN_NUM_THREADS="1", OIDN_SET_AFFINITY="0")
    cv2.setNumThreads(1)
    from spie_robo.envs.twin.mitsuba_variant import mitsuba

    mitsuba()
    drjit.set_thread_count(1)


def _main() -> None:
    """``python -m spie_robo.pretraining.mixed_pairs CONFIG.yaml``."""
    import sys

    from spie_robo.settings.yaml_files import load_config

    render_mixed_pairs(load_config(MixedPairsConfig, sys.argv[1]))


if __name__ == "__main__":
    _main()
