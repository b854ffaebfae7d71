"""Packages of the extra ``formats``: imported when a format needs them, and not before."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from spie_robo.errors import MissingExtraError


def need(module: str) -> Any:
    """Import an optional package.

    Args:
        module: Name to import, e.g. ``"pyarrow.parquet"``.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(
            f"This format needs the package {package}, which is not installed. Install it: "
            "pip install 'spie-robo[formats]'"
        ) from error
