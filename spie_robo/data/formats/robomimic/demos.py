"""Attributes of robomimic's demos, small enough for the header of a store.

That header is written anew with every episode. A demo's ``model_file`` often takes 100 kB and is
nearly the next one's: in the header as they are, 500 of them would be written 500 times.
"""

from __future__ import annotations

import base64
import json
import lzma
from collections.abc import Mapping, Sequence
from typing import Any

from spie_robo.data.formats import limits
from spie_robo.errors import StoreError

MAX_PACKED_BYTES = 4 * 2**20
"""More than this is not kept: it would be written anew with every episode."""

_PLAIN_BYTES = 2**16
_LONG = 1000
_BLOCK = 2**20
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 8 * 2**20}]
_MEMORY = 64 * 2**20


def pack_demos(demos: Sequence[Mapping[str, Any]]) -> tuple[Any, tuple[str, ...]]:
    """Return attributes of each demo as a JSON value, each once if demos share it, and notes.

    Args:
        demos: By name, plain JSON values.

    Returns:
        A list where it is short, else text that :func:`unpack_demos` reads; and what was left out
        because it takes more than :data:`MAX_PACKED_BYTES`.
    """
    found = _packed(demos)
    if found is not None:
        return found, ()
    names = sorted({n for demo in demos for n, v in demo.items() if len(json.dumps(v)) > _LONG})
    short = _packed([{n: v for n, v in demo.items() if n not in names} for demo in demos])
    left_out = ", ".join(names) if short is not None else "Every attribute"
    return short or [], (
        f"{left_out} of the demos was not kept: packed, it takes more than "
        f"{MAX_PACKED_BYTES // 2**20} MiB, which a store would write anew with every episode.",
    )


def unpack_demos(packed: Any) -> list[dict[str, Any]]:
    """Read back what :func:`pack_demos` gave.

    Raises:
        StoreError: If it is damaged or unpacks to more than it may.
    """
    try:
        if not isinstance(packed, str):  # short, or of a release that packed nothing
            return [dict(demo) for demo in packed]
        decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
        data = decoder.decompress(base64.b64decode(packed, validate=True), limits.MAX_CHUNK_BYTES)
        if not decoder.eof:
            raise ValueError(f"more than {limits.MAX_CHUNK_BYTES} bytes, or cut off")
        document = json.loads(data)
        values = document["values"]
        return [{name: values[i] for name, i in demo.items()} for demo in document["demos"]]
    except (lzma.LZMAError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise StoreError(
            f"The attributes of robomimic's demos in the metadata are damaged ({error!r}). Convert "
            "the robomimic file again."
        ) from error


def _packed(demos: Sequence[Mapping[str, Any]]) -> Any:
    """Return the demos as a list or as text; None if they take too much."""
    texts = [{name: json.dumps(value) for name, value in demo.items()} for demo in demos]
    if sum(len(name) + len(text) for of in texts for name, text in of.items()) <= _PLAIN_BYTES:
        return [dict(demo) for demo in demos]
    places: dict[str, int] = {}
    numbered = [
        {name: places.setdefault(text, len(places)) for name, text in of.items()} for of in texts
    ]
    data = f'{{"values": [{", ".join(places)}], "demos": {json.dumps(numbered)}}}'.encode()
    if len(data) > limits.MAX_CHUNK_BYTES:
        return None
    packer = lzma.LZMACompressor(lzma.FORMAT_XZ, filters=_FILTERS)
    parts, size = [], 0
    for start in range(0, len(data), _BLOCK):
        parts.append(packer.compress(data[start : start + _BLOCK]))
        size += len(parts[-1])
        if size > MAX_PACKED_BYTES:
            return None
    return base64.b64encode(b"".join([*parts, packer.flush()])).decode()
