"""The page of a training run: one HTML file, which needs no network."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from spie_robo.files.output import write_text
from spie_robo.reporting import curves
from spie_robo.reporting.run_collect import MAX_PICTURES, collect_run
from spie_robo.reporting.run_content import RunContent


def write_run_report(folder: str | Path, out: str | Path, *, pictures: int = MAX_PICTURES) -> Path:
    """Write the report of a training run: scores and pictures of each epoch.

    Args:
        folder: What ``spie-robo train`` wrote; the run may still be going on.
        out: The HTML file; an earlier one is replaced once the new one is whole.
        pictures: Epochs that get a picture, at most.

    Returns:
        The file that was written.

    Raises:
        ConfigError: If no epoch is finished yet, the history is damaged, or ``out`` cannot be
            written.
    """
    out = Path(out)
    write_text(out, render_run(collect_run(Path(folder), pictures)))
    return out


def render_run(content: RunContent) -> str:
    """Return the HTML of a run's report; text of the run is escaped."""
    folder = resources.files("spie_robo.reporting")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(folder.joinpath("run.html").read_text("utf-8"))
    return template.render(
        run=content,
        drawings=[curves.draw(chart, content.epochs) for chart in content.charts],
        canvas=curves,
        style=Markup(folder.joinpath("style.css").read_text("utf-8")),
        script=Markup(folder.joinpath("run.js").read_text("utf-8")),
    )
