"""Check whether zarr can read its own groups in this Python.

zarr 3.1.6 removes a key from a group's header inside an ``assert``. ``python -O`` and
``PYTHONOPTIMIZE`` skip asserts, and every group then looks damaged.
"""

from __future__ import annotations

from functools import cache

from spie_robo.errors import StoreError


def require_asserts() -> None:
    """Refuse a Python that skips asserts if zarr needs them.

    Raises:
        StoreError: If groups cannot be read in this Python.
    """
    if not __debug__ and not _reads_groups():
        raise StoreError(
            "Python runs with -O or PYTHONOPTIMIZE, without the asserts that this release of zarr "
            "needs to read its groups. Run without them: unset PYTHONOPTIMIZE, or call python "
            "without -O."
        )


@cache
def _reads_groups() -> bool:
    from zarr.core.group import GroupMetadata

    header = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    try:
        GroupMetadata.from_dict(header)
    except TypeError:
        return False
    return True
