"""The one place that imports Mitsuba, an optional dependency."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spie_robo.errors import MissingExtraError


@functools.cache
def mitsuba() -> Any:
    """Mitsuba in its scalar variant, which needs no LLVM.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import mitsuba as mi
    except ImportError as error:
        raise MissingExtraError(
            "The photoreal twin needs Mitsuba 3: pip install 'spie-robo[photoreal]'."
        ) from error
    mi.set_variant("scalar_rgb")
    mi.set_log_level(mi.LogLevel.Error)
    return mi


def transform(matrix: NDArray[np.floating[Any]]) -> Any:
    """Mitsuba's form of a (4, 4) matrix."""
    return mitsuba().ScalarTransform4f(matrix.tolist())
