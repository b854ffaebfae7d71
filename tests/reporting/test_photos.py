"""The photos that edits follow, beside the edits: does it look like my lab?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from spie_robo.data import EpisodeStore, EpisodeWriter, StoreMetadata
from spie_robo.data.store.fields import realism_key
from spie_robo.editing.description import references_digest
from spie_robo.editor.references import choose_reference
from spie_robo.reporting import verdicts
from spie_robo.reporting.collect import collect
from spie_robo.reporting.photos import reference_photos


def photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    for seed in range(count):
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
        cv2.imwrite(str(folder / f"{seed}.png"), cv2.resize(coarse, (640, 512)))
    return folder


def given(folder: Path) -> StoreMetadata:
    about = {"folder": str(folder), "sha256": references_digest(folder)}
    return StoreMetadata(editor_id="fake@01234567", provenance={"photos": about})


def test_photos_that_were_given_are_read_again_from_their_folder(tmp_path: Path) -> None:
    found = reference_photos(given(photos(tmp_path / "lab", 3)))
    assert len(found.images) == 3 and max(found.images[0].shape) == 256
    assert found.of_seed(7) == choose_reference(3, 7)


def test_photos_that_changed_or_are_gone_are_not_shown_and_the_page_says_so(tmp_path: Path) -> None:
    folder = photos(tmp_path / "lab", 2)
    metadata = given(folder)
    (folder / "0.png").rename(folder / "9.png")
    assert "are others now" in reference_photos(metadata).note
    folder.rename(tmp_path / "elsewhere")
    found = reference_photos(metadata)
    assert found.images == () and "not on this machine" in found.note
    assert found.of_seed(0) is None


def test_photos_of_an_editor_are_decoded_and_nothing_is_downloaded() -> None:
    found = reference_photos(StoreMetadata(editor_id="embedded@f7816486"))
    assert len(found.images) == 3 and found.images[0].std() > 10
    missing = reference_photos(StoreMetadata(editor_id="somebody/something@01234567"))
    assert missing.images == () and "is not here" in missing.note
    assert reference_photos(StoreMetadata()).note == ""


def test_every_shown_edit_points_to_the_photo_that_its_seed_chose(
    edited_store: Path, tmp_path: Path
) -> None:
    path = tmp_path / "s.zarr"
    source = EpisodeStore.open(edited_store)
    metadata = replace(given(photos(tmp_path / "lab", 4)), cameras=source.metadata.cameras)
    with EpisodeWriter.create(path, metadata) as writer:
        writer.add_episode(source[0], seed=0)
    content = collect(EpisodeStore.open(path), frames=10)
    track = content.episodes[0]
    chosen = {
        camera: [
            choose_reference(4, int(source[0][realism_key(camera, "seed")][step]))
            for step in track.shown
        ]
        for camera in ("front", "wrist")
    }
    followed = sorted({index for indices in chosen.values() for index in indices})
    assert len(content.photos) == len(followed)
    for camera in track.cameras:
        assert camera.photos == tuple(followed.index(index) for index in chosen[camera.name])


def test_measures_follow_from_what_the_store_holds(tmp_path: Path) -> None:
    rows = {
        "front_rgb": np.zeros((3, 16, 16, 3), np.uint8),
        "front_top_rgb": np.zeros((3, 16, 16, 3), np.uint8),
        **{
            realism_key(camera, name): np.full(3, value, kind)
            for camera in ("front", "front_top")
            for name, value, kind in (
                ("edited", True, np.bool_), ("tilt", 0.5, np.float32), ("outline", 0.9, np.float32),
            )
        },
    }  # fmt: skip
    metadata = StoreMetadata(provenance={"guard_limits": {"tilt": 2.0, "unmeasured": 1.0}})
    with EpisodeWriter.create(tmp_path / "s.zarr", metadata) as writer:
        writer.add_episode(rows)
    store = EpisodeStore.open(tmp_path / "s.zarr")
    assert verdicts.measured_names(store, "front") == {"tilt", "outline"}
    limits = {b.name: b.limit_words for b in verdicts.budgets(store)}
    assert limits == {"outline": "not recorded", "tilt": "at most 2", "unmeasured": "at most 1"}
    table = collect(store, frames=2).measurement_rows
    assert [row.name for row in table] == ["Outlines kept", "Tilt"]
