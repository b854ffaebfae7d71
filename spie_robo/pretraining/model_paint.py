"""Random colours and lights of a MuJoCo model, so that no editor learns one simulator's look."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.envs.scene_state import Role

if TYPE_CHECKING:
    import mujoco

_PAINTED = (
    "geom_rgba", "geom_matid", "mat_rgba", "site_rgba", "light_pos", "light_dir", "light_diffuse",
    "light_ambient", "light_specular", "light_castshadow",
)  # fmt: skip
_ROBOT_COLORS = (
    (0.95, 0.95, 0.95), (0.80, 0.81, 0.83), (0.55, 0.56, 0.58), (0.12, 0.12, 0.13),
    (0.90, 0.45, 0.10), (0.75, 0.12, 0.10), (0.12, 0.30, 0.65), (0.85, 0.75, 0.20),
)  # fmt: skip


@final
class ModelPaint:
    """Paints a model at random, each time from its own colours.

    Robots and objects keep their textures; a twin of the painted model has their colours too.
    Colours of surfaces and background are the simulator's alone.

    Args:
        model: What to paint, in place.
        roles: The role of each geom.
    """

    def __init__(self, model: mujoco.MjModel, roles: Sequence[Role]) -> None:
        """Remember how the model looks."""
        self._model, self._roles = model, tuple(roles)
        self._own = {name: getattr(model, name).copy() for name in _PAINTED}
        headlight = model.vis.headlight
        self._headlight = [
            np.array(values)
            for values in (headlight.ambient, headlight.diffuse, headlight.specular)
        ]

    def restore(self) -> None:
        """Undo every change."""
        for name, values in self._own.items():
            getattr(self._model, name)[:] = values
        headlight = self._model.vis.headlight
        headlight.ambient[:], headlight.diffuse[:], headlight.specular[:] = self._headlight

    def paint(self, rng: np.random.Generator) -> None:
        """Draw new colours and lights."""
        self.restore()
        if rng.random() < 0.75:
            self._paint_room(rng)
        if rng.random() < 0.6:
            self._paint_objects(rng)
        if rng.random() < 0.35:
            self._paint_robot(rng)
        if rng.random() < 0.8:
            self._light(rng)

    def _paint_room(self, rng: np.random.Generator) -> None:
        for geom in self._with_role("surface", "background"):
            if rng.random() < 0.85:
                self._set(geom, random_color(rng, vivid=0.4))

    def _paint_objects(self, rng: np.random.Generator) -> None:
        for geom in self._with_role("object"):
            if not self._textured(geom) and rng.random() < 0.8:
                self._set(geom, random_color(rng, vivid=0.8))
        for site in range(self._model.nsite):
            if self._own["site_rgba"][site, 3] > 0 and rng.random() < 0.5:
                self._model.site_rgba[site, :3] = random_color(rng, vivid=0.9)

    def _paint_robot(self, rng: np.random.Generator) -> None:
        """One new colour for each colour that the robot has."""
        painted: dict[tuple[float, ...], NDArray[np.float64]] = {}
        for geom in self._with_role("robot"):
            if self._textured(geom):
                continue
            material = int(self._own["geom_matid"][geom])
            own = self._own["mat_rgba"][material] if material >= 0 else self._own["geom_rgba"][geom]
            key = tuple(np.round(own, 3).tolist())
            if key not in painted:
                choice = np.array(_ROBOT_COLORS[int(rng.integers(len(_ROBOT_COLORS)))])
                painted[key] = np.clip(choice + rng.normal(0, 0.05, 3), 0, 1)
            self._set(geom, painted[key])

    def _light(self, rng: np.random.Generator) -> None:
        model, headlight = self._model, self._model.vis.headlight
        headlight.ambient[:] = rng.uniform(0.15, 0.45)
        headlight.diffuse[:] = rng.uniform(0.2, 0.7)
        headlight.specular[:] = rng.uniform(0.0, 0.5)
        # However many there are, together they must not bleach the picture.
        strongest = 0.9 / max(1.0, model.nlight / 1.5)
        for light in range(model.nlight):
            model.light_pos[light] += rng.normal(0, 0.5, 3)
            model.light_dir[light] += rng.normal(0, 0.3, 3)
            model.light_dir[light] /= np.linalg.norm(model.light_dir[light])
            model.light_diffuse[light] = rng.uniform(0.1, strongest) * rng.uniform(0.85, 1.0, 3)
            model.light_castshadow[light] = rng.random() < 0.6

    def _with_role(self, *roles: Role) -> list[int]:
        return [geom for geom, role in enumerate(self._roles) if role in roles]

    def _textured(self, geom: int) -> bool:
        material = int(self._own["geom_matid"][geom])
        return material >= 0 and bool((self._model.mat_texid[material] >= 0).any())

    def _set(self, geom: int, color: NDArray[np.float64]) -> None:
        """Give a geom a colour, unless it is one that is not to be seen."""
        material = int(self._own["geom_matid"][geom])
        own = self._own["mat_rgba"][material] if material >= 0 else self._own["geom_rgba"][geom]
        self._model.geom_matid[geom] = -1
        self._model.geom_rgba[geom] = [*color, own[3]]


def random_color(rng: np.random.Generator, vivid: float) -> NDArray[np.float64]:
    """An sRGB colour, float64 (3,): grey, or with a hue of its own.

    Args:
        rng: Source of randomness.
        vivid: Share of saturated ones.
    """
    hue, value = rng.random(), rng.uniform(0.1, 0.98)
    saturation = rng.uniform(0.4, 0.95) if rng.random() < vivid else rng.uniform(0, 0.15)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value))


def random_sky(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """A background for pixels that show nothing, uint8 (height, width, 3): plain or a gradient."""
    top, bottom = random_color(rng, vivid=0.4), random_color(rng, vivid=0.3)
    if rng.random() < 0.5:
        bottom = top
    share = np.linspace(0, 1, height)[:, None, None]
    image = np.broadcast_to(top + share * (bottom - top), (height, width, 3))
    return np.asarray(image * 255, np.uint8)
