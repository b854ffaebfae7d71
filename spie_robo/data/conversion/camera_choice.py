"""Choose the cameras of a data set to edit, and note which are not edited."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from spie_robo.data.formats.source_record import SourceRecord
from spie_robo.data.protocols import EpisodeSource
from spie_robo.data.recorded_geometry import unusable_geometry
from spie_robo.data.store import fields
from spie_robo.errors import ConfigError


def edited_cameras(source: EpisodeSource, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the cameras to edit: the wanted ones, or without names all that do not show depth.

    Raises:
        ConfigError: If a wanted camera does not exist, or no camera is left.
    """
    present = fields.cameras_of(source.keys)
    unknown = sorted(set(wanted) - set(present))
    if not present:
        raise ConfigError(
            "cameras: expected pictures of uint8 (height, width, 3) with 16 pixels or more a side "
            f"under <camera>_rgb, found {_pictures(source)}. Convert pictures to RGB, and small "
            "ones to a larger size, before they go into the data set; with --editor none nothing "
            "is edited and everything is kept."
        )
    if unknown:
        raise ConfigError(
            f"cameras: expected some of {list(present)}, got {unknown}. A camera has frames under "
            "<camera>_rgb."
        )
    chosen = wanted or set(present) - set(depth_pictures(source))
    if not chosen:
        raise ConfigError(
            f"cameras: all of {list(present)} show depth, which has no look to edit. Name "
            "cameras to edit them anyway."
        )
    return tuple(c for c in present if c in chosen)


def _pictures(source: EpisodeSource) -> str:
    """Return the arrays that look like pictures in a data set without cameras, as text."""
    row = source.read_rows(0, 0, 1) if len(source) else {}
    shapes = {
        key: "x".join(map(str, value.shape[1:]))
        for key, value in row.items()
        if value.ndim in (3, 4) and value.dtype.kind in "uif" and min(value.shape[1:3]) > 1
    }
    return ", ".join(f"{key} ({row[key].dtype} {shape})" for key, shape in shapes.items()) or "none"


def depth_pictures(source: EpisodeSource) -> tuple[str, ...]:
    """Return the cameras whose pictures show depth, by LeRobot's ``video.is_depth_map``."""
    record = SourceRecord.of(source.metadata)
    features = None if record is None else record.extras.get("features")
    if record is None or not isinstance(features, Mapping):
        return ()
    names = {array.key: array.name for array in record.arrays}
    cameras = fields.cameras_of(source.keys)
    described = {c: features.get(names.get(fields.rgb_key(c))) for c in cameras}
    return tuple(
        camera
        for camera, feature in described.items()
        if isinstance(feature, Mapping) and feature.get("is_depth_map")
    )


def editing_notes(source: EpisodeSource, edited: Collection[str]) -> tuple[str, ...]:
    """Return notes for the user about cameras and geometry that a conversion leaves out."""
    untouched = (
        f"{camera} shows depth (video.is_depth_map) and is not edited; name it with cameras if it "
        "should be"
        for camera in (depth_pictures(source) if edited else ())
        if camera not in edited
    )
    return (*unusable_geometry(source, sorted(edited)).values(), *untouched)
