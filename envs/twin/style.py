"""A style is a lab's look: materials, lights and a camera sensor, named or sampled.

A :class:`Style` says nothing about where things are. The same style over two scenes shows two
moments in one lab; two styles over one scene show one moment in two labs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

Pattern = Literal["plain", "wood", "planks", "speckled", "fabric", "plaster", "tiles", "bricks"]

Color = tuple[float, float, float]
"""sRGB, each channel in 0..1."""


@dataclass(frozen=True)
class Material:
    """A surface.

    Attributes:
        pattern: Kind of procedural texture.
        color: Main colour, sRGB.
        accent: Second colour of the pattern (grain, joints, speckles), sRGB.
        scale: Size of the pattern's features; 1 is typical, larger is coarser.
        roughness: 0 mirror-like to 1 matt.
        specular: Strength of the clear reflection, 0 to 1.
        seed: Which of the endlessly many textures of this kind.
    """

    pattern: Pattern = "plain"
    color: Color = (0.6, 0.6, 0.6)
    accent: Color = (0.4, 0.4, 0.4)
    scale: float = 1.0
    roughness: float = 0.6
    specular: float = 0.4
    seed: int = 0


@dataclass(frozen=True)
class Lamp:
    """A square ceiling light that faces down.

    Attributes:
        position: Metres, world frame.
        size: Edge length in metres; small lamps throw hard shadows.
        strength: Share of the table's light, relative to the other lamps and the ambient light.
        color: sRGB.
    """

    position: tuple[float, float, float] = (0.4, 0.6, 1.8)
    size: float = 0.8
    strength: float = 1.0
    color: Color = (1.0, 0.96, 0.9)


@dataclass(frozen=True)
class Sensor:
    """A camera: what happens between the light and the file.

    Attributes:
        exposure: Stops; 0 shows a white sheet on the table just below white.
        white_balance: Gain of each linear channel.
        contrast: Exponent around mid-grey; 1 is neutral.
        saturation: 1 is neutral.
        blur: Standard deviation of the lens blur in pixels of a 128-pixel-high image.
        vignette: Darkening of the corners, 0 to 1.
        noise: Standard deviation of the sensor noise at mid-grey, in 0..1.
    """

    exposure: float = 0.0
    white_balance: Color = (1.0, 1.0, 1.0)
    contrast: float = 1.0
    saturation: float = 1.0
    blur: float = 0.0
    vignette: float = 0.1
    noise: float = 0.0


@dataclass(frozen=True)
class Style:
    """A lab's look.

    Attributes:
        name: For people.
        table: Table top and legs.
        wall: The wall behind the robot.
        floor: The floor.
        ambient: Colour of the light from all around, sRGB.
        ambient_strength: Share of the table's light, relative to the lamps.
        lamps: Ceiling lights.
        object_roughness: Roughness of objects whose colour the task defines.
        sensor: The camera.
    """

    name: str = "studio"
    table: Material = field(default_factory=Material)
    wall: Material = field(default_factory=lambda: Material(color=(0.85, 0.85, 0.83)))
    floor: Material = field(default_factory=lambda: Material(color=(0.5, 0.5, 0.5)))
    ambient: Color = (0.9, 0.95, 1.0)
    ambient_strength: float = 1.0
    lamps: tuple[Lamp, ...] = (Lamp(),)
    object_roughness: float = 0.4
    sensor: Sensor = field(default_factory=Sensor)

    def without_noise(self) -> Style:
        """The same look with a noise-free sensor."""
        return replace(self, sensor=replace(self.sensor, noise=0.0))


NAMED_STYLES: dict[str, Style] = {
    "oak-lab": Style(
        name="oak-lab",
        table=Material("planks", (0.72, 0.54, 0.36), (0.52, 0.36, 0.21), 1.0, 0.45, 0.5, 11),
        wall=Material("plaster", (0.90, 0.89, 0.86), (0.82, 0.81, 0.78), 1.0, 0.9, 0.1, 3),
        floor=Material("tiles", (0.55, 0.55, 0.54), (0.35, 0.35, 0.35), 1.0, 0.6, 0.3, 4),
        lamps=(Lamp((0.6, 0.8, 1.7), 0.7, 1.6), Lamp((0.2, -0.9, 1.9), 1.0, 0.7)),
        sensor=Sensor(exposure=0.0, white_balance=(1.04, 1.0, 0.94), vignette=0.15, noise=0.012),
    ),
    "steel-bench": Style(
        name="steel-bench",
        table=Material("speckled", (0.33, 0.35, 0.38), (0.47, 0.49, 0.52), 0.8, 0.3, 0.7, 5),
        wall=Material("bricks", (0.62, 0.34, 0.26), (0.75, 0.72, 0.68), 1.0, 0.9, 0.1, 6),
        floor=Material("plain", (0.30, 0.32, 0.33), (0.25, 0.25, 0.25), 1.0, 0.5, 0.4, 7),
        ambient=(0.75, 0.86, 1.0),
        lamps=(Lamp((0.9, -0.5, 1.5), 0.4, 1.8, (0.92, 0.97, 1.0)),),
        sensor=Sensor(exposure=-0.3, white_balance=(0.95, 1.0, 1.08), contrast=1.1, noise=0.018),
    ),
    "evening-desk": Style(
        name="evening-desk",
        table=Material("wood", (0.36, 0.22, 0.14), (0.22, 0.12, 0.07), 1.2, 0.4, 0.5, 8),
        wall=Material("fabric", (0.42, 0.45, 0.50), (0.33, 0.36, 0.41), 1.0, 1.0, 0.0, 9),
        floor=Material("planks", (0.48, 0.36, 0.25), (0.33, 0.23, 0.15), 1.0, 0.5, 0.4, 10),
        ambient=(1.0, 0.85, 0.68),
        ambient_strength=0.5,
        lamps=(Lamp((0.3, 0.7, 1.1), 0.35, 2.0, (1.0, 0.82, 0.6)),),
        sensor=Sensor(exposure=-0.2, white_balance=(1.05, 1.0, 0.9), vignette=0.25, noise=0.02),
    ),
}
"""Styles for demonstrations; :func:`sample_style` makes all others."""


def sample_style(seed: int) -> Style:
    """Draw a style; the same seed gives the same style.

    Args:
        seed: Any non-negative integer.

    Returns:
        A plausible lab: materials, one to three lamps, ambient light and a sensor.
    """
    rng = np.random.default_rng([seed, 0x57E1])
    lamps = tuple(_sample_lamp(rng) for _ in range(rng.integers(1, 4)))
    warmth = rng.normal(0, 0.06)
    return Style(
        name=f"style-{seed}",
        table=_sample_material(rng, _TABLE_PATTERNS),
        wall=_sample_material(rng, _WALL_PATTERNS),
        floor=_sample_material(rng, _FLOOR_PATTERNS),
        ambient=_warm(rng.normal(0, 0.12)),
        ambient_strength=float(rng.uniform(0.4, 2.0)),
        lamps=lamps,
        object_roughness=float(rng.uniform(0.2, 0.8)),
        sensor=Sensor(
            exposure=float(rng.uniform(-0.5, 0.5)),
            white_balance=(float(1 + warmth), 1.0, float(1 - warmth)),
            contrast=float(rng.uniform(0.9, 1.25)),
            saturation=float(rng.uniform(0.75, 1.2)),
            blur=float(rng.uniform(0, 0.45)),
            vignette=float(rng.uniform(0, 0.3)),
            noise=float(rng.uniform(0.0, 0.03)),
        ),
    )


_TABLE_PATTERNS: tuple[Pattern, ...] = (
    "plain", "plain", "plain", "wood", "wood", "planks", "speckled", "speckled", "fabric",
)  # fmt: skip
_WALL_PATTERNS: tuple[Pattern, ...] = (
    "plain", "plain", "plaster", "plaster", "fabric", "bricks", "tiles",
)  # fmt: skip
_FLOOR_PATTERNS: tuple[Pattern, ...] = ("plain", "plain", "tiles", "planks", "speckled", "fabric")

_HUES: dict[str, tuple[Color, ...]] = {
    "wood": ((0.76, 0.60, 0.42), (0.58, 0.40, 0.25), (0.36, 0.23, 0.15), (0.85, 0.72, 0.53)),
    "neutral": ((0.92, 0.91, 0.89), (0.76, 0.75, 0.74), (0.55, 0.55, 0.56), (0.28, 0.28, 0.30)),
    "brick": ((0.62, 0.34, 0.26), (0.80, 0.77, 0.72), (0.50, 0.42, 0.38)),
}


def _sample_material(rng: np.random.Generator, patterns: tuple[Pattern, ...]) -> Material:
    pattern = patterns[rng.integers(len(patterns))]
    family = {"wood": "wood", "planks": "wood", "bricks": "brick"}.get(pattern, "neutral")
    hues = _HUES[family]
    base = np.array(hues[rng.integers(len(hues))])
    if family == "neutral" and rng.random() < 0.35:
        base = rng.uniform(0.2, 0.85, 3)
    color = np.clip(base * rng.uniform(0.8, 1.2) + rng.normal(0, 0.04, 3), 0.05, 0.95)
    shift = rng.choice([-1, 1]) if family != "wood" else -1
    accent = np.clip(color * (1 + shift * rng.uniform(0.1, 0.35)), 0.02, 0.97)
    return Material(
        pattern=pattern,
        color=(float(color[0]), float(color[1]), float(color[2])),
        accent=(float(accent[0]), float(accent[1]), float(accent[2])),
        scale=float(rng.uniform(0.6, 1.6)),
        roughness=float(rng.uniform(0.25, 0.95)),
        specular=float(rng.uniform(0.1, 0.6)),
        seed=int(rng.integers(2**31)),
    )


def _sample_lamp(rng: np.random.Generator) -> Lamp:
    return Lamp(
        position=(
            float(rng.uniform(-0.4, 1.3)),
            float(rng.uniform(-1.3, 1.3)),
            float(rng.uniform(1.2, 2.4)),
        ),
        size=float(rng.uniform(0.25, 1.4)),
        strength=float(rng.uniform(0.5, 2.0)),
        color=_warm(rng.normal(0.05, 0.12)),
    )


def _warm(amount: float) -> Color:
    """A light colour from cold (negative) over white to warm (positive)."""
    color = np.clip([1.0, 1.0 - 0.35 * abs(amount), 1.0 - amount], 0.3, 1.7)
    color = color / color.max()
    return (float(color[0]), float(color[1]), float(color[2]))


def describe(style: Style) -> str:
    """An instruction that asks for this style, in words that a person would use."""
    parts = [
        f"a {_color_name(style.table.color)} {_SURFACE[style.table.pattern]} table",
        f"a {_color_name(style.wall.color)} {_SURFACE[style.wall.pattern]} wall",
        f"a {_color_name(style.floor.color)} {_SURFACE[style.floor.pattern]} floor",
    ]
    return f"make it a photo of a lab with {', '.join(parts)}, {_light_words(style)} light"


_SURFACE: dict[Pattern, str] = {
    "plain": "plain",
    "wood": "wood",
    "planks": "plank",
    "speckled": "stone",
    "fabric": "fabric",
    "plaster": "plaster",
    "tiles": "tiled",
    "bricks": "brick",
}


def _light_words(style: Style) -> str:
    power = np.array([lamp.strength for lamp in style.lamps])
    tint = np.average([lamp.color for lamp in style.lamps], axis=0, weights=power)
    gains = tint * np.array(style.sensor.white_balance)
    warmth = gains[0] - gains[2]
    brightness = "dim" if style.sensor.exposure < -0.3 else "bright"
    if abs(warmth) < 0.06:
        return f"{brightness} neutral"
    return f"{brightness} {'warm' if warmth > 0 else 'cold'}"


def _color_name(color: Color) -> str:
    value = max(color)
    chroma = value - min(color)
    if chroma < 0.12:
        return ("black", "dark grey", "grey", "light grey", "white")[min(int(value * 5), 4)]
    hue = int(np.argmax(color))
    red, green, blue = color
    if hue == 0 and green > blue + 0.04:
        name = "brown" if value < 0.65 else "beige"
    elif hue == 0:
        name = "red" if green < blue + 0.04 and value < 0.7 else "pink"
    elif hue == 1:
        name = "green"
    else:
        name = "purple" if red > green + 0.08 else "blue"
    return f"dark {name}" if value < 0.4 else name
