"""Frames as video, through PyAV: one stream a file, constant rate, a key frame every second frame.

Colour video is lossy: what comes back is not what went in. The export measures by how much. Grey
video of 12 bits, which holds depth, is not.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from spie_robo.data.formats import limits
from spie_robo.data.formats.extras import need
from spie_robo.errors import StoreCorruptError, StoreError

_SAME_S = 1e-4
"""Two times that differ by less are one: LeRobot's own tolerance."""


_FAR_FRAMES = 50
"""A frame that is further on than this is looked for from its key frame."""


@dataclass(frozen=True)
class VideoCodec:
    """The encoding of frames.

    Attributes:
        name: As data sets call it, e.g. "h264".
        encoder: FFmpeg's name of the encoder.
        options: Its options.
        cause: The reported cause of its loss; empty if there is none.
        grey: Whether frames are 12-bit codes, uint16, (height, width), and not colours.
    """

    name: str
    encoder: str
    options: Mapping[str, str]
    cause: str
    grey: bool = False

    def pixel_format(self, height: int, width: int) -> str:
        """Return FFmpeg's name of the layout of a frame."""
        if self.grey:
            return "gray12le"
        # 4:2:0 needs even sides; every player reads it.
        return "yuv444p" if height % 2 or width % 2 else "yuv420p"


H264 = VideoCodec(
    "h264",
    "libx264",
    {"crf": "18", "g": "2", "bf": "0", "preset": "medium", "threads": "1"},
    "video, H.264 at crf 18",
)
"""Quality 18 is called visually lossless; one thread gives the same bytes on every machine."""

HEVC = VideoCodec(
    "hevc",
    "libx265",
    {
        "crf": "18",
        "g": "2",
        "bf": "0",
        "x265-params": "log-level=error:pools=none:frame-threads=1",
    },
    "video, HEVC at crf 18",
)

AV1 = VideoCodec(
    "av1",
    "libsvtav1",
    {"crf": "20", "g": "2", "preset": "8", "svtav1-params": "lp=1"},
    "video, AV1 at crf 20",
)

DEPTH = VideoCodec(
    "hevc",
    "libx265",
    {
        "g": "2",
        "bf": "0",
        "x265-params": "lossless=1:log-level=error:pools=none:frame-threads=1",
    },
    "",
    grey=True,
)
"""Codec with which LeRobot 0.6 writes depth."""

COLOUR_CODECS = {codec.name: codec for codec in (H264, HEVC, AV1)}
"""Codecs for colours by the name that data sets give them."""

_SMALLEST_AV1 = 64


def colour_codec(name: object, height: int, width: int) -> VideoCodec:
    """Return the codec of a name for frames of a size, or H.264 where it cannot encode them."""
    codec = COLOUR_CODECS.get(str(name), H264)
    even = not (height % 2 or width % 2)
    if codec is AV1 and (min(height, width) < _SMALLEST_AV1 or not even):
        return H264
    try:
        need("av").codec.Codec(codec.encoder, "w")
    except ValueError:  # this build of FFmpeg has no such encoder
        return H264
    return codec


@final
class VideoWriter:
    """Encodes frames into one MP4 file."""

    def __init__(
        self,
        target: Path | io.BytesIO,
        fps: int,
        height: int,
        width: int,
        codec: VideoCodec = H264,
    ) -> None:
        """Begin a video.

        Raises:
            MissingExtraError: If PyAV is not installed.
        """
        self._av = need("av")
        os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder's own noise on standard error
        name = str(target) if isinstance(target, Path) else target
        self._container = self._av.open(name, "w", format="mp4")
        self._stream = self._container.add_stream(
            codec.encoder, rate=fps, options=dict(codec.options)
        )
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = codec.pixel_format(height, width)
        self._grey = codec.grey
        self.pixel_format: str = self._stream.pix_fmt
        self.frames = 0

    def add(self, frames: NDArray[Any]) -> None:
        """Encode frames: uint8, (frames, height, width, 3), or codes, uint16, without the 3."""
        layout = "gray12le" if self._grey else "rgb24"
        for pixels in frames:
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=layout)
            frame.pts = self.frames
            self._container.mux(self._stream.encode(frame))
            self.frames += 1

    def close(self) -> None:
        """Finish the file."""
        self._container.mux(self._stream.encode())
        self._container.close()


@final
class VideoReader:
    """Decodes the frames of one video by their times; times in order cost one decode each."""

    def __init__(self, path: Path) -> None:
        """Open a video.

        Raises:
            MissingExtraError: If PyAV is not installed.
            StoreError: If it is no video, or its frames are too large.
        """
        self._av, self._path = need("av"), path
        try:
            self._container = self._av.open(str(path), options={"protocol_whitelist": "file"})
            self._stream = self._container.streams.video[0]
            self._base = float(self._stream.time_base)
            rate = float(self._stream.average_rate or self._stream.guessed_rate or 0)
            layout = self._stream.format
            bits = layout.components[0].bits if layout is not None else 0
        except (self._av.FFmpegError, IndexError, OSError, TypeError, ValueError) as error:
            raise StoreError(f"{path}: it cannot be read as a video: {error}.") from error
        self.size = (int(self._stream.height), int(self._stream.width))
        self.grey = 8 < bits <= 16
        """Whether a frame is codes of more than 8 bits, uint16, and no picture."""
        self._half_step = 0.5 / rate if rate > 0 else _SAME_S
        limits.check_array(str(path), (1, *self.size, 3), np.uint8)
        self._stream.thread_type = "NONE"
        self._frames: Iterator[tuple[float, Any]] = self._decode()
        self._held: tuple[float, Any] | None = None
        self._ahead: tuple[float, Any] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a frame: (height, width, 3), or (height, width) of codes."""
        return self.size if self.grey else (*self.size, 3)

    def read(self, times: NDArray[np.float64]) -> NDArray[Any]:
        """Read the frames that are shown at the given times.

        Args:
            times: Seconds from the beginning of the video. Each gets the frame that is nearest,
                which must be less than half a frame of the video away.

        Returns:
            uint8, (times, height, width, 3), or codes, uint16, (times, height, width).

        Raises:
            StoreCorruptError: If a frame is not there or cannot be decoded.
        """
        found = []
        try:
            for time in times.tolist():
                if self._must_seek(time):
                    self._seek(time)
                found.append(self._pixels(self._nearest(time)))
        except self._av.FFmpegError as error:
            self._held = self._ahead = None
            raise StoreCorruptError(f"{self._path}: it cannot be decoded ({error}).") from error
        if not found:
            return np.empty((0, *self.shape), np.uint16 if self.grey else np.uint8)
        return np.stack(found)

    def times(self) -> Iterator[float]:
        """Yield the time of every frame of the video, decoded from its beginning."""
        self._seek(0.0)
        try:
            yield from (time for time, _ in self._frames)
        except self._av.FFmpegError as error:
            raise StoreCorruptError(f"{self._path}: it cannot be decoded ({error}).") from error
        finally:
            self._held = self._ahead = None

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _must_seek(self, time: float) -> bool:
        if self._held is None:
            return True
        return not -_SAME_S <= time - self._held[0] <= _FAR_FRAMES * 2 * self._half_step

    def _nearest(self, time: float) -> Any:
        """Go on to the frame that is nearest to ``time``; it is not before the one held."""
        while self._held is None or self._held[0] < time - _SAME_S:
            following = self._ahead or next(self._frames, None)
            self._ahead = None
            if following is None:
                break
            if self._held is not None and following[0] > time + _SAME_S:
                if time - self._held[0] <= following[0] - time:
                    self._ahead = following
                    break
            self._held = following
        if self._held is None or abs(self._held[0] - time) > self._half_step + _SAME_S:
            there = "none" if self._held is None else f"one at {self._held[0]:.4f} s"
            raise StoreCorruptError(
                f"{self._path}: expected a frame at {time:.4f} s, the nearest is {there}."
            )
        return self._held[1]

    def _pixels(self, frame: Any) -> NDArray[Any]:
        if (frame.height, frame.width) != self.size:
            # A stream may change its size: what it then unpacks to is not known.
            raise StoreCorruptError(
                f"{self._path}: expected frames of {self.size}, found one of "
                f"{(frame.height, frame.width)}."
            )
        if not self.grey:
            colours: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
            return colours
        plane = frame.planes[0]  # without a conversion, which would stretch the codes
        codes = np.frombuffer(plane, np.uint16).reshape(-1, plane.line_size // 2)
        return codes[: self.size[0], : self.size[1]].copy()

    def _seek(self, time: float) -> None:
        offset = int((time - self._half_step) / self._base) if time > 0 else 0
        self._container.seek(max(0, offset), stream=self._stream, backward=True)
        self._frames = self._decode()
        self._held = self._ahead = None

    def _decode(self) -> Iterator[tuple[float, Any]]:
        for frame in self._container.decode(self._stream):
            if frame.pts is not None:
                yield frame.pts * self._base, frame


def encoded_size(frames: NDArray[np.uint8]) -> int:
    """Return the bytes that frames, (frames, height, width, 3), take as video, without a file."""
    buffer = io.BytesIO()
    writer = VideoWriter(buffer, 10, *frames.shape[1:3])
    writer.add(frames)
    writer.close()
    return buffer.getbuffer().nbytes
