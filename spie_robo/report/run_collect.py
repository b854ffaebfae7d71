"""Gather what the report of a training run shows: its history and its preview pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

from spie_robo.data.formats.pictures import decode_picture
from spie_robo.errors import ConfigError, SpieRoboError
from spie_robo.report.content import Provenance, Tile
from spie_robo.report.images import data_uri
from spie_robo.report.run_content import Chart, EpochPicture, Line, RunContent

HISTORY = Path("logs") / "history.json"
"""Rows of numbers, the base's first; :mod:`spie_robo.training.progress` is its specification."""

LARGEST_HISTORY = 50_000_000
MAX_PICTURES = 24
LONGEST_SIDE = 1024
SEMANTIC, STRUCTURAL = "preview_semantic", "preview_structural"
ACCEPTED, FLOOR = "preview_accepted", "photos_apart"

Row: TypeAlias = dict[str, float | None]


def is_run(folder: str | Path) -> bool:
    """Whether a folder is one that ``spie-robo train`` made, finished or not."""
    folder = Path(folder)
    return not (folder / "zarr.json").exists() and (
        (folder / HISTORY).is_file()
        or (folder / "checkpoints").is_dir()
        or (folder / "adapter_config.json").is_file()
    )


def collect_run(folder: Path) -> RunContent:
    """Read what the page shows.

    Raises:
        ConfigError: If there is no history, or it is damaged.
    """
    rows = read_history(folder / HISTORY)
    epochs = tuple(int(row["epoch"] or 0) for row in rows)
    pictures, note = _pictures(folder / HISTORY.parent, epochs[-1])
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    return RunContent(
        title=folder.resolve().name,
        tiles=_tiles(rows),
        epochs=epochs,
        charts=_charts(rows),
        pictures=pictures,
        picture_note=note,
        names=tuple(name.replace("_", " ") for name in names),
        rows=tuple(tuple(_text(name, row.get(name)) for name in names) for row in rows),
        provenance=(Provenance("Folder", str(folder.resolve())), *_card_lines(folder)),
    )


def read_history(file: Path) -> list[Row]:
    """The rows of a history file, ascending by epoch.

    Raises:
        ConfigError: If there is none yet, or it is not what ``spie-robo train`` writes.
    """
    try:
        if file.stat().st_size > LARGEST_HISTORY:
            raise ConfigError(f"{file}: larger than {LARGEST_HISTORY} bytes, no history of a run.")
        rows = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{file}: not there. It is written when the first epoch is over, by `spie-robo train`; "
            "runs of earlier versions have it once they are finished."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}.") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not rows:
        raise ConfigError(f"{file}: expected a list of rows, one an epoch; this is something else.")
    found = [_row(file, row) for row in rows]
    epochs = [row["epoch"] or 0.0 for row in found]
    if epochs[0] != 0 or any(b <= a for a, b in pairwise(epochs)):
        raise ConfigError(f"{file}: expected epochs that ascend from 0, got {epochs[:5]}.")
    return found


def _row(file: Path, row: Mapping[Any, Any]) -> Row:
    """Numbers only; what is not finite is None."""
    found: Row = {}
    for name, value in row.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise ConfigError(f"{file}: {str(name)[:40]!r}: expected a number, got {value!r:.40}.")
        found[str(name)] = float(value) if value is not None and math.isfinite(value) else None
    if found.get("epoch") is None:
        raise ConfigError(f"{file}: a row has no epoch.")
    return found


def _values(rows: Sequence[Row], name: str) -> tuple[float | None, ...]:
    return tuple(row.get(name) for row in rows)


def _charts(rows: Sequence[Row]) -> tuple[Chart, ...]:
    floor = rows[0].get(FLOOR)
    semantic = [Line("edits", _values(rows, SEMANTIC))]
    if floor is not None:
        semantic.append(Line("your photos among themselves", (floor,) * len(rows), dashed=True))
    cameras = sorted({name for row in rows for name in row if name.startswith(f"{ACCEPTED}/")})
    shares = cameras or [ACCEPTED]
    accepted = [
        Line(name.removeprefix(f"{ACCEPTED}/") if cameras else "all cameras", _values(rows, name))
        for name in shares
    ]
    return (
        Chart("Semantic score", "How far edits are from the photos; lower is better.",
              tuple(semantic)),
        Chart("Structural score", "How far the edits' depth is off; lower is better.",
              (Line("edits", _values(rows, STRUCTURAL)),)),
        Chart("Accepted by the guard", "It is no part of the reward: a fall shows what scores "
              "miss.", tuple(accepted), percent=True),
    )  # fmt: skip


def _tiles(rows: Sequence[Row]) -> tuple[Tile, ...]:
    first, last = rows[0], rows[-1]
    tiles = [Tile("Epochs", f"{last['epoch'] or 0:.0f}", _duration(rows))]
    for label, name in (("Semantic score", SEMANTIC), ("Structural score", STRUCTURAL)):
        before, after = first.get(name), last.get(name)
        if before is not None and after is not None:
            tiles.append(Tile(label, f"{after:.4f}", f"base: {before:.4f}"))
    before, after, floor = first.get(SEMANTIC), last.get(SEMANTIC), first.get(FLOOR)
    if before is not None and after is not None and floor is not None and before > floor:
        share = (before - after) / (before - floor)
        tiles.append(Tile("Gap closed", f"{share:.0%}", f"floor: {floor:.4f}, the photos'"))
    accepted = last.get(ACCEPTED)
    if accepted is not None:
        base = first.get(ACCEPTED)
        detail = "" if base is None else f"base: {base:.0%}"
        tiles.append(Tile("Accepted by the guard", f"{accepted:.0%}", detail))
    return tuple(tiles)


def _duration(rows: Sequence[Row]) -> str:
    seconds = sum(row.get("seconds") or 0.0 for row in rows)
    return f"{seconds / 60:.1f} minutes" if seconds else ""


def _text(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if name == "epoch" else f"{value:.4g}"


def _pictures(logs: Path, last: int) -> tuple[tuple[EpochPicture, ...], str]:
    """An even choice of the epochs' pictures, the last among them; damaged ones are left out."""
    files = {epoch: logs / f"epoch_{epoch:05d}.png" for epoch in range(1, last + 1)}
    there = [epoch for epoch, file in files.items() if file.is_file()]
    every = -(-len(there) // MAX_PICTURES) if there else 1
    chosen = there[::-1][::every][::-1]
    found, broken = [], []
    for epoch in chosen:
        try:
            picture = decode_picture(str(files[epoch]), files[epoch].read_bytes())
        except (SpieRoboError, OSError):
            broken.append(files[epoch].name)
            continue
        found.append(EpochPicture(epoch, data_uri(picture, LONGEST_SIDE)))
    notes = [
        "Columns: raw frame, base editor, this editor, photo. Training never saw these frames."
    ]
    if not there:
        notes = [f"No pictures of epochs were found in {logs}."]
    if every > 1:
        notes.append(f"One epoch of {every} is shown.")
    if broken:
        notes.append(f"Cannot be read: {', '.join(broken)}.")
    return tuple(found), " ".join(notes)


def _card_lines(folder: Path) -> tuple[Provenance, ...]:
    """The bold items of the model card, if there is one."""
    try:
        card = (folder / "README.md").read_text("utf-8")[:100_000]
    except (OSError, ValueError):
        return (Provenance("Card", "none: the run is not finished"),)
    items = card.split("\n- **")[1:]
    return tuple(
        Provenance(*(" ".join(part.split()) for part in item.split("\n\n")[0].split("**: ", 1)))
        for item in items
        if "**: " in item
    )
