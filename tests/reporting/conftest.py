"""A small store with everything that a report shows: edits, a rejection, a failure, geometry."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from spie_robo.data import CameraMetadata, EpisodeWriter, StoreMetadata

STEPS = 24
REJECTED, FAILED = 7, 15
LIMITS = {
    "depth_error": 0.2,
    "mask_iou": 0.6,
    "boundary_f": 0.5,
    "displacement_px": 3.0,
    "chroma_drift": 12.0,
}


def scene(step: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A table with a cube that moves: (side, side, 3) uint8 and its int32 segmentation."""
    rgb = np.full((side, side, 3), (150, 170, 200), np.uint8)
    segmentation = np.zeros((side, side), np.int32)
    horizon = side // 3
    rgb[horizon:], segmentation[horizon:] = (196, 160, 120), 1
    x, y, size = side // 6 + step * side // 60, side // 2, side // 7
    rgb[y : y + size, x : x + size], segmentation[y : y + size, x : x + size] = (200, 40, 40), 2
    arm = np.zeros((side, side), np.uint8)
    cv2.line(arm, (side // 2, 0), (x - 3, y + size // 2), 1, max(2, side // 16))
    rgb[arm == 1], segmentation[arm == 1] = (90, 95, 100), 3
    return rgb, segmentation


def look(rgb: np.ndarray) -> np.ndarray:
    """A warm photograph-like version of a frame, aligned with it."""
    noise = np.random.default_rng(0).normal(0, 5, rgb.shape)
    warm = rgb * np.array([0.95, 0.82, 0.66]) + noise
    return cv2.GaussianBlur(np.clip(warm, 0, 255).astype(np.uint8), (3, 3), 0)


def camera_row(camera: str, step: int, side: int) -> dict[str, np.ndarray]:
    rgb, segmentation = scene(step, side)
    edited = step not in (REJECTED, FAILED)
    nan = float("nan")
    measured = {
        "depth_error": 0.08 + 0.03 * np.sin(step / 3) + (0.2 if step == REJECTED else 0),
        "mask_iou": 0.9 - 0.05 * np.cos(step / 4),
        "boundary_f": 0.84,
        "displacement_px": 0.6,
        "chroma_drift": nan,
    }
    if step == FAILED:
        measured = dict.fromkeys(measured, nan)
    return {
        f"{camera}_rgb": look(rgb) if edited else rgb,
        f"{camera}_raw": rgb,
        f"{camera}_segmentation": segmentation,
        f"realism_{camera}_edited": np.bool_(edited),
        f"realism_{camera}_accepted": np.bool_(edited),
        f"realism_{camera}_attempts": np.int32(1 if edited else 2),
        f"realism_{camera}_seed": np.int64(step),
        **{f"realism_{camera}_{name}": np.float32(value) for name, value in measured.items()},
    }


def write_store(path: Path, episodes: int = 2, steps: int = STEPS, side: int = 64) -> Path:
    """An edited store with two cameras and hostile text in its metadata."""
    metadata = StoreMetadata(
        env_id="SpieRobo/Push-v0",
        editor_id="fake@0123ab",
        instruction='a lab </script><script>document.title="owned"</script>',
        cameras={"front": CameraMetadata(names={0: "wall", 1: "table", 2: "cube", 3: "robot"})},
        provenance={"policy": "expert", "guard_limits": LIMITS},
    )
    with EpisodeWriter.create(path, metadata=metadata) as writer:
        for episode in range(episodes):
            writer.begin_episode(seed=episode)
            for step in range(steps):
                writer.append(
                    {
                        "action": np.zeros(4, np.float32),
                        "success": np.bool_(step == steps - 1 and episode == 0),
                        **camera_row("front", step, side),
                        **camera_row("wrist", step + 2, side),
                    }
                )
            writer.end_episode()
    return path


@pytest.fixture(scope="session")
def edited_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("stores") / "episodes.zarr")
