"""Settings of the feedback: scores, judges and regions. This module needs no torch."""

from __future__ import annotations

import difflib
import math
import typing
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

from spie_robo.errors import ConfigError

StructureKind: TypeAlias = Literal["monocular", "paper", "simulator"]
SemanticKind: TypeAlias = Literal["nearest", "paper"]
RegionKind: TypeAlias = Literal["frame", "surroundings", "names", "masks", "phrase"]

EMBEDDED = "embedded"
"""Name of the judges that ship with the package and need no download."""

DREAMSIM = "dreamsim"
"""Name of the patch judge from the package ``dreamsim``."""

PATCH_STRIDES = (2, 4, 8, 16, 32)
"""Strides of the embedded patch judge.

A name has one, ``"embedded:stride8"``, or several, ``"embedded:stride4+stride16"``; plain
``"embedded"`` is stride 16.
"""

COLOR = "color"
"""Name of the mean colour of a patch, given beside strides: ``"embedded:color+stride16"``."""


@final
@dataclass(frozen=True)
class FeedbackConfig:
    """Settings of the scores of edits, checked when the record is made."""

    structure: StructureKind = "simulator"
    """monocular: estimated depth of input and edit, normalised; paper: the
    same, not normalised; simulator: depth of the edit against the true depth."""
    semantic: SemanticKind = "nearest"
    """nearest: each edit patch to its nearest photo patch; paper: mean over all pairs."""
    structural_weight: float = 1.0
    """Weight of the structural z-score; 0 trains on the semantic score only."""
    semantic_weight: float = 1.0
    """Weight of the semantic z-score (the paper's score_alpha)."""
    rec_lambda: float = 0.5
    """Weight of the squared pixel error outside the region."""
    depth_judge: str = EMBEDDED
    """embedded, or the folder or Hub id of a Depth Anything V2 model."""
    patch_judge: str = EMBEDDED
    """embedded, embedded:stride8, embedded:color+stride16, dreamsim, dreamsim:FOLDER,
    or a folder or Hub id of DINOv2."""
    region: RegionKind = "frame"
    """Part of the frame that should look like the photos: the whole frame; the surfaces
    that the simulator names (table, wall, floor; the whole frame if it names none);
    objects by name; mask PNGs beside the photos; or the part that a phrase describes."""
    region_names: tuple[str, ...] = ()
    """Object names of the simulator's segmentation, for names and masks."""
    region_phrase: str = ""
    """Description of the region, for phrase, e.g. "the wooden table"."""
    detector: str = ""
    """Folder or Hub id of a Grounding DINO model, for phrase."""
    segmenter: str = ""
    """Folder or Hub id of a SAM or SAM 2 model, for phrase."""

    def __post_init__(self) -> None:
        """Check every setting.

        Raises:
            ConfigError: If a setting is out of range, unknown, or does not fit the others.
        """
        _one_of("structure", self.structure, typing.get_args(StructureKind))
        _one_of("semantic", self.semantic, typing.get_args(SemanticKind))
        _one_of("region", self.region, typing.get_args(RegionKind))
        for name in ("structural_weight", "semantic_weight", "rec_lambda"):
            _not_negative(name, getattr(self, name))
        if self.structural_weight == self.semantic_weight == 0:
            raise ConfigError(
                "structural_weight, semantic_weight: expected one above 0, got 0 and 0: every "
                "edit would be as good as any other."
            )
        if not self.depth_judge.strip():
            raise ConfigError("depth_judge: expected 'embedded', a folder or a Hub id, got ''.")
        if not self.patch_judge.strip():
            raise ConfigError("patch_judge: expected 'embedded', a folder or a Hub id, got ''.")
        if self.patch_judge.partition(":")[0] == EMBEDDED:
            embedded_layers(self.patch_judge)
        self._check_region()

    def _check_region(self) -> None:
        """Check that the region has the settings that it needs, and none that it would ignore."""
        if isinstance(self.region_names, str) or not all(self.region_names):
            raise ConfigError(
                f"region_names: expected a list of object names, got {self.region_names!r}."
            )
        if self.region == "names" and not self.region_names:
            raise ConfigError("region_names: expected object names for region 'names', got none.")
        if self.region_names and self.region not in ("names", "masks"):
            raise ConfigError(
                f"region_names: given, but region is {self.region!r}. Set region to 'names' to "
                "use them, or leave them out."
            )
        for name in ("region_phrase", "detector", "segmenter"):
            given = bool(getattr(self, name).strip())
            if self.region == "phrase" and not given:
                raise ConfigError(
                    f"{name}: missing. Region 'phrase' needs region_phrase, detector (Grounding "
                    "DINO) and segmenter (SAM)."
                )
            if self.region != "phrase" and given:
                raise ConfigError(
                    f"{name}: given, but region is {self.region!r}. Set region to 'phrase' to "
                    "use it, or leave it out."
                )


def embedded_layers(name: str) -> tuple[tuple[int, ...], bool]:
    """Return the strides in a patch judge's name, finest first, and whether it has colour.

    Plain ``"embedded"`` is stride 16 without colour.

    Raises:
        ConfigError: If the name has another form, a layer is unknown or stands twice, or there
            is no stride.
    """
    if name == EMBEDDED:
        return (16,), False
    known = {f"stride{stride}": stride for stride in PATCH_STRIDES}
    layers = name.removeprefix(f"{EMBEDDED}:").split("+")
    for layer in layers:
        _one_of("patch_judge: layer of the embedded judge", layer, (*known, COLOR))
    if len(set(layers)) < len(layers):
        raise ConfigError(f"patch_judge: expected each layer once, got {name!r}.")
    strides = tuple(sorted(known[layer] for layer in layers if layer != COLOR))
    if not strides:
        raise ConfigError(f"patch_judge: expected a stride beside color, got {name!r}.")
    return strides, COLOR in layers


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value in known:
        return
    close = difflib.get_close_matches(str(value), known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    expected = ", ".join(map(repr, known))
    raise ConfigError(f"{name}: expected one of {expected}, got {value!r}.{hint}")


def _not_negative(name: str, value: float) -> None:
    if not math.isfinite(value) or value < 0:
        raise ConfigError(f"{name}: expected a finite number from 0 on, got {value}.")
