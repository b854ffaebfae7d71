from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from spie_robo.data.formats.damage import named_damage
from spie_robo.errors import ConfigError, StoreCorruptError


@pytest.mark.parametrize(
    "raised", [KeyError("a"), OSError("b"), RuntimeError("c"), zipfile.BadZipFile("d")]
)
def test_what_libraries_raise_becomes_a_named_error(raised: Exception) -> None:
    message = rf"x\.hdf5: it cannot be read \({type(raised).__name__}.*restore it"
    with pytest.raises(StoreCorruptError, match=message) as found, named_damage(Path("x.hdf5")):
        raise raised
    assert found.value.__cause__ is raised


def test_named_errors_and_interrupts_pass() -> None:
    for error in (ConfigError("mine"), KeyboardInterrupt()):
        with pytest.raises(type(error)), named_damage(Path("x")):
            raise error
