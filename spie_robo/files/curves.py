"""Write curves for TensorBoard; a run without that extra logs it once and goes on."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from spie_robo.errors import ConfigError

AddPoint: TypeAlias = Callable[[str, float, int], None]
"""``add(name, value, step)``: one point of one curve."""


def tensorboard_installed() -> bool:
    """Return whether curves can be written; if not, print on stderr what to install."""
    if importlib.util.find_spec("tensorboard") is not None:
        return True
    advice = "pip install 'spie-robo[tensorboard]' if you want them"
    print(f"No curves for TensorBoard are written: {advice}.", file=sys.stderr)
    return False


@contextmanager
def open_curves(folder: Path, first_step: int) -> Iterator[AddPoint]:
    """Write curves while it lasts; without TensorBoard, points go nowhere.

    Args:
        folder: Where TensorBoard's files are written.
        first_step: An earlier try's points from this step on are hidden.

    Raises:
        ConfigError: If nothing can be written there.
    """
    if not tensorboard_installed():
        yield lambda name, value, step: None
        return
    from torch.utils.tensorboard import SummaryWriter

    try:
        writer = SummaryWriter(str(folder), purge_step=first_step)
    except OSError as error:
        raise ConfigError(
            f"{folder}: the log cannot be written there: {error.strerror}. Choose another --out."
        ) from error
    with writer:
        yield writer.add_scalar
