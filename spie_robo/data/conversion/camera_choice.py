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
    if unknown or not present:
        raise ConfigError(
            f"cameras: expected some of {list(present)}, got {list(wanted)}. A camera has "
            "frames under <camera>_rgb."
        )
    chosen = wanted or set(present) - set(depth_pictures(source))
    if not chosen:
        raise ConfigError(
            f"cameras: all of {list(present)} show depth, which has no look to edit. Name those to "
            "edit all the same."
        )
    return tuple(c for c in present if c in chosen)


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
