"""Scenes as tensors: what the guard's measurements read, on the editor's device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from spie_robo.guard.outlines import Scene


@final
@dataclass(frozen=True, eq=False)
class Stack:
    """Several scenes of one size; B scenes, P points, M pieces, G silhouettes, padded.

    Attributes:
        raw: float32, (B, 3, H, W), 0..255: the raw frames.
        points: float32, (B, P, 2): column and row; pixel centres are integers.
        normals: float32, (B, P, 2).
        piece: int64, (B, P): the piece of a point; M where padded.
        count: float32, (B, M): points a piece; 0 where padded.
        centre: float32, (B, M, 2): mean point of a piece.
        normal: float32, (B, M, 2): mean normal of a piece, of length 1.
        member: float32, (B, G, M): 1 where a silhouette owns a piece.
        middle: float32, (B, G, 2): centre of a silhouette.
        radius: float32, (B, G): radius of an object; 0 for goals and the robot, whose size is not
            judged.
        inside: int64, (B, Q): index of each pixel that an object or goal covers; 0 where padded.
        inside_of: int64, (B, Q): the silhouette of such a pixel; G where padded.
        surfaces: int64, (B, H, W): the smooth surface of a pixel; 0 near rims.
        share: float32, (B, H, W).
        trust: float32, (B, H, W).
        pixels: Grid pixels a reference pixel.
    """

    raw: Tensor
    points: Tensor
    normals: Tensor
    piece: Tensor
    count: Tensor
    centre: Tensor
    normal: Tensor
    member: Tensor
    middle: Tensor
    radius: Tensor
    inside: Tensor
    inside_of: Tensor
    surfaces: Tensor
    share: Tensor
    trust: Tensor
    pixels: float


def stack_scenes(scenes: Sequence[Scene], device: torch.device | str) -> Stack:
    """Put scenes of one size on a device.

    Args:
        scenes: One or more, all with the same height and width.
        device: Where the measurements are made.
    """
    pieces = max((len(scene.owner) for scene in scenes), default=0)
    groups = max((len(scene.silhouettes) for scene in scenes), default=0)
    points = _padded([torch.from_numpy(scene.points) for scene in scenes], device)
    normals = _padded([torch.from_numpy(scene.normals) for scene in scenes], device)
    piece = _padded([torch.from_numpy(scene.piece) for scene in scenes], device, pieces)
    owner = _padded([torch.from_numpy(scene.owner) for scene in scenes], device, -1)
    # Means over a piece: a sum into one more piece than there are, which takes the padding.
    ones = torch.ones_like(piece, dtype=torch.float32)
    count = sum_pieces(ones[..., None], piece, pieces)[..., 0]
    share = count.clamp(min=1)[..., None]
    normal = sum_pieces(normals, piece, pieces) / share
    numbers = torch.arange(groups, device=device)
    covered = [_covered(scene) for scene in scenes]
    member = (owner[:, None] == numbers[:, None]).float() * (count[:, None] > 0)
    return Stack(
        raw=images_on([scene.raw for scene in scenes], device),
        points=points,
        normals=normals,
        piece=piece,
        count=count,
        centre=sum_pieces(points, piece, pieces) / share,
        normal=normal / normal.norm(dim=-1, keepdim=True).clamp(min=1e-6),
        member=member,
        middle=_of_silhouettes([[s.centre for s in scene.silhouettes] for scene in scenes], device)
        if groups
        else torch.zeros(len(scenes), 0, 2, device=device),
        radius=_radii(scenes, groups, device),
        inside=_padded([inside for inside, _ in covered], device),
        inside_of=_padded([owner for _, owner in covered], device, groups),
        surfaces=torch.from_numpy(np.stack([scene.surfaces for scene in scenes])).to(device),
        share=torch.from_numpy(np.stack([scene.share for scene in scenes])).to(device),
        trust=torch.from_numpy(np.stack([scene.trust for scene in scenes])).to(device),
        pixels=scenes[0].pixels,
    )


def images_on(images: Sequence[np.ndarray], device: torch.device | str) -> Tensor:
    """uint8 pictures of one size as float32, (B, 3, H, W), 0..255.

    Args:
        images: uint8, (H, W, 3) each.
        device: Where to.
    """
    return torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float()


def smooth(images: Tensor, side: float) -> Tensor:
    """Blur with the weights (side, 1 - 2 side, side) in both directions; borders are replicated.

    Sums of slices, since torch's grouped convolutions take eight times as long on a CPU.

    Args:
        images: float32, (B, C, H, W).
        side: Weight of each neighbour, 0 to 1/3; 1/4 adds half a square pixel of variance.
    """
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    centre = (1 - 2 * side) / side
    rows = padded[..., :-2, :] + centre * padded[..., 1:-1, :] + padded[..., 2:, :]
    return (rows[..., :-2] + centre * rows[..., 1:-1] + rows[..., 2:]) * side**2


def sum_pieces(values: Tensor, piece: Tensor, pieces: int) -> Tensor:
    """Add up values of points that belong to one piece.

    Args:
        values: float32, (B, P, C).
        piece: int64, (B, P): 0 to ``pieces``; the last is dropped.
        pieces: M.

    Returns:
        float32, (B, M, C).
    """
    batch, _, channels = values.shape
    total = values.new_zeros(batch, pieces + 1, channels)
    return total.scatter_add_(1, piece[..., None].expand_as(values), values)[:, :pieces]


def _padded(parts: list[Tensor], device: torch.device | str, value: float = 0.0) -> Tensor:
    return pad_sequence(parts, batch_first=True, padding_value=value).to(device)


def _of_silhouettes(values: list[list[tuple[float, float]]], device: torch.device | str) -> Tensor:
    return _padded(
        [torch.tensor(one, dtype=torch.float32).reshape(-1, 2) for one in values], device
    )


def _radii(scenes: Sequence[Scene], groups: int, device: torch.device | str) -> Tensor:
    radii = torch.zeros(len(scenes), groups)
    for row, scene in zip(radii, scenes, strict=True):
        for index, one in enumerate(scene.silhouettes):
            row[index] = one.radius if one.role == "object" else 0.0
    return radii.to(device)


def _covered(scene: Scene) -> tuple[Tensor, Tensor]:
    """Pixels that objects and goals cover, and which of them each does."""
    parts = [
        (np.flatnonzero(one.mask), index)
        for index, one in enumerate(scene.silhouettes)
        if one.role != "robot"
    ]
    inside = np.concatenate([pixels for pixels, _ in parts]) if parts else np.zeros(0, np.int64)
    owner = np.repeat([index for _, index in parts], [len(pixels) for pixels, _ in parts])
    return torch.from_numpy(inside), torch.from_numpy(owner.astype(np.int64))
