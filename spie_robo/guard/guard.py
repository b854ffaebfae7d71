"""The guard: is every object in the edit still where the frame's own geometry says it is?

The edit is compared with its own raw frame and with the simulator's truth, and no network is asked
what it shows. Outlines that the raw frame draws must be drawn in place (``outline``), and must not
have moved (``moved_px``), grown or shrunk (``resized_px``). The rims of the picture must not be
bent (``warped_px``). Nothing may stand out that the raw frame does not have (``inserted``,
``added``), and objects must not have exchanged their colours (``swapped``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray

from spie_robo.errors import FrameError
from spie_robo.guard.budget import AT_LEAST, DEVIATION_NAMES, GuardBudget
from spie_robo.guard.colours import chroma_drift
from spie_robo.guard.measuring import MEASURED, measure_edits
from spie_robo.guard.outlines import Scene, on_grid, scene_of
from spie_robo.guard.reasons import Finding, reason_of
from spie_robo.guard.roles import Role, check_roles
from spie_robo.guard.stack import images_on, stack_scenes
from spie_robo.types import RGB, Deviation, EditResult, Frame, GeometrySource, GuardVerdict

Measurement: TypeAlias = tuple[float, ...]
"""One value for each of :data:`DEVIATION_NAMES`; NaN where nothing could be measured."""

_BATCH: Final = 32
"""Most frames that an accelerator measures at once."""


@final
@dataclass(frozen=True, eq=False)
class GeometryGuard:
    """Measures edits against the geometry of their frames; implements ``types.Guard``.

    Attributes:
        budget: The limits of acceptance; the calibrated ones by default.
        protect: Instance names or ids whose colour matters; their drift is measured.
        roles: Patterns of instance names and what they are for the task, e.g.
            ``{"tablelink": "surface"}``; tried before the built-in table of
            :mod:`spie_robo.guard.roles`.
        device: Where measurements are made; the editor's, if that is a GPU.

    Example:
        >>> import numpy as np
        >>> from spie_robo.types import EditResult, Frame
        >>> frame = Frame(np.zeros((64, 64, 3), np.uint8))
        >>> verdict = GeometryGuard().judge(frame, EditResult(frame.rgb, 0, "", "identity", 0))
        >>> verdict.accepted, verdict.source
        (True, 'estimate')

    Raises:
        ConfigError: If a role is unknown.
    """

    budget: GuardBudget = field(default_factory=GuardBudget)
    protect: tuple[str | int, ...] = ()
    roles: Mapping[str, Role] = field(default_factory=dict)
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Validate the roles."""
        check_roles(self.roles)

    @property
    def description(self) -> dict[str, Any]:
        """Settings that verdicts depend on, in plain values, as a store records them."""
        protect = [one if isinstance(one, str) else int(one) for one in self.protect]
        roles = {"roles": dict(self.roles)} if self.roles else {}
        return {"limits": asdict(self.budget), "protect": protect, **roles}

    def judge(self, frame: Frame, edit: EditResult) -> GuardVerdict:
        """Measure one edit against the geometry of its frame.

        Args:
            frame: The raw frame. Without depth or segmentation its own edges stand in for them.
            edit: Its edit, of the same size.

        Returns:
            The verdict, with one deviation for each of ``DEVIATION_NAMES``, in that order.

        Raises:
            FrameError: If the edit has another size than the frame.
        """
        return self.judge_batch([frame], [edit])[0]

    def judge_batch(
        self, frames: Sequence[Frame], edits: Sequence[EditResult]
    ) -> list[GuardVerdict]:
        """The same for several frames at once; on a CPU equal to judging them one by one.

        Raises:
            FrameError: If an edit has another size than its frame, or their numbers differ.
        """
        findings = self._find(frames, [edit.rgb for edit in edits])
        return [self._verdict(frame, found) for frame, found in zip(frames, findings, strict=True)]

    def measure_batch(self, frames: Sequence[Frame], images: Sequence[RGB]) -> list[Measurement]:
        """The deviations alone, without limits: what calibration needs.

        Args:
            frames: The raw frames.
            images: uint8: an edit of each frame, of the same size.

        Returns:
            One measurement a frame.

        Raises:
            FrameError: As :meth:`judge_batch`.
        """
        found = self._find(frames, images)
        return [tuple(finding.value for finding in of_frame) for of_frame in found]

    def _find(self, frames: Sequence[Frame], images: Sequence[RGB]) -> list[list[Finding]]:
        if len(frames) != len(images):
            raise FrameError(f"Expected one edit a frame: {len(frames)} frames, {len(images)}.")
        for frame, image in zip(frames, images, strict=True):
            if image.shape != frame.rgb.shape:
                raise FrameError(
                    f"Edit of camera {frame.camera!r}: expected shape {frame.rgb.shape} like its "
                    f"frame, got {image.shape}. Resize the edit to its frame's size."
                )
        distinct = {id(frame): frame for frame in frames}  # several edits may share a frame
        scenes = {key: scene_of(frame, self.roles) for key, frame in distinct.items()}
        of_edit = [scenes[id(frame)] for frame in frames]
        found: dict[int, list[Finding]] = {}
        for batch in _batches(of_edit, self.device):
            found |= zip(batch, self._measured(of_edit, images, batch), strict=True)
        return [
            [*found[i], self._drift(frame, image)]
            for i, (frame, image) in enumerate(zip(frames, images, strict=True))
        ]

    def _measured(
        self, scenes: Sequence[Scene], images: Sequence[RGB], batch: Sequence[int]
    ) -> list[list[Finding]]:
        """Measure some edits, in the order of ``MEASURED``."""
        chosen = [scenes[i] for i in batch]
        size = chosen[0].raw.shape[1::-1]
        edits = images_on([on_grid(images[i], size) for i in batch], self.device)
        measures = measure_edits(stack_scenes(chosen, self.device), edits)
        rows = zip(
            measures.values.tolist(),
            measures.places.tolist(),
            measures.silhouettes.tolist(),
            strict=True,
        )
        return [
            [
                Finding.of(scene, name, value, place, about)
                for name, value, place, about in zip(MEASURED, *row, strict=True)
            ]
            for scene, row in zip(chosen, rows, strict=True)
        ]

    def _drift(self, frame: Frame, image: RGB) -> Finding:
        return Finding("chroma_drift", chroma_drift(frame.rgb, image, self._protected(frame)))

    def _protected(self, frame: Frame) -> NDArray[np.bool_]:
        """Return the pixels of a frame that belong to protected instances, (height, width)."""
        geometry = frame.geometry
        if geometry is None or geometry.segmentation is None or not self.protect:
            return np.zeros(frame.rgb.shape[:2], np.bool_)
        known = set(geometry.names.values())
        unknown = [one for one in self.protect if isinstance(one, str) and one not in known]
        if known and unknown:
            raise FrameError(
                f"protect: no object is called {unknown[0]!r} in camera {frame.camera!r}. Its "
                f"objects: {', '.join(sorted(known))}."
            )
        ids = [entry for entry in self.protect if not isinstance(entry, str)]
        ids += [number for number, name in geometry.names.items() if name in self.protect]
        return np.isin(geometry.segmentation, ids)

    def _verdict(self, frame: Frame, found: Sequence[Finding]) -> GuardVerdict:
        """Hold a measurement against the budget and say in one sentence what came of it."""
        source = _source(frame)
        limits = [self.budget.limit(finding.name, source == "estimate") for finding in found]
        measured = tuple(
            Deviation(finding.name, finding.value, limit, finding.name not in AT_LEAST)
            for finding, limit in zip(found, limits, strict=True)
        )
        width = frame.rgb.shape[1]
        broken = [
            reason_of(finding, deviation, width)
            for finding, deviation in zip(found, measured, strict=True)
            if deviation.exceeded
        ]
        if broken:
            more = f"; and {len(broken) - 2} more" if len(broken) > 2 else ""
            reason = f"Rejected: {'; '.join(broken[:2])}{more}."
            return GuardVerdict(False, measured, reason, source)
        count = sum(not math.isnan(finding.value) for finding in found)
        reason = f"Accepted: {count} of {len(found)} deviations measured, all within their limits."
        return GuardVerdict(True, measured, reason, source)


def _batches(scenes: Sequence[Scene], device: str) -> list[list[int]]:
    """Group the edits that are measured together.

    On a CPU one by one: sums may round differently beside longer neighbours, and a verdict must not
    depend on its batch.
    """
    most = 1 if torch.device(device).type == "cpu" else _BATCH
    sizes: dict[tuple[int, ...], list[int]] = {}
    for index, scene in enumerate(scenes):
        sizes.setdefault((*scene.raw.shape, round(scene.pixels * 1000)), []).append(index)
    return [
        group[start : start + most]
        for group in sizes.values()
        for start in range(0, len(group), most)
    ]


def _source(frame: Frame) -> GeometrySource:
    geometry = frame.geometry
    if geometry is None or (geometry.depth is None and geometry.segmentation is None):
        return "estimate"
    return geometry.origin


assert (*MEASURED, "chroma_drift") == DEVIATION_NAMES  # a verdict lists what is measured, in order
