"""Reports of an episode store and of a training run: a page each, and a Rerun recording.

``store -> collect -> content (records) -> page (template.html, style.css, script.js) -> one file``
``run -> run_collect -> run_content -> curves, run_page (run.html, style.css, run.js) -> one file``
``store -> rerun_recording -> one file for the Rerun viewer``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spie_robo.report.page import write_report
    from spie_robo.report.rerun_recording import write_recording
    from spie_robo.report.run_page import write_run_report

__all__ = ["write_recording", "write_report", "write_run_report"]


def __getattr__(name: str) -> Any:
    """Import OpenCV, zarr and Jinja only when a report is written."""
    if name == "write_report":
        from spie_robo.report.page import write_report

        return write_report
    if name == "write_recording":
        from spie_robo.report.rerun_recording import write_recording

        return write_recording
    if name == "write_run_report":
        from spie_robo.report.run_page import write_run_report

        return write_run_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
