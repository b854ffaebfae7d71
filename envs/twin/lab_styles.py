"""Labs with more in them than :func:`spie_robo.envs.twin.style.sample_style` has.

Boards with joints, polished tops that mirror what stands on them, small lamps that cast hard
shadows, muted paint: what the second embedded editor learns from, at 256x256. The older sampler
stays as it is, since the first editor's data and published figures name its seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spie_robo.envs.twin.style import Color, Lamp, Material, Pattern, Sensor, Style

_STREAM = 0x1AB5


@dataclass(frozen=True)
class _Surface:
    """A kind of surface has patterns, each with its share, and may be polished.

    Attributes:
        patterns: Patterns and their shares.
        polished: Share of polished ones, whose reflections are seen.
        scale: Lowest and highest size of the pattern's features.
    """

    patterns: tuple[tuple[Pattern, float], ...]
    polished: float
    scale: tuple[float, float]


_TABLE = _Surface(
    (
        ("planks", 0.26),
        ("wood", 0.22),
        ("plain", 0.24),
        ("speckled", 0.12),
        ("fabric", 0.06),
        ("tiles", 0.05),
        ("plaster", 0.05),
    ),
    0.35,
    (0.7, 2.4),
)
_WALL = _Surface(
    (("plain", 0.34), ("plaster", 0.30), ("bricks", 0.12), ("tiles", 0.10), ("wood", 0.08),
     ("fabric", 0.06)),
    0.05,
    (0.8, 2.6),
)  # fmt: skip
_FLOOR = _Surface(
    (("planks", 0.30), ("tiles", 0.25), ("speckled", 0.20), ("plain", 0.15), ("fabric", 0.10)),
    0.25,
    (0.9, 3.0),
)

_WOODS: tuple[Color, ...] = (
    (0.80, 0.66, 0.48), (0.72, 0.54, 0.36), (0.62, 0.44, 0.28), (0.48, 0.33, 0.21),
    (0.33, 0.22, 0.15), (0.87, 0.78, 0.63), (0.60, 0.50, 0.42), (0.52, 0.50, 0.47),
)  # fmt: skip
_PAINTS: tuple[Color, ...] = (
    (0.93, 0.92, 0.90), (0.88, 0.87, 0.83), (0.80, 0.80, 0.79), (0.66, 0.67, 0.68),
    (0.48, 0.49, 0.51), (0.30, 0.31, 0.33), (0.15, 0.15, 0.16), (0.84, 0.80, 0.71),
    (0.62, 0.70, 0.72), (0.52, 0.60, 0.55), (0.42, 0.50, 0.62), (0.70, 0.58, 0.50),
    (0.24, 0.33, 0.45), (0.34, 0.42, 0.34),
)  # fmt: skip
_BRICKS: tuple[Color, ...] = (
    (0.60, 0.34, 0.26), (0.70, 0.45, 0.34), (0.80, 0.77, 0.72), (0.50, 0.42, 0.38),
    (0.86, 0.84, 0.81),
)  # fmt: skip


def sample_lab_style(seed: int) -> Style:
    """Draw a lab; the same seed gives the same lab.

    Args:
        seed: Any non-negative integer.

    Returns:
        A style called ``"lab-<seed>"``.
    """
    rng = np.random.default_rng([seed, _STREAM])
    warmth = float(np.clip(rng.normal(0.01, 0.05), -0.12, 0.12))
    return Style(
        name=f"lab-{seed}",
        table=_material(rng, _TABLE),
        wall=_material(rng, _WALL),
        floor=_material(rng, _FLOOR),
        ambient=_tinted(float(rng.normal(-0.04, 0.10))),
        ambient_strength=float(rng.uniform(0.25, 1.4)),
        lamps=_lamps(rng),
        object_roughness=float(rng.uniform(0.15, 0.7)),
        sensor=Sensor(
            exposure=float(rng.uniform(-0.35, 0.35)),
            white_balance=(1 + warmth, 1.0, 1 - warmth),
            contrast=float(rng.uniform(0.95, 1.25)),
            saturation=float(rng.uniform(0.8, 1.2)),
            blur=float(rng.uniform(0, 0.2)),
            vignette=float(rng.uniform(0, 0.3)),
            noise=float(rng.uniform(0.0, 0.03)),
        ),
    )


def _material(rng: np.random.Generator, surface: _Surface) -> Material:
    names = [name for name, _ in surface.patterns]
    shares = np.array([share for _, share in surface.patterns])
    pattern = names[int(rng.choice(len(names), p=shares / shares.sum()))]
    palette = {"wood": _WOODS, "planks": _WOODS, "bricks": _BRICKS}.get(pattern, _PAINTS)
    base = np.array(palette[int(rng.integers(len(palette)))])
    color = np.clip(base * rng.uniform(0.88, 1.1) + rng.normal(0, 0.02, 3), 0.03, 0.96)
    darker = palette is _WOODS or rng.random() < 0.6
    amount = rng.uniform(0.2, 0.5) if palette is _WOODS else rng.uniform(0.1, 0.35)
    accent = np.clip(color * (1 - amount if darker else 1 + amount), 0.02, 0.97)
    polished = rng.random() < surface.polished
    return Material(
        pattern=pattern,
        color=_color(color),
        accent=_color(accent),
        scale=float(rng.uniform(*surface.scale)),
        roughness=float(rng.uniform(0.08, 0.22) if polished else rng.uniform(0.3, 0.95)),
        specular=float(rng.uniform(0.5, 0.9) if polished else rng.uniform(0.1, 0.5)),
        seed=int(rng.integers(2**31)),
    )


def _lamps(rng: np.random.Generator) -> tuple[Lamp, ...]:
    """Often one small strong lamp that casts shadows, and up to three wide ones."""
    lamps = []
    if rng.random() < 0.7:
        lamps.append(_lamp(rng, (0.08, 0.4), (1.5, 4.0)))
    for _ in range(rng.integers(0 if lamps else 1, 4)):
        lamps.append(_lamp(rng, (0.5, 1.6), (0.4, 1.5)))
    return tuple(lamps)


def _lamp(
    rng: np.random.Generator, size: tuple[float, float], strength: tuple[float, float]
) -> Lamp:
    return Lamp(
        position=(
            float(rng.uniform(-0.7, 1.5)),
            float(rng.uniform(-1.4, 1.4)),
            float(rng.uniform(1.1, 2.6)),
        ),
        size=float(rng.uniform(*size)),
        strength=float(rng.uniform(*strength)),
        color=_tinted(float(rng.normal(0.05, 0.10))),
    )


def _tinted(amount: float) -> Color:
    """A light colour from cold (negative) over white to warm (positive)."""
    color = np.clip([1.0, 1.0 - 0.35 * abs(amount), 1.0 - amount], 0.4, 1.5)
    return _color(color / color.max())


def _color(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Color:
    return (float(values[0]), float(values[1]), float(values[2]))
