"""Depth, normals and outlines as channels of a network's input."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from spie_robo.editor.frame_geometry import (
    CHANNELS,
    geometry_channels,
    outlines,
    surface_normals,
)

FOCAL = 40.0


def plane(normal: tuple[float, float, float], distance: float, size: int = 48) -> Tensor:
    """Depth (1, size, size) of the plane n . p = -distance seen from the origin."""
    grid = (torch.arange(size) + 0.5 - size / 2) / FOCAL
    rays = torch.stack(
        [grid.expand(size, size), grid[:, None].expand(size, size), torch.ones(size, size)]
    )
    along = (torch.tensor(normal)[:, None, None] * rays).sum(dim=0)
    return (-distance / along)[None]


@pytest.mark.parametrize("tilt", [0.0, 0.4, -0.9, 1.2])
def test_normals_of_a_plane_are_the_planes_own(tilt: float) -> None:
    normal = (0.0, math.sin(tilt) * 0.7, -math.sqrt(1 - (math.sin(tilt) * 0.7) ** 2))
    found = surface_normals(plane(normal, 1.5), torch.tensor([FOCAL]))
    torch.testing.assert_close(
        found[0], torch.tensor(normal)[:, None, None].expand(3, 48, 48), atol=2e-3, rtol=0
    )


def test_a_steep_plane_has_no_outlines_and_a_step_has_two_pixels() -> None:
    steep = plane((0.0, -0.6, -0.8), 1.0, 32)
    assert (steep > 0).all() and outlines(steep, None).sum() == 0
    step = torch.full((1, 16, 16), 1.0)
    step[:, :, 8:] = 1.5
    columns = torch.nonzero(outlines(step, None)[0, 5]).ravel().tolist()
    assert columns == [7, 8]


def test_instances_that_touch_are_told_apart() -> None:
    flat = torch.ones(1, 16, 16)
    ids = torch.zeros(1, 16, 16, dtype=torch.long)
    ids[:, 10:] = 4
    rows = torch.nonzero(outlines(flat, ids)[0, :, 3]).ravel().tolist()
    assert rows == [9, 10] and outlines(flat, None).sum() == 0


def test_channels_do_not_depend_on_the_unit_of_length() -> None:
    depth = plane((0.0, -0.6, -0.8), 1.0, 32)
    depth[:, :4] = 0
    one = geometry_channels(depth, None, torch.tensor([FOCAL]))
    other = geometry_channels(depth * 7, None, torch.tensor([FOCAL]))
    assert one.shape == (1, CHANNELS, 32, 32)
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert one[:, 0, :4].sum() == 0 and one[:, 0, 4:].min() == 1
    assert (one[:, 2:5, :4] == 0).all()


def test_infinite_and_missing_depth_count_as_nothing() -> None:
    depth = torch.ones(2, 16, 16)
    depth[0, 3, 3], depth[0, 5, 5] = math.inf, math.nan
    depth[1] = 0
    found = geometry_channels(depth, None, torch.tensor([FOCAL, FOCAL]))
    assert torch.isfinite(found).all()
    assert found[0, 0, 3, 3] == found[0, 0, 5, 5] == 0 and found[1, 0].sum() == 0
