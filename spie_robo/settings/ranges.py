"""Checks of single settings, with the same error texts everywhere."""

from __future__ import annotations

from spie_robo.errors import ConfigError
from spie_robo.settings.wording import shown

MAX_SEED = 2**53
"""Largest seed: seeds are stored in JSON, which keeps whole numbers exactly up to here."""


def require_at_least(name: str, value: int, minimum: int) -> None:
    """Refuse a number below ``minimum``.

    Raises:
        ConfigError: If the number is too small.
    """
    if value < minimum:
        raise ConfigError(f"{name}: expected {minimum} or more, got {shown(value)}.")


def require_between(name: str, value: int, minimum: int, maximum: int) -> None:
    """Refuse a number below ``minimum`` or above ``maximum``.

    Raises:
        ConfigError: If the number is out of range.
    """
    require_at_least(name, value, minimum)
    if value > maximum:
        raise ConfigError(f"{name}: expected {maximum} or less, got {shown(value)}.")


def require_seed(value: int) -> None:
    """Refuse a seed that random generators or JSON cannot hold.

    Raises:
        ConfigError: If it is below 0 or above :data:`MAX_SEED`.
    """
    require_between("seed", value, 0, MAX_SEED)


def require_text(name: str, value: str) -> None:
    """Refuse a text that is empty or blank.

    Raises:
        ConfigError: If the text is empty or blank.
    """
    if not value.strip():
        raise ConfigError(f"{name}: expected a name, got an empty text.")


def one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    """Return a setting that is one of a few words.

    Raises:
        ConfigError: Naming it and the words.
    """
    if value not in known:
        words = " or ".join(repr(word) for word in known)
        raise ConfigError(f"{name}: expected {words}, got {value!r}.")
    return value
