"""Turn the simulator's geometry into input channels of a network: depth, normals and outlines.

``depth (H, W), instances (H, W), focal length -> geometry_channels() -> (6, H, W)``

If a frame has no geometry all channels are zero, so that one model edits both kinds of frame.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHANNELS = 6
"""Channels: validity; logarithm of depth over its median; normal x, y, z; outlines."""

_BEND = 0.02
"""Second difference of inverse depth, as a share of it, at which a surface counts as bent."""

_DEEPEST = 2.0


def geometry_channels(depth: Tensor, instances: Tensor | None, focal: Tensor) -> Tensor:
    """Compute the channels of a batch of frames.

    Args:
        depth: float32, (B, H, W), metres along the optical axis; 0 or not finite where empty.
        instances: int, (B, H, W), instance ids; None: outlines come only from depth.
        focal: float32, (B,), focal length in pixels.

    Returns:
        float32, (B, 6, H, W), each about -2 to 2. Depth is relative to the frame's median, so that
        scenes of all sizes look alike.
    """
    valid = torch.isfinite(depth) & (depth > 0)
    metres = torch.where(valid, depth, torch.zeros_like(depth))
    flat = torch.where(valid, depth, torch.nan).flatten(1)
    median = flat.nanmedian(dim=1).values.nan_to_num(1.0).clamp(min=1e-3)
    relative = torch.log(metres.clamp(min=1e-3) / median[:, None, None])
    relative = torch.where(valid, relative.clamp(-_DEEPEST, _DEEPEST), _DEEPEST)
    normals = surface_normals(metres, focal) * valid[:, None]
    edges = outlines(metres, instances)
    channels = [valid.float()[:, None], relative[:, None], normals, edges[:, None]]
    return torch.cat(channels, dim=1)


def surface_normals(depth: Tensor, focal: Tensor) -> Tensor:
    """Compute unit normals that face the camera.

    Args:
        depth: float32, (B, H, W), metres; 0 where empty.
        focal: float32, (B,), focal length in pixels; the principal point is the centre.

    Returns:
        float32, (B, 3, H, W); x right, y down, z forward (OpenCV), z at most 0.
    """
    height, width = depth.shape[-2:]
    rows = torch.arange(height, device=depth.device) + 0.5 - height / 2
    columns = torch.arange(width, device=depth.device) + 0.5 - width / 2
    scale = depth / focal[:, None, None]
    points = torch.stack([columns * scale, rows[:, None] * scale, depth], dim=1)
    across = _smaller_step(points, dim=3)
    down = _smaller_step(points, dim=2)
    normals = torch.cross(down, across, dim=1)
    normals = torch.nn.functional.normalize(normals, dim=1, eps=1e-12)
    return torch.where(normals[:, 2:] > 0, -normals, normals)


def _smaller_step(points: Tensor, dim: int) -> Tensor:
    """Return the difference to the next or the last neighbour, whichever is nearer in depth."""
    last = points.shape[dim] - 1
    step = points.diff(dim=dim)
    after = torch.cat([step, step.narrow(dim, last - 1, 1)], dim=dim)
    before = torch.cat([step.narrow(dim, 0, 1), step], dim=dim)
    nearer = after[:, 2:].abs() <= before[:, 2:].abs()
    return torch.where(nearer, after, before)


def outlines(depth: Tensor, instances: Tensor | None) -> Tensor:
    """Find the ends of surfaces and instances.

    Along a plane inverse depth is linear in pixels, however steep the plane is; a surface ends
    where it bends or jumps.

    Args:
        depth: float32, (B, H, W), metres; 0 where empty.
        instances: int, (B, H, W), or None.

    Returns:
        float32, (B, H, W), 1 at pixels on both sides of an outline, else 0.
    """
    inverse = torch.where(depth > 0, 1 / depth.clamp(min=1e-3), torch.zeros_like(depth))
    found = torch.zeros_like(depth)
    for dim in (1, 2):
        length = depth.shape[dim]
        bend = inverse.diff(n=2, dim=dim).abs()
        scale = inverse.narrow(dim, 1, length - 2).clamp(min=1e-3)
        found.narrow(dim, 1, length - 2).masked_fill_(bend > _BEND * scale, 1.0)
        if instances is not None:
            borders = instances.diff(dim=dim) != 0
            found.narrow(dim, 0, length - 1).masked_fill_(borders, 1.0)
            found.narrow(dim, 1, length - 1).masked_fill_(borders, 1.0)
    return found
