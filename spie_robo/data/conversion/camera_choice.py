"""Which cameras of a data set are edited, and what people are told of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from spie_robo.data.formats.source_record import SourceRecord
from spie_robo.data.protocols import EpisodeSource
from spie_robo.data.recorded_geometry import unused_geometry
from spie_robo.data.store import fields
from spie_robo.errors import ConfigError


def edited_cameras(source: EpisodeSource, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The cameras of a data set to edit: those wanted, or if none is named all that show light.

    Raises:
        ConfigError: If there is no such camera, or none at all.
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
            f"cameras: all of {list(present)} show depth, which has no look to edit. Name those to "
            "edit all the same."
        )
    return tuple(c for c in present if c in chosen)


def _pictures(source: EpisodeSource) -> str:
    """What looks like pictures in a data set without cameras."""
    row = source.read_rows(0, 0, 1) if len(source) else {}
    shapes = {
        key: "x".join(map(str, value.shape[1:]))
        for key, value in row.items()
        if value.ndim in (3, 4) and value.dtype.kind in "uif" and min(value.shape[1:3]) > 1
    }
    return ", ".join(f"{key} ({row[key].dtype} {shape})" for key, shape in shapes.items()) or "none"


def depth_pictures(source: EpisodeSource) -> tuple[str, ...]:
    """Cameras whose pictures show depth, as LeRobot's ``video.is_depth_map`` tells."""
    record = SourceRecord.of(source.metadata)
    told = None if record is None else record.extras.get("features")
    if record is None or not isinstance(told, Mapping):
        return ()
    names = {array.key: array.name for array in record.arrays}
    described = {c: told.get(names.get(fields.rgb_key(c))) for c in fields.cameras_of(source.keys)}
    return tuple(
        camera
        for camera, feature in described.items()
        if isinstance(feature, Mapping) and feature.get("is_depth_map")
    )


def editing_notes(source: EpisodeSource, edited: Collection[str]) -> tuple[str, ...]:
    """What people are told of cameras that are edited, and of those that are not."""
    untouched = (
        f"{camera} shows depth (video.is_depth_map) and is not edited; name it with cameras if it "
        "should be"
        for camera in (depth_pictures(source) if edited else ())
        if camera not in edited
    )
    return (*unused_geometry(source, sorted(edited)).values(), *untouched)
