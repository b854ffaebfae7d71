"""The files of a LeRobot data set that grow until they are large enough: rows and videos."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spie_robo.data.formats.extras import need
from spie_robo.data.formats.lerobot import layout as layout
from spie_robo.data.formats.lerobot.columns import Column
from spie_robo.data.formats.video import VideoWriter
from spie_robo.files.staged import require_room


@final
class RollingParquet:
    """Parquet files of about 100 MB, one row group an episode."""

    def __init__(self, out: Path) -> None:
        """Begin with no file."""
        self._out, self._number, self._bytes = out, 0, 0
        self._writer: Any = None

    def add(self, columns: Mapping[str, Any]) -> tuple[int, int]:
        """Write an episode and return (chunk, file) of its place.

        Args:
            columns: Arrays (steps, ...), or lists of encoded pictures, by name.
        """
        parquet = need("pyarrow.parquet")
        table = _table(columns)
        place = divmod(self._number, layout.CHUNK_FILES)
        if self._writer is None:
            chunk, number = place
            file = self._out / layout.DATA_PATH.format(chunk_index=chunk, file_index=number)
            file.parent.mkdir(parents=True, exist_ok=True)
            self._writer = parquet.ParquetWriter(file, table.schema, compression="snappy")
        self._writer.write_table(table, row_group_size=max(1, len(table)))
        self._bytes += table.nbytes
        if self._bytes >= layout.DATA_FILE_MB * 2**20:
            self.close()
            self._number += 1
        return place

    def close(self) -> None:
        """Finish the file that is open."""
        if self._writer is not None:
            self._writer.close()
        self._writer, self._bytes = None, 0


@final
class RollingVideo:
    """Videos of one camera of about 200 MB, episodes one after another."""

    def __init__(self, out: Path, column: Column, fps: int) -> None:
        """Begin with no file."""
        self._out, self._column, self._fps = out, column, fps
        self._codec = column.codec
        self._number = self._start = 0
        self._writer: VideoWriter | None = None
        height, width = column.shape[:2]
        self._pixel_format = self._codec.pixel_format(height, width)

    def add(self, rows: NDArray[Any]) -> None:
        """Encode frames of the episode that is under way.

        Raises:
            OSError: If the disk has no room for what they may take.
        """
        require_room(self._path(), rows.nbytes)
        if self._writer is None:
            self._path().parent.mkdir(parents=True, exist_ok=True)
            height, width = self._column.shape[:2]
            self._writer = VideoWriter(self._path(), self._fps, height, width, self._codec)
            self._start = 0
        self._writer.add(self._column.to_video(rows))

    def end_episode(self) -> dict[str, Any]:
        """End the episode and return its place, as columns of ``meta/episodes``."""
        assert self._writer is not None
        prefix = f"videos/{self._column.name}/"
        chunk, file = divmod(self._number, layout.CHUNK_FILES)
        place = {
            f"{prefix}chunk_index": chunk,
            f"{prefix}file_index": file,
            f"{prefix}from_timestamp": self._start / self._fps,
            f"{prefix}to_timestamp": self._writer.frames / self._fps,
        }
        self._start = self._writer.frames
        path = self._path()  # which is not there before the encoder has given its first packet
        if path.exists() and path.stat().st_size >= layout.VIDEO_FILE_MB * 2**20:
            self.close()
            self._number += 1
        return place

    def close(self) -> None:
        """Finish the video that is open."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def feature(self) -> dict[str, Any]:
        """Return its description in ``meta/info.json``."""
        height, width = self._column.shape[:2]
        return layout.video_feature(
            (height, width), self._fps, self._codec, self._pixel_format, self._column.declared
        )

    def _path(self) -> Path:
        chunk, file = divmod(self._number, layout.CHUNK_FILES)
        return self._out / layout.VIDEO_PATH.format(
            video_key=self._column.name, chunk_index=chunk, file_index=file
        )


def encoded_pictures(rows: NDArray[Any]) -> list[dict[str, Any]]:
    """Return pictures as LeRobot keeps them in parquet: PNG of colours, TIFF of depth."""
    return [{"bytes": _encoded(pixels), "path": None} for pixels in rows]


def _encoded(pixels: NDArray[Any]) -> bytes:
    if pixels.ndim == 3:
        done, data = cv2.imencode(".png", pixels[..., ::-1])
        assert done
        return data.tobytes()
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "TIFF", compression="raw")
    return stream.getvalue()


def _table(columns: Mapping[str, Any]) -> Any:
    """Return columns as a table."""
    arrow = need("pyarrow")
    arrays = {name: _column(rows) for name, rows in columns.items()}
    fields = [
        arrow.field(name, array.type, metadata=_extension(columns[name]))
        for name, array in arrays.items()
    ]
    return arrow.table(list(arrays.values()), schema=arrow.schema(fields))


def _extension(rows: Any) -> dict[str, str] | None:
    """Return the mark of an array of several axes for the package datasets.

    Without it LeRobot's own tools that write a data set anew fail on such a column.
    """
    if not isinstance(rows, np.ndarray) or not 2 < rows.ndim < 7:
        return None
    about = json.dumps([list(rows.shape[1:]), rows.dtype.name])
    name = f"datasets.features.features.Array{rows.ndim - 1}DExtensionType"
    return {"ARROW:extension:name": name, "ARROW:extension:metadata": about}


def _column(rows: Any) -> Any:
    """Return rows as a column: numbers, lists of a fixed length, lists in lists, or pictures."""
    arrow = need("pyarrow")
    if isinstance(rows, list):
        return arrow.array(rows, arrow.struct({"bytes": arrow.binary(), "path": arrow.string()}))
    if rows.ndim == 1 or rows.shape[1:] == (1,):
        return arrow.array(rows.reshape(-1))
    values = arrow.array(np.ascontiguousarray(rows).reshape(-1))
    if rows.ndim == 2:
        return arrow.FixedSizeListArray.from_arrays(values, rows.shape[1])
    for size, count in zip(rows.shape[:0:-1], np.cumprod(rows.shape)[-2::-1], strict=True):
        offsets = np.arange(0, (count + 1) * size, size, dtype=np.int32)
        values = arrow.ListArray.from_arrays(offsets, values)
    return values
