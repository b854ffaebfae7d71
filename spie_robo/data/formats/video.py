"""Frames as video, through PyAV: one stream a file, constant rate, a key frame every second frame.

H.264 is lossy: what comes back is not what went in. The export measures by how much.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats import limits
from spie_robo.data.formats.extras import need
from spie_robo.errors import StoreCorruptError, StoreError

CODEC = "libx264"
OPTIONS = {"crf": "18", "g": "2", "bf": "0", "preset": "medium", "threads": "1"}
"""Quality 18 is called visually lossless; one thread gives the same bytes on every machine."""

CAUSE = "video, H.264 at crf 18"


@final
class VideoWriter:
    """Encodes frames into one MP4 file."""

    def __init__(self, target: Path | io.BytesIO, fps: int, height: int, width: int) -> None:
        """Begin a video.

        Raises:
            MissingExtraError: If PyAV is not installed.
        """
        self._av = need("av")
        name = str(target) if isinstance(target, Path) else target
        self._container = self._av.open(name, "w", format="mp4")
        self._stream = self._container.add_stream(CODEC, rate=fps, options=OPTIONS)
        self._stream.height, self._stream.width = height, width
        # 4:2:0 needs even sides; every player reads it.
        self._stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
        self.pixel_format: str = self._stream.pix_fmt
        self.frames = 0

    def add(self, frames: NDArray[np.uint8]) -> None:
        """Encode frames, uint8, (frames, height, width, 3)."""
        for rgb in frames:
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            frame.pts = self.frames
            self._container.mux(self._stream.encode(frame))
            self.frames += 1

    def close(self) -> None:
        """Finish the file."""
        self._container.mux(self._stream.encode())
        self._container.close()


@final
class VideoReader:
    """Decodes frames of one video by their number; frames in order cost one decode each."""

    def __init__(self, path: Path, fps: float) -> None:
        """Open a video.

        Raises:
            MissingExtraError: If PyAV is not installed.
            StoreError: If it is no video, or its frames are too large.
        """
        self._av, self._path, self._fps = need("av"), path, fps
        try:
            self._container = self._av.open(str(path), options={"protocol_whitelist": "file"})
            self._stream = self._container.streams.video[0]
        except (self._av.FFmpegError, IndexError, OSError) as error:
            raise StoreError(f"{path}: it cannot be read as a video: {error}.") from error
        self.size = (int(self._stream.height), int(self._stream.width))
        limits.check_array(str(path), (1, *self.size, 3), np.uint8)
        self._stream.thread_type = "NONE"
        self._frames: Iterator[tuple[int, Any]] = self._decode()
        self._next = 0

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Frames ``start`` to ``stop``, uint8, (frames, height, width, 3).

        Raises:
            StoreCorruptError: If they are not there or cannot be decoded.
        """
        if stop <= start:
            return np.empty((0, *self.size, 3), np.uint8)
        if start != self._next:
            self._seek(start)
        found = []
        try:
            for number, frame in self._frames:
                if (frame.height, frame.width) != self.size:
                    break  # a stream may change its size: what it then unpacks to is not known
                if number >= start:
                    found.append(frame.to_ndarray(format="rgb24"))
                if number + 1 >= stop:
                    break
        except self._av.FFmpegError as error:
            raise StoreCorruptError(f"{self._path}: it cannot be decoded ({error}).") from error
        self._next = stop
        if len(found) != stop - start:
            raise StoreCorruptError(
                f"{self._path}: expected frames {start} to {stop - 1} of {self.size}, found "
                f"{len(found)} at {self._fps} frames a second."
            )
        return np.stack(found)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _seek(self, number: int) -> None:
        base = float(self._stream.time_base)
        offset = int((number - 0.5) / self._fps / base) if number else 0
        self._container.seek(max(0, offset), stream=self._stream, backward=True)
        self._frames = self._decode()

    def _decode(self) -> Iterator[tuple[int, Any]]:
        base = float(self._stream.time_base)
        for frame in self._container.decode(self._stream):
            yield round(frame.pts * base * self._fps), frame


def encoded_size(frames: NDArray[np.uint8]) -> int:
    """Bytes that frames, (frames, height, width, 3), take as video; nothing is written."""
    buffer = io.BytesIO()
    writer = VideoWriter(buffer, 10, *frames.shape[1:3])
    writer.add(frames)
    writer.close()
    return buffer.getbuffer().nbytes
