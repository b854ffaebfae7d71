"""Photo files as phones and cameras write them."""

from __future__ import annotations

import io
import logging
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from spie_robo.editor.photo_check import check_photos
from spie_robo.editor.photo_decoding import decode_photo
from spie_robo.editor.references import read_photo
from spie_robo.errors import ReferencePhotoError

# Primaries (x, y) and white point of colour spaces, for profiles made of nothing but them.
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
SRGB = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
D65, D50 = (0.3127, 0.3290), (0.9642, 1.0, 0.8249)


def xyz_of(primaries):
    """The matrix from linear RGB to XYZ under D65."""
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([D65[0] / D65[1], 1.0, (1 - D65[0] - D65[1]) / D65[1]])
    return columns * np.linalg.solve(columns, white)


def profile_of(primaries, name="Display P3", gamma=2.2):
    """An ICC profile (version 2) of three primaries and a gamma."""
    cone = np.array(
        [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
    )
    white = xyz_of(primaries).sum(axis=1)
    adapt = np.linalg.inv(cone) @ np.diag((cone @ D50) / (cone @ white)) @ cone
    matrix = adapt @ xyz_of(primaries)

    def fixed(values):
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    text = name.encode() + b"\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + b"\0" * 78,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + fixed(D50),
        b"rXYZ": b"XYZ \0\0\0\0" + fixed(matrix[:, 0]),
        b"gXYZ": b"XYZ \0\0\0\0" + fixed(matrix[:, 1]),
        b"bXYZ": b"XYZ \0\0\0\0" + fixed(matrix[:, 2]),
    }
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    offset, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for tag, content in tags.items():
        table += tag + struct.pack(">II", offset + len(data), len(content))
        data += content + b"\0" * (-len(content) % 4)
    size = offset + len(data)
    header = struct.pack(">I4sI4s4s4s", size, b"none", 0x02200000, b"mntr", b"RGB ", b"XYZ ")
    header += b"\0" * 12 + b"acsp" + b"\0" * 28 + fixed(D50)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def in_srgb(values, primaries=DISPLAY_P3, gamma=2.2):
    """What numbers of a colour space are in sRGB, by its definition."""
    linear = (np.asarray(values) / 255.0) ** gamma
    linear = np.linalg.solve(xyz_of(SRGB), xyz_of(primaries) @ linear).clip(0, 1)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return curve * 255


COLOURS = [(200, 60, 60), (60, 180, 90), (70, 80, 200), (128, 128, 128), (230, 200, 120)]


def swatches(side=64):
    return np.concatenate([np.full((side, side, 3), c, np.uint8) for c in COLOURS], axis=1)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_display_p3_is_converted_and_not_taken_for_srgb(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"phone{suffix}"
    options = {"quality": 100, "subsampling": 0} if suffix == ".jpg" else {}
    Image.fromarray(swatches()).save(file, icc_profile=profile_of(DISPLAY_P3), **options)
    photo = decode_photo(file)
    assert photo.note == ""
    for index, colour in enumerate(COLOURS):
        got = photo.image[32, 64 * index + 32]
        assert np.abs(got - in_srgb(colour)).max() < 2.5, (colour, got, in_srgb(colour))
    # Read as sRGB, the red swatch would be a good deal duller.
    assert abs(int(photo.image[32, 32, 0]) - 200) > 8


def test_transparent_and_grey_and_palette_photos_are_converted_with_their_profile(
    tmp_path: Path,
) -> None:
    colour, profile = COLOURS[0], profile_of(DISPLAY_P3)
    image = Image.new("RGBA", (64, 64), (*colour, 255))
    image.paste((0, 0, 0, 0), (0, 0, 64, 32))
    image.save(tmp_path / "alpha.png", icc_profile=profile)
    got = decode_photo(tmp_path / "alpha.png").image
    assert (got[0, 0] == 255).all() and np.abs(got[48, 32] - in_srgb(colour)).max() < 2.5
    palette = Image.new("RGB", (64, 64), colour).quantize(4)
    palette.save(tmp_path / "palette.png", icc_profile=profile)
    got = decode_photo(tmp_path / "palette.png").image
    assert np.abs(got[32, 32] - in_srgb(colour)).max() < 2.5


def test_an_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(swatches()).save(tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(decode_photo(tmp_path / "a.png").image, swatches())


def test_a_broken_profile_is_said_and_the_photo_still_used(tmp_path: Path, caplog) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(swatches()).save(file, icc_profile=profile_of(DISPLAY_P3)[:200])
    checked = check_photos(tmp_path)
    assert any("colour profile cannot be used" in note for note in checked.notes)
    np.testing.assert_array_equal(checked.images[0], swatches())
    with caplog.at_level(logging.WARNING):
        read_photo(file)
    assert "colour profile cannot be used" in caplog.text and str(file) in caplog.text


def write_png(path, values, colour_type, transparent):
    """A PNG of 16 bits a channel, which Pillow cannot write in every mode."""

    def chunk(name, data):
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    tail = b"" if transparent is None else chunk(b"tRNS", np.array(transparent, ">u2").tobytes())
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + tail
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("colour_type", [0, 2])
def test_16_bits_with_a_transparent_value_keep_their_grey(tmp_path: Path, colour_type) -> None:
    grey = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    transparent = int(grey[10, 10])
    values = grey if colour_type == 0 else np.stack([grey] * 3, axis=-1)
    write_png(tmp_path / "a.png", values, colour_type, [transparent] * (3 if colour_type else 1))
    got = decode_photo(tmp_path / "a.png").image[..., 0].astype(int)
    # With colours Pillow keeps 8 bits, so all of a level that holds the value is transparent.
    hidden = grey == transparent if colour_type == 0 else grey >> 8 == transparent >> 8
    assert (got[hidden] == 255).all()
    np.testing.assert_array_equal(got[~hidden], (grey >> 8)[~hidden])


@pytest.mark.slow
@pytest.mark.parametrize("size", [(12000, 9000), (16320, 12240)])
def test_phones_of_108_and_200_megapixels_are_read_without_a_word(tmp_path: Path, size) -> None:
    file = tmp_path / "large.jpg"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Image.new("L", size, 90).save(file, quality=30)
        photo = decode_photo(file)
    assert max(photo.image.shape) == 2048 and photo.image.mean() == pytest.approx(90, abs=2)
    assert Image.MAX_IMAGE_PIXELS is not None


def test_a_header_that_claims_gigabytes_is_refused_before_anything_is_decoded(tmp_path) -> None:
    stream = io.BytesIO()
    Image.new("L", (64, 64)).save(stream, "jpeg")
    data = bytearray(stream.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65000, 65000)
    (tmp_path / "bomb.jpg").write_bytes(data)
    with pytest.raises(ReferencePhotoError, match="400 megapixels"):
        decode_photo(tmp_path / "bomb.jpg")


@pytest.mark.parametrize(("level", "name"), [(2, "black"), (253, "white")])
def test_a_photo_of_nothing_is_refused_by_the_check(tmp_path: Path, level, name) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(-2, 3, (80, 80, 3)) + level
    Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(tmp_path / "cap.jpg")
    with pytest.raises(ReferencePhotoError, match=f"all of it is {name}"):
        check_photos(tmp_path)


def test_a_dark_photo_with_a_lamp_in_it_is_a_photo(tmp_path: Path) -> None:
    image = np.zeros((80, 80, 3), np.uint8)
    image[:20, :20] = 200
    Image.fromarray(image).save(tmp_path / "night.png")
    assert len(check_photos(tmp_path).images) == 1
