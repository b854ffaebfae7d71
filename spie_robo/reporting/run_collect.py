"""Gather what the report of a training run shows: its history and its preview pictures."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats import limits
from spie_robo.data.formats.pictures import decode_picture
from spie_robo.errors import ConfigError, SpieRoboError, StoreCorruptError, StoreError
from spie_robo.feedback.nearness import nearer
from spie_robo.reporting.content import Provenance, Tile
from spie_robo.reporting.images import data_uri
from spie_robo.reporting.run_content import Chart, EpochPicture, Line, RunContent

HISTORY = Path("logs") / "history.json"
"""Rows of numbers, the base's first; :mod:`spie_robo.training.progress` is its specification."""

LARGEST_HISTORY = 50_000_000
MAX_CELLS = 1_000_000
"""Most cells of the table of all rows: a run of 99,999 epochs has fewer."""
MAX_EPOCH = 99_999
"""The names of pictures and checkpoints have five digits."""
MAX_NUMBER = 1e15
"""A score beyond it is not drawn."""
MAX_PICTURES = 24
LONGEST_SIDE = 1024
SEMANTIC, STRUCTURAL = "preview_semantic", "preview_structural"
ACCEPTED, FLOOR = "preview_accepted", "photos_apart"

_WAY_OUT = "`spie-robo train ... --resume` writes it anew."

Row: TypeAlias = dict[str, float | None]


def is_run(folder: str | Path) -> bool:
    """Return whether ``spie-robo train`` made a folder, finished or not."""
    folder = Path(folder)
    return not any((folder / name).exists() for name in ("zarr.json", ".zgroup")) and (
        (folder / HISTORY).is_file()
        or (folder / "checkpoints").is_dir()
        or (folder / "adapter_config.json").is_file()
    )


def require_no_part(path: str | Path) -> None:
    """Refuse what lies in the ``logs`` or ``checkpoints`` of a run.

    Raises:
        ConfigError: Naming the folder to give instead.
    """
    path = Path(path).absolute()
    for part in (path, *path.parents):
        if part.name in ("logs", "checkpoints") and is_run(part.parent):
            raise ConfigError(
                f"{path} is a part of a training run. Give the run's folder: {part.parent}"
            )


def collect_run(folder: Path, pictures: int = MAX_PICTURES) -> RunContent:
    """Read what the page shows.

    Args:
        folder: Folder of the run.
        pictures: Epochs that get a picture, at most; never more than :data:`MAX_PICTURES`.

    Raises:
        ConfigError: If there is no history, or it is damaged, or the run is a policy's.
    """
    if (folder / "policy.safetensors").is_file() or any(folder.glob("checkpoints/step_*")):
        raise ConfigError(
            f"{folder}: a report shows the training of an editor, this is a policy's. Its losses "
            f"are for TensorBoard: tensorboard --logdir {shlex.quote(str(folder / HISTORY.parent))}"
        )
    rows = read_history(folder / HISTORY)
    epochs = tuple(int(row["epoch"] or 0) for row in rows)
    found, notes = _pictures(folder, epochs[1:], min(pictures, MAX_PICTURES))
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    return RunContent(
        title=folder.resolve().name,
        tiles=_tiles(rows),
        epochs=epochs,
        notes=_progress_notes(folder, epochs[-1]),
        charts=_charts(rows),
        pictures=found,
        picture_note=" ".join(notes),
        names=tuple(name.replace("_", " ") for name in names),
        rows=tuple(tuple(_text(name, row.get(name)) for name in names) for row in rows),
        provenance=(Provenance("Folder", str(folder.resolve())), *_card_lines(folder)),
    )


def read_history(file: Path) -> list[Row]:
    """Read the rows of a history file, ascending by epoch.

    Raises:
        ConfigError: If there is none yet, or it is not what ``spie-robo train`` writes.
    """
    try:
        if file.stat().st_size > LARGEST_HISTORY:
            raise ConfigError(f"{file}: expected at most {LARGEST_HISTORY} bytes, it is larger.")
        rows = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{file}: not there. `spie-robo train` writes it before the first epoch is over, "
            "earlier versions at the end. A published adapter is without it: give the folder in "
            "which the run was."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}. {_WAY_OUT}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not rows:
        raise ConfigError(
            f"{file}: expected a list of rows, one an epoch; this is something else. {_WAY_OUT}"
        )
    found = [_row(file, row) for row in rows]
    epochs = [row["epoch"] or 0.0 for row in found]
    if epochs[0] != 0 or any(b <= a for a, b in pairwise(epochs)):
        raise ConfigError(f"{file}: expected epochs that ascend from 0, got {epochs[:5]}.")
    cells = len(found) * len({name for row in found for name in row})
    if cells > MAX_CELLS:
        raise ConfigError(f"{file}: expected at most {MAX_CELLS} numbers, got {cells}.")
    return found


def _row(file: Path, row: Mapping[Any, Any]) -> Row:
    """Return the numbers of a row; None for one that is not finite."""
    found: Row = {}
    for name, value in row.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise ConfigError(f"{file}: {str(name)[:40]!r}: expected a number, got {value!r:.40}.")
        found[str(name)] = _finite(value)
    epoch = found.get("epoch")
    if epoch is None:
        raise ConfigError(f"{file}: expected an epoch in every row, one has none.")
    if epoch != int(epoch) or not 0 <= epoch <= MAX_EPOCH:
        raise ConfigError(f"{file}: expected epochs from 0 to {MAX_EPOCH}, got {epoch:g}.")
    return found


def _finite(value: float | None) -> float | None:
    """Return a finite float; None for anything else, also for a whole number beyond any float."""
    try:
        return float(value) if value is not None and math.isfinite(value) else None
    except OverflowError:
        return None


def _drawn(rows: Sequence[Row], name: str) -> tuple[float | None, ...]:
    """Return the values of a column that fit on a chart."""
    values = (row.get(name) for row in rows)
    return tuple(None if value is None or abs(value) > MAX_NUMBER else value for value in values)


def _nearer(rows: Sequence[Row]) -> Callable[[float | None], float | None]:
    """Return a function for the share by which a score is nearer to the photos than the base's."""
    base = _drawn(rows[:1], SEMANTIC)[0]
    if base is None or base <= 0:
        return lambda value: None
    return lambda value: None if value is None else nearer(base, value)


def _charts(rows: Sequence[Row]) -> tuple[Chart, ...]:
    floor, scores = _drawn(rows[:1], FLOOR)[0], _drawn(rows, SEMANTIC)
    semantic = [Line("edits", scores)]
    if floor is not None:
        semantic.append(Line("how far your photos are apart", (floor,) * len(rows), dashed=True))
    cameras = sorted({name for row in rows for name in row if name.startswith(f"{ACCEPTED}/")})
    shares = cameras or [ACCEPTED]
    accepted = [
        Line(name.removeprefix(f"{ACCEPTED}/") if cameras else "all cameras", _drawn(rows, name))
        for name in shares
    ]
    share = Line("edits", tuple(map(_nearer(rows), scores)))
    return (
        Chart("Semantic score", "How far edits are from the photos; lower is better.",
              tuple(semantic), SEMANTIC),
        Chart("Nearer to your photos", "Share by which the distance to the photos, the semantic "
              "score, is smaller than the base's.", (share,), SEMANTIC, percent=True),
        Chart("Structural score", "How far the edits' depth is off; lower is better.",
              (Line("edits", _drawn(rows, STRUCTURAL)),), STRUCTURAL),
        Chart("Accepted by the guard", "It is no part of the reward: a fall shows what scores "
              "miss.", tuple(accepted), ACCEPTED, percent=True),
    )  # fmt: skip


def _tiles(rows: Sequence[Row]) -> tuple[Tile, ...]:
    first, last = rows[0], rows[-1]
    tiles = [Tile("Epochs", f"{last['epoch'] or 0:.0f}", _duration(rows))]
    for label, name in (("Semantic score", SEMANTIC), ("Structural score", STRUCTURAL)):
        before, after = first.get(name), last.get(name)
        if before is not None and after is not None:
            tiles.append(Tile(label, f"{after:.4f}", f"base: {before:.4f}"))
    share, floor = _nearer(rows)(_drawn(rows[-1:], SEMANTIC)[0]), first.get(FLOOR)
    if share is not None:
        apart = "" if floor is None else f"; two photos are {floor:.4f} apart"
        label = "Nearer to your photos" if share >= 0 else "Farther from your photos"
        tiles.append(Tile(label, f"{abs(share):.0%}", f"than the base{apart}"))
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


def _progress_notes(folder: Path, last: int) -> tuple[str, ...]:
    """Return what an unfinished run still lacks, judged by its newest checkpoint."""
    markers = sorted((folder / "checkpoints").glob("epoch_?????/complete.json"))
    try:
        limits.check_size(str(markers[-1]), markers[-1].stat().st_size, LARGEST_HISTORY)
        planned = json.loads(markers[-1].read_text("utf-8"))["settings"]["epochs"]
    except (IndexError, OSError, ValueError, KeyError, TypeError, RecursionError, StoreError):
        planned = None
    if isinstance(planned, int) and planned > last:
        done = f"{last} of {planned} epochs"
    elif not (folder / "adapter_config.json").is_file():
        done = f"{last} epochs so far"
    else:
        return ()
    return (f"Not finished: {done}. If it was cut off, `spie-robo train ... --resume` goes on.",)


def _pictures(
    folder: Path, epochs: Sequence[int], most: int
) -> tuple[tuple[EpochPicture, ...], list[str]]:
    """Return evenly chosen pictures of epochs, the last among them, and what is left out."""
    logs = folder / HISTORY.parent
    files = {epoch: logs / f"epoch_{epoch:05d}.png" for epoch in epochs}
    there = [epoch for epoch, file in files.items() if file.is_file()]
    every = max(1, -(-len(there) // most))
    found, broken = [], []
    for epoch in there[::-1][::every][::-1]:
        try:
            found.append(EpochPicture(epoch, data_uri(_picture(logs, files[epoch]), LONGEST_SIDE)))
        except (SpieRoboError, OSError) as error:
            damaged = isinstance(error, StoreCorruptError)
            broken.append(files[epoch].name if damaged else str(error).rstrip("."))
    notes = [
        "Columns: raw frame, base editor, this editor, photo. Training never saw these frames."
    ]
    if not there:
        notes = [f"No pictures of epochs were found in {logs}."]
    elif len(there) < len(epochs):
        absent = [str(epoch) for epoch in epochs if epoch not in set(there)]
        notes.append(f"No picture of epoch {_some(absent)}.")
    if every > 1:
        notes.append(f"One epoch of {every} is shown.")
    if broken:
        notes.append(f"Cannot be read: {_some(broken)}.")
    return tuple(found), notes


def _picture(logs: Path, file: Path) -> NDArray[np.uint8]:
    """Read a picture after checking its size: a small file can unpack to gigabytes."""
    limits.check_inside(logs, file)
    limits.check_size(str(file), file.stat().st_size)
    return decode_picture(str(file), file.read_bytes())


def _some(texts: Sequence[str], most: int = 12) -> str:
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def _card_lines(folder: Path) -> tuple[Provenance, ...]:
    """Return the bold items of the model card, if there is one."""
    try:
        with (folder / "README.md").open(encoding="utf-8") as stream:
            card = stream.read(100_000)
    except (OSError, ValueError):
        return (Provenance("Card", "none: the run is not finished"),)
    items = card.split("\n- **")[1:]
    return tuple(
        Provenance(*(" ".join(part.split()) for part in item.split("\n\n")[0].split("**: ", 1)))
        for item in items
        if "**: " in item
    )
