"""Renders the photoreal twin: a few path-traced samples, then Intel Open Image Denoise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.scene_state import CameraPose, SceneState
from spie_robo.envs.twin.mitsuba_materials import instances_of
from spie_robo.envs.twin.mitsuba_scene import (
    build_flat_scene,
    build_instance_scene,
    build_scene,
)
from spie_robo.envs.twin.mitsuba_variant import mitsuba
from spie_robo.envs.twin.sensor import expose, linear_to_srgb, metered_gain
from spie_robo.envs.twin.style import Style
from spie_robo.errors import MissingExtraError
from spie_robo.types import RGB


@dataclass(frozen=True)
class TwinRenderer:
    """Path-traces scene states.

    Attributes:
        samples: Samples per pixel before denoising.
        denoise: Denoise with albedo and normals; without it, use a hundred times the samples.

    Example:
        >>> import gymnasium, spie_robo.envs
        >>> from spie_robo.envs.twin import NAMED_STYLES, TwinRenderer
        >>> env = gymnasium.make("SpieRobo/Push-v0").unwrapped
        >>> _ = env.reset(seed=0)
        >>> rgb = TwinRenderer().render(env.scene_state(), "front", NAMED_STYLES["oak-lab"])
        >>> rgb.shape
        (128, 128, 3)
    """

    samples: int = 4
    denoise: bool = True

    def radiance(
        self, state: SceneState, camera: str, style: Style, seed: int = 0
    ) -> NDArray[np.float32]:
        """Light that reaches each pixel.

        Args:
            state: What is where.
            camera: Name of one of the state's cameras.
            style: The lab.
            seed: Seed of the path tracer.

        Returns:
            float32 (height, width, 3), linear; 1 is a white sheet on the table.

        Raises:
            MissingExtraError: If Mitsuba or OIDN is not installed.
        """
        scene = build_scene(state, state.camera(camera), style, self.samples, seed)
        channels = np.array(mitsuba().render(scene, seed=seed), np.float32)
        # A stray NaN sample would spread over its neighbourhood in the denoiser.
        channels = np.nan_to_num(channels, nan=0.0, posinf=8.0, neginf=0.0)
        color = np.clip(channels[..., :3], 0, 16)
        if not self.denoise:
            return np.asarray(color)
        return _denoise(color, np.clip(channels[..., 3:6], 0, 1), channels[..., 6:9])

    def render(
        self,
        state: SceneState,
        camera: str,
        style: Style,
        seed: int = 0,
        sensor_noise: bool = True,
        metering: bool = False,
    ) -> RGB:
        """The photo that the style's sensor takes; see :meth:`radiance`.

        Args:
            state: What is where.
            camera: Name of one of the state's cameras.
            style: The lab.
            seed: Seed of the path tracer and of the noise.
            sensor_noise: Add the sensor's noise.
            metering: Expose automatically, as a camera does that never saw the scene before.

        Returns:
            uint8 (height, width, 3).
        """
        radiance = self.radiance(state, camera, style, seed)
        if metering:
            radiance = radiance * np.float32(metered_gain(radiance))
        return expose(radiance, style.sensor, seed if sensor_noise else None)


def render_instances(state: SceneState, camera: CameraPose) -> NDArray[np.int32]:
    """Instance id at the centre of every pixel, from the twin's own geometry.

    Returns:
        int32 (height, width); -1 where nothing is hit.
    """
    channels = np.array(mitsuba().render(build_instance_scene(state, camera)), np.float32)
    return instances_of(channels[..., 3])


def render_flat(
    state: SceneState, camera: CameraPose, sun: tuple[float, float, float], ambient: float
) -> RGB:
    """The scene as a plain simulator would draw it; see ``build_flat_scene``.

    Returns:
        uint8 (height, width, 3).
    """
    scene = build_flat_scene(state, camera, sun, ambient)
    channels = np.nan_to_num(np.array(mitsuba().render(scene), np.float32))
    color = np.clip(channels[..., :3], 0, 16)
    clean = _denoise(color, np.clip(channels[..., 3:6], 0, 1), channels[..., 6:9])
    return np.asarray(linear_to_srgb(np.clip(clean, 0, 1)) * 255 + 0.5, np.uint8)


def _denoise(
    color: NDArray[np.float32], albedo: NDArray[np.float32], normal: NDArray[np.float32]
) -> NDArray[np.float32]:
    result: NDArray[np.float32] = _oidn().denoise(
        np.ascontiguousarray(color),
        albedo=np.ascontiguousarray(albedo),
        normal=np.ascontiguousarray(normal),
        hdr=True,
    )
    return np.maximum(result, 0)


def _oidn() -> Any:
    try:
        import pyoidn
    except ImportError as error:
        raise MissingExtraError(
            "The photoreal twin denoises with OIDN: pip install 'spie-robo[photoreal]', or use "
            "TwinRenderer(samples=256, denoise=False)."
        ) from error
    return pyoidn
