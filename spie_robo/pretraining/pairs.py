"""Rendered pairs: the simulator's frame and the same scene path-traced in a random style.

On disk, a folder of shards, each written whole or not at all:

```
pairs/shard_00000.safetensors    S styles x M scenes a style = N frames, styles contiguous
    simulator_rgb   uint8   (N, 128, 128, 3)   TinyRenderer
    twin_rgb        uint8   (N, 128, 128, 3)   Mitsuba + OIDN, without sensor noise
    depth           float16 (N, 128, 128)      metres
    classes         uint8   (N, 128, 128)      0 background, 1 table, 2 robot, 3 object, 4 goal
    style_id        int32   (N,)               seed of the style; its text is describe(style)
    scene_id        int32   (N,)               seed of the scene
    wrist           uint8   (N,)               1 if the wrist camera took the frame
```

No style and no scene is in two shards, so holding out a shard holds out its styles and scenes.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from spie_robo.errors import ConfigError
from spie_robo.guard.classes import class_map

PairArrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class PairsConfig:
    """The settings say what to render.

    Attributes:
        folder: Where the shards go.
        shards: Number of shards.
        styles_per_shard: Labs in a shard.
        scenes_per_style: Frames of each lab.
        samples: Path-traced samples per pixel.
        workers: Processes; each ends after one shard, since long renders leak memory.
        first_seed: First style; scenes count from a thousand times that.
    """

    folder: str = "runs/pairs"
    shards: int = 32
    styles_per_shard: int = 16
    scenes_per_style: int = 8
    samples: int = 2
    workers: int = 2
    first_seed: int = 10_000

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("shards", "styles_per_shard", "samples", "workers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"pairs.{name}: expected 1 or more, got {getattr(self, name)}.")
        if self.scenes_per_style < 2:
            raise ConfigError("pairs.scenes_per_style: expected 2 or more: one is the reference.")

    def shard_path(self, index: int) -> Path:
        """File of a shard."""
        return Path(self.folder) / f"shard_{index:05d}.safetensors"


def render_pairs(config: PairsConfig) -> None:
    """Render the shards that are not there yet; killed and started again, it goes on."""
    Path(config.folder).mkdir(parents=True, exist_ok=True)
    missing = [i for i in range(config.shards) if not config.shard_path(i).exists()]
    if not missing:
        return
    from spie_robo.envs.twin.pool import run_in_fresh_processes

    frames = config.styles_per_shard * config.scenes_per_style
    render = functools.partial(_render_shard, config)
    with tqdm(total=len(missing) * frames, unit="frame", desc="rendering pairs") as bar:
        for _ in run_in_fresh_processes(render, missing, config.workers):
            bar.update(frames)


def load_pairs(folder: str | Path, shards: range) -> PairArrays:
    """Load shards into memory, concatenated.

    Args:
        folder: Where the shards are.
        shards: Which of them.

    Returns:
        The arrays of the module's docstring.

    Raises:
        ConfigError: If a shard is missing.
    """
    parts = []
    for index in shards:
        path = PairsConfig(folder=str(folder)).shard_path(index)
        if not path.exists():
            raise ConfigError(f"Rendered pairs are missing: {path}. Run the 'pairs' stage first.")
        parts.append(load_file(path))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _render_shard(config: PairsConfig, index: int) -> None:
    # The two workers share the cores: a renderer that takes all of them twice only waits.
    import drjit

    drjit.set_thread_count(1)
    os.environ.update(OIDN_NUM_THREADS="1", OIDN_SET_AFFINITY="0")
    from spie_robo.envs.scene_sampling import SceneSampler
    from spie_robo.envs.twin import TwinRenderer, sample_style

    renderer, sampler = TwinRenderer(samples=config.samples), SceneSampler()
    rows: list[PairArrays] = []
    for style_offset in range(config.styles_per_shard):
        style_id = config.first_seed + index * config.styles_per_shard + style_offset
        style = sample_style(style_id)
        for scene_offset in range(config.scenes_per_style):
            scene_id = 1000 * style_id + scene_offset
            scene = sampler.sample(scene_id)
            twin = renderer.render(
                scene.state, scene.frame.camera, style, scene_id, sensor_noise=False
            )
            geometry = scene.frame.geometry
            assert geometry is not None and geometry.segmentation is not None
            rows.append(
                {
                    "simulator_rgb": scene.frame.rgb,
                    "twin_rgb": twin,
                    "depth": np.asarray(geometry.depth, np.float16),
                    "classes": class_map(geometry.segmentation, geometry.names),
                    "style_id": np.array(style_id, np.int32),
                    "scene_id": np.array(scene_id, np.int32),
                    "wrist": np.array(scene.frame.camera == "wrist", np.uint8),
                }
            )
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    path = config.shard_path(index)
    staged = path.with_suffix(".partial")
    save_file(arrays, staged)
    os.replace(staged, path)
