from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from spie_robo.editing.request import EditRequest
from spie_robo.editor import photo_check
from spie_robo.types import Frame


def test_photos_are_read_once_however_often_they_are_used(tmp_path: Path, monkeypatch) -> None:
    for seed in range(2):
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(np.kron(coarse, np.ones((20, 20, 1), np.uint8))).save(
            tmp_path / f"{seed}.png"
        )
    read, counted = photo_check.decode_photo, []
    monkeypatch.setattr(
        photo_check, "decode_photo", lambda file: counted.append(file) or read(file)
    )
    guarded = EditRequest(references=tmp_path, guard=False).load()
    assert guarded is not None
    frame = Frame(np.zeros((64, 64, 3), np.uint8), "front")
    guarded.edit([frame, frame], [0, 1])
    assert len(counted) == 2
