"""Errors that users see: each names what was expected, what was given, and the way out.

The command line prints the message of any :class:`SpieRoboError` without a traceback and exits
with code 2. Programming errors are not in this family: they are ordinary exceptions.
"""

from __future__ import annotations


class SpieRoboError(Exception):
    """Base of every error that spie_robo raises for wrong input or a wrong environment."""


class ConfigError(SpieRoboError):
    """A setting is missing, unknown, or outside its range."""


class FrameError(SpieRoboError):
    """A camera frame has the wrong dtype, shape or size, or its geometry does not fit it."""


class ReferencePhotoError(SpieRoboError):
    """Reference photos are missing, unreadable or unusable."""


class EditorError(SpieRoboError):
    """An editor is unknown or incomplete, needs another base, or failed while editing."""


class TrainingError(SpieRoboError):
    """A training run cannot go on: a broken checkpoint, or steps that are not finite."""


class EnvError(SpieRoboError):
    """A Gymnasium environment cannot be wrapped, built or rendered."""


class StoreError(SpieRoboError):
    """An episode store cannot be opened, read or written."""


class StoreLockedError(StoreError):
    """Another process is writing the store."""


class StoreCorruptError(StoreError):
    """Committed data of a store is missing or fails its checksum."""


class MissingExtraError(SpieRoboError):
    """An optional dependency is needed: the message names the extra that installs it."""
