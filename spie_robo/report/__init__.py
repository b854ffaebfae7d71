"""The HTML report of an episode store: before/after sliders and the guard's verdicts over time.

``store -> collect -> content (records) -> page (template.html, style.css, script.js) -> one file``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spie_robo.report.page import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> Any:
    """Import OpenCV, zarr and Jinja only when a report is written."""
    if name == "write_report":
        from spie_robo.report.page import write_report

        return write_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
