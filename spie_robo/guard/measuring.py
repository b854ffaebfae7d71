"""All measurements of a batch of edits: tensors in, tensors out, on the editor's device.

``Stack, edits -> Measures``: for each edit one value a measurement, where in the picture it was
found, and which silhouette it is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from spie_robo.guard.colours import swapped
from spie_robo.guard.placement import place
from spie_robo.guard.rims import read_rims
from spie_robo.guard.stack import Stack
from spie_robo.guard.surfaces import new_structure

MEASURED: Final = (
    "outline",
    "moved_px",
    "resized_px",
    "warped_px",
    "inserted",
    "added",
    "swapped",
)
"""Names of what :func:`measure_edits` returns, in this order."""


@final
@dataclass(frozen=True, eq=False)
class Measures:
    """Measurements of B edits, in the order of :data:`MEASURED`.

    Attributes:
        values: float32, (B, 7); NaN where a frame offers nothing to measure. Lengths are in pixels
            of a frame 128 pixels wide.
        places: float32, (B, 7, 2): column and row where the value was found, in pixels of the grid.
        silhouettes: int64, (B, 7, 2): the silhouettes that it is about; -1 for none.
    """

    values: Tensor
    places: Tensor
    silhouettes: Tensor


@torch.inference_mode()
def measure_edits(stack: Stack, edits: Tensor) -> Measures:
    """Measure edits against what their frames show.

    Args:
        stack: What the edits are held to.
        edits: float32, (B, 3, H, W), 0..255, in the order of the stack.
    """
    placement = place(stack, read_rims(stack, edits))
    structure = new_structure(stack, edits)
    unseen = torch.where(placement.judged, 0.0, torch.nan)
    rows = [
        _worst(-(placement.outline + unseen), stack.middle),
        _worst(placement.moved + unseen, stack.middle),
        _worst(placement.resized + unseen, stack.middle),
        _worst(placement.warped, placement.windows.expand(len(edits), -1, -1)),
        _found(structure.inserted, structure.inserted_at),
        _found(structure.added, structure.added_at),
        _exchanged(stack, edits),
    ]
    values, places, silhouettes = (torch.stack(part, dim=1) for part in zip(*rows, strict=True))
    values[:, 0].neg_()
    values[:, 4] = torch.where((stack.surfaces > 0).flatten(1).any(1), values[:, 4], torch.nan)
    silhouettes[:, 3] = -1  # a window is no silhouette
    return Measures(values, places, silhouettes)


_Row = tuple[Tensor, Tensor, Tensor]


def _worst(values: Tensor, places: Tensor) -> _Row:
    """The highest value of each row that is a number, its place, and which it is."""
    if not values.shape[1]:
        return _nothing(values)
    known = torch.where(values.isnan(), -torch.inf, values)
    highest, index = known.max(1)
    place = places.gather(1, index[:, None, None].expand(-1, 1, 2))[:, 0]
    found = torch.where(highest.isinf(), torch.nan, highest)
    return found, place, torch.stack([index, torch.full_like(index, -1)], dim=1)


def _found(value: Tensor, place: Tensor) -> _Row:
    return value, place.to(value.dtype), torch.full_like(place, -1)


def _exchanged(stack: Stack, edits: Tensor) -> _Row:
    """The pair of silhouettes whose colours are most surely exchanged."""
    groups = stack.radius.shape[1]
    pairs = swapped(stack, edits).flatten(1)
    if not pairs.shape[1]:
        return _nothing(pairs)
    known = torch.where(pairs.isnan(), -torch.inf, pairs)
    highest, index = known.max(1)
    both = torch.stack([index // groups, index % groups], dim=1)
    place = stack.middle.gather(1, both[:, :1, None].expand(-1, 1, 2))[:, 0]
    return torch.where(highest.isinf(), torch.nan, highest), place, both


def _nothing(values: Tensor) -> _Row:
    batch = len(values)
    return (
        values.new_full((batch,), torch.nan),
        values.new_zeros(batch, 2),
        torch.full((batch, 2), -1, device=values.device),
    )
