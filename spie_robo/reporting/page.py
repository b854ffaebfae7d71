"""The page itself: one HTML file with style, script and images inside, which needs no network."""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from spie_robo.data import EpisodeStore
from spie_robo.files.output import write_text
from spie_robo.reporting.collect import collect
from spie_robo.reporting.content import ReportContent


def write_report(
    store: str | Path, out: str | Path, *, frames: int = 40, address: str | None = None
) -> Path:
    """Write a store's report: one HTML file that opens offline.

    Args:
        store: The episode store.
        out: The HTML file; an earlier one is replaced once the new one is whole.
        frames: Frames of an episode that get pictures, at most; fewer where the page would
            become large.
        address: Place of the store that the page names; None: its path.

    Returns:
        The file that was written.

    Raises:
        StoreError: If there is no store, or nothing in it to show.
        StoreCorruptError: If it is damaged.
        ConfigError: If ``out`` cannot be written.
    """
    out = Path(out)
    page = render_page(collect(EpisodeStore.open(store), frames, address))
    write_text(out, page)
    return out


def render_page(content: ReportContent) -> str:
    """Return the HTML of a report.

    Text of the store is escaped; only the style and script that ship with the package are not.
    """
    folder = resources.files("spie_robo.reporting")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(folder.joinpath("template.html").read_text("utf-8"))
    data = {
        "budgets": [dataclasses.asdict(budget) for budget in content.budgets],
        "episodes": [dataclasses.asdict(episode) for episode in content.episodes],
        "photos": list(content.photos),
    }
    return template.render(
        report=content,
        data=data,
        style=Markup(folder.joinpath("style.css").read_text("utf-8")),
        script=Markup(folder.joinpath("script.js").read_text("utf-8")),
    )
