"""Show a run while it trains: scores and pictures of frames that training never sees.

::

    OUT/logs/history.json      rows of metrics: the base's (epoch 0), then one after each epoch; a
                               score that is not finite is null
    OUT/logs/epoch_00001.png   raw frame | base | policy | photo, one row a preview frame
    OUT/logs/preview.png       the newest picture, without your photos

A file is written whole or not at all, so that it can be read while the run goes on.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from PIL import Image
from tqdm import tqdm

from spie_robo.editor.references import cover
from spie_robo.feedback.relight import relit
from spie_robo.files.output import write_bytes, write_text
from spie_robo.files.run_folder import LOGS
from spie_robo.guard import GeometryGuard
from spie_robo.training.card import PICTURE
from spie_robo.training.checkpoint import Position, Row
from spie_robo.training.preview import (
    ACCEPTED,
    FLOOR,
    SEMANTIC,
    accepted_shares,
    deployed_edits,
    grid,
    mean_scores,
    photo_floor,
)
from spie_robo.training.setup import TrainingRun
from spie_robo.types import RGB

HISTORY = "history.json"


@final
class RunProgress:
    """The previews of a run: it edits, scores and shows the held-out frames.

    Attributes:
        before: Scores of the base.
    """

    def __init__(self, run: TrainingRun, out: Path) -> None:
        """Edit the preview frames with the base and score the edits."""
        self._run, self._logs, self._guard = run, out / LOGS, GeometryGuard()
        self._raw = [frame.rgb for frame in run.preview.frames]
        with run.policy.reference():
            self._base_edits = self._edits()
        self._kept: list[RGB] | None = None
        if run.config.kept == "relit":
            rows = zip(self._raw, self._base_edits, run.preview.frame_regions, strict=True)
            self._kept = [relit(*row) for row in rows]
        self.before: Row = self._scores(self._base_edits)
        floor = photo_floor(run.feedback, run.data)
        self.before |= {} if floor is None else {FLOOR: floor}

    def after_epoch(self, position: Position, bar: tqdm[Any]) -> Row:
        """Score the policy, log it and, in the main process, show it.

        Returns:
            Scores to add to the epoch's row.
        """
        edits, run = self._edits(), self._run
        scores = self._scores(edits)
        row = {**position.history[-1], **scores}
        if run.accelerator.is_main_process:
            self._draw(edits, position.epoch)
            self.write_history([*position.history[:-1], row])
            bar.update()
            bar.set_postfix(
                semantic=f"{scores[SEMANTIC]:.4f}",
                structural=f"{scores['preview_structural']:.4f}",
                accepted=f"{scores[ACCEPTED]:.0%}",
            )
        run.accelerator.log(row, step=position.epoch)
        return scores

    def rewind(self, position: Position) -> None:
        """Reset history and pictures to the position from which the run resumes.

        An interrupted run may have shown more epochs than its newest checkpoint holds.
        """
        here = f"epoch_{position.epoch:05d}"
        later = [file for file in self._logs.glob("epoch_?????.png") if file.stem > here]
        if later:
            (self._logs / PICTURE).unlink(missing_ok=True)
            if position.epoch:
                self._draw(self._edits(), position.epoch)
        for file in later:
            file.unlink(missing_ok=True)
        self.write_history(position.history)

    def write_history(self, rows: Sequence[Row]) -> None:
        """Write all rows, after the base's."""
        known = [
            {name: value if math.isfinite(value) else None for name, value in row.items()}
            for row in ({"epoch": 0, **self.before}, *rows)
        ]
        write_text(self._logs / HISTORY, json.dumps(known, allow_nan=False))

    def _edits(self) -> list[RGB]:
        run = self._run
        return deployed_edits(
            run.editor.pipeline, run.preview, run.editor.settings, run.config.seed
        )

    def _scores(self, edits: Sequence[RGB]) -> Row:
        """Return the mean scores and the accepted shares of edits."""
        run = self._run
        scores = mean_scores(run.feedback, run.preview, edits, self._kept)
        return scores | accepted_shares(self._guard, run.preview.frames, edits)

    def _draw(self, edits: Sequence[RGB], epoch: int) -> None:
        all_photos = self._run.data.photos
        size = self._raw[0].shape[:2]
        photos = [cover(all_photos[i % len(all_photos)], *size) for i in range(len(self._raw))]
        columns = [self._raw, self._base_edits, edits]
        # Write preview.png last: if it is newer than a checkpoint, the epoch's picture is too.
        _write_picture(self._logs / f"epoch_{epoch:05d}.png", grid([*columns, photos]))
        _write_picture(self._logs / PICTURE, grid(columns))


def _write_picture(file: Path, rgb: RGB) -> None:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    write_bytes(file, buffer.getvalue())
