"""Convert a recorded data set: edit its camera frames, keep everything else byte for byte.

    python examples/convert_dataset.py --out converted --source my_demos.zarr

The same on the command line: spie-robo convert my_demos.zarr converted/edited.zarr
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tyro

from spie_robo import Editor, EpisodeStore, GeometryGuard, GuardedEditor
from spie_robo.commands.record import RecordCommand, record
from spie_robo.data import convert_store
from spie_robo.reporting import write_report


def main(
    out: Path = Path("converted"),
    source: Path | None = None,
    editor: str = "embedded",
    references: Path | None = None,
    episodes: int = 3,
    max_steps: int | None = None,
) -> None:
    """Edit a data set, and look at what came out.

    Args:
        out: Folder for the stores and the report.
        source: The data set to edit; without it, demonstrations of Push are recorded.
        editor: "embedded", an adapter folder of `spie-robo train`, or a Hub id.
        references: Folder of photos of your lab; without it the editor uses its own.
        episodes: Demonstrations to record, if there is no source.
        max_steps: Their length at most.
    """
    if source is None:
        source = out / "raw.zarr"
        if not source.exists():
            record(RecordCommand("SpieRobo/Push-v0", episodes, source, max_steps=max_steps))

    # If this is interrupted, run it again: it goes on where it stopped, with the same result.
    edited = out / "edited.zarr"
    summary = convert_store(
        source,
        edited,
        GuardedEditor(Editor.from_pretrained(editor), GeometryGuard(), references),
    )
    print(f"{summary}.")

    # An episode is a dict of arrays. Cameras now hold the edits; "<camera>_raw" keeps the frames.
    for number, episode in enumerate(EpisodeStore.open(edited)):
        cameras = [key.removesuffix("_raw") for key in episode if key.endswith("_raw")]
        for camera in cameras:
            before, after = episode[f"{camera}_raw"], episode[f"{camera}_rgb"]
            change = np.abs(after.astype(int) - before.astype(int)).mean()
            print(f"Episode {number}, {camera}: {len(after)} frames, mean change {change:.0f}/255.")

    report = write_report(edited, out / "report.html")
    print(f"{report}: open it in a browser; it has a slider and a verdict for every frame.")


if __name__ == "__main__":
    tyro.cli(main)
