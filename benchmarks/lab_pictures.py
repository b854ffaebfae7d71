"""The README's last picture: simulator | base | post-trained | lab photo.

Reads the adapters that ``post_training.py`` left in ``--runs``. The README's are of ten epochs:

    python benchmarks/post_training.py --seeds 1 --epochs 10 --out runs/ten_epochs
    python benchmarks/lab_pictures.py --runs runs/ten_epochs
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from harness import lab_folders
from PIL import Image
from post_training import ROOT, TEST_FRAMES
from real_photos import task_frames

from spie_robo.editor import Editor
from spie_robo.editor.photo_check import check_photos
from spie_robo.editor.references import cover

PICTURE = ROOT / "docs" / "images" / "post_training.png"
ROWS = (4, 13)
SCALE = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("labs", type=Path, nargs="*", default=lab_folders())
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "post_training")
    parser.add_argument("--variant", default="default")
    parser.add_argument("--seed", type=int, default=1, help="which run of the variant")
    parser.add_argument("--out", type=Path, default=PICTURE)
    options = parser.parse_args()
    if not options.labs:
        print("Skipped: no labs. Give folders with references/ and held_out/.")
        return
    frames = [task_frames(200)[::2][:TEST_FRAMES][row] for row in ROWS]
    base = Editor.from_pretrained("embedded")
    blocks = []
    for lab in options.labs:
        photos = check_photos(lab / "references").images
        folder = options.runs / lab.name / options.variant / f"seed_{options.seed}" / "adapter"
        trained = Editor.from_pretrained(folder)
        rows = []
        for index, frame in enumerate(frames):
            photo = photos[index]
            edits = [editor.edit([frame], [photo], None, [0])[0].rgb for editor in (base, trained)]
            height, width = frame.rgb.shape[:2]
            rows.append(np.hstack([frame.rgb, *edits, cover(photo, height, width)]))
        blocks.append(np.vstack(rows))
    picture = Image.fromarray(np.hstack(blocks))
    size = (picture.width * SCALE, picture.height * SCALE)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    picture.resize(size, Image.Resampling.BICUBIC).save(options.out)
    print(options.out)


if __name__ == "__main__":
    main()
