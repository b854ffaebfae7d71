"""Find out what a data set is by looking at what is in it; its name does not count."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spie_robo.data.formats import limits
from spie_robo.data.formats.damage import named_damage
from spie_robo.errors import StoreError

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

_ARRAY_HEADERS = (".zarray", "zarr.json")
"""Header of an array of zarr 2, and of zarr 3."""

LOOKED_FOR = {
    "zarr": "a folder with zarr.json or .zgroup whose attributes hold the schema of spie_robo",
    "diffusion-policy": "a folder with an array meta/episode_ends of zarr 2 or 3",
    "diffusion-policy-zip": "a zip file with an array meta/episode_ends of zarr 2 or 3",
    "umi": "such a zip file, or folder, with data/camera*_rgb and data/robot*",
    "lerobot": "a folder with meta/info.json whose codebase_version is v3.x",
    "robomimic": "an HDF5 file with a group data/demo_*",
    "minari": "a folder with data/metadata.json and data/main_data.hdf5, or those two",
}
"""Files by which each format is recognised, for people."""


def detect_format(path: str | Path) -> str:
    """Return the name of the format of the data set at ``path``.

    Returns:
        A key of ``registry.FORMATS``.

    Raises:
        StoreError: If there is nothing, or nothing fits: with all that was looked for.
    """
    path = Path(path)
    if not path.exists():
        raise StoreError(f"{path}: expected a data set, found nothing. Check the path.")
    checks = _IN_FOLDER if path.is_dir() else _IN_FILE
    for check in checks:
        with named_damage(path):
            name = check(path)
        if name is not None:
            return name
    there = "a folder" if path.is_dir() else "a file"
    wanted = "; ".join(f"{name}: {what}" for name, what in LOOKED_FOR.items())
    raise StoreError(f"{path}: {there} of no known format. Looked for {wanted}.")


def minari_folder(path: Path) -> Path:
    """Return the folder of a Minari data set that holds its two files."""
    return path / "data" if (path / "data" / "metadata.json").is_file() else path


def _episode_store(path: Path) -> str | None:
    for name, place in (("zarr.json", ("attributes", "schema")), (".zattrs", ("schema",))):
        document: Any = _json(path / name)
        for key in place:
            document = document.get(key) if isinstance(document, dict) else None
        if document == "spie_robo.episodes":
            return "zarr"
    return None


def _replay_buffer(path: Path) -> str | None:
    if not any((path / "meta/episode_ends" / header).is_file() for header in _ARRAY_HEADERS):
        return None
    names = [f.parent.name for header in _ARRAY_HEADERS for f in path.glob(f"data/*/{header}")]
    return "umi" if _umi_names(names) else "diffusion-policy"


def _zipped_replay_buffer(path: Path) -> str | None:
    if not zipfile.is_zipfile(path):
        return None
    members = limits.check_zip(path)
    if not any(f"meta/episode_ends/{header}" in members for header in _ARRAY_HEADERS):
        return None
    arrays = [n for n in members if n.startswith("data/") and n.endswith(_ARRAY_HEADERS)]
    names = [name.split("/")[1] for name in arrays]
    return "umi" if _umi_names(names) else "diffusion-policy-zip"


def _umi_names(names: list[str]) -> bool:
    cameras = [name for name in names if name.startswith("camera") and name.endswith("_rgb")]
    return bool(cameras) and any(name.startswith("robot") for name in names)


def _lerobot(path: Path) -> str | None:
    info = _json(path / "meta" / "info.json")
    if not isinstance(info, dict) or "codebase_version" not in info:
        return None
    version = str(info["codebase_version"])
    if not version.startswith("v3."):
        raise StoreError(
            f"{path}: a LeRobot data set of version {version}; v3 is read. Convert it with "
            "lerobot: python -m lerobot.scripts.convert_dataset_v21_to_v30 --repo-id=... (lerobot "
            "0.5 and later; before, lerobot.datasets.v30.convert_dataset_v21_to_v30)"
        )
    return "lerobot"


def _minari(path: Path) -> str | None:
    folder = minari_folder(path)
    metadata = _json(folder / "metadata.json")
    if not isinstance(metadata, dict) or "total_episodes" not in metadata:
        return None
    if metadata.get("data_format", "hdf5") != "hdf5":
        raise StoreError(
            f"{path}: a Minari data set in the format {metadata['data_format']!r}; hdf5 is read. "
            "Write it again with data_format='hdf5'."
        )
    return "minari"


def _robomimic(path: Path) -> str | None:
    with path.open("rb") as stream:
        if stream.read(len(_HDF5_MAGIC)) != _HDF5_MAGIC:
            return None
    from spie_robo.data.formats.hdf5_files import demos_in

    return "robomimic" if demos_in(path) else None


def _json(file: Path) -> Any:
    """Read a small JSON document; None if there is none."""
    try:
        if not file.is_file() or file.stat().st_size > limits.MAX_HEADER_BYTES:
            return None
        return json.loads(file.read_bytes())
    except (ValueError, OSError):
        return None


_IN_FOLDER: tuple[Callable[[Path], str | None], ...] = (
    _episode_store,
    _replay_buffer,
    _lerobot,
    _minari,
)
_IN_FILE: tuple[Callable[[Path], str | None], ...] = (_zipped_replay_buffer, _robomimic)
