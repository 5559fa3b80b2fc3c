"""Pictures of every kind, and files that are none."""

import json
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_service.decoding import MAX_JPEG_SCANS, decode_picture
from inference_service.decoding import decode as decode_with_pillow
from inference_service.errors import InvalidImage, NotAnImage
from PIL import Image, ImageChops, PngImagePlugin

from tests.unit.inference.pictures import bombs, encoded, photo, png, see_through, sixteen_bit, turned

MAX_PIXELS = 64_000_000
SMALL = photo().resize((60, 40))
FILES = {name: encoded(SMALL, name) for name in ("PNG", "JPEG", "WEBP", "GIF")}


def decode(data: bytes, *, max_pixels: int) -> Image.Image:
    """Decode in both ways, which must come to the same."""
    try:
        expected = decode_with_pillow(data, max_pixels=max_pixels)
    except (NotAnImage, InvalidImage) as refusal:
        with pytest.raises(type(refusal), match=f"^{re.escape(str(refusal))}$"):
            decode_picture(data, max_pixels=max_pixels)
        raise
    assert np.array_equal(np.asarray(decode_picture(data, max_pixels=max_pixels)), np.asarray(expected))
    return expected


def difference(left: Image.Image, right: Image.Image) -> float:
    """Return the mean distance of two pictures in grey levels."""
    return float(np.abs(np.asarray(left, dtype=float) - np.asarray(right, dtype=float)).mean())


@pytest.mark.parametrize("format", FILES)
def test_each_format_becomes_rgb(format: str) -> None:
    image = decode(FILES[format], max_pixels=MAX_PIXELS)
    assert (image.mode, image.size) == ("RGB", SMALL.size)
    assert difference(image, SMALL) < 8


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_each_mode_of_a_png_becomes_what_it_shows(mode: str) -> None:
    image = decode(encoded(SMALL.convert(mode), "PNG"), max_pixels=MAX_PIXELS)
    assert not ImageChops.difference(image, SMALL.convert(mode).convert("RGB")).getbbox()


def test_a_cmyk_jpeg_becomes_rgb() -> None:
    image = decode(encoded(SMALL.convert("CMYK"), "JPEG", quality=95), max_pixels=MAX_PIXELS)
    assert difference(image, SMALL) < 8


def test_sixteen_bits_of_grey_are_not_cut_to_white() -> None:
    image = decode(sixteen_bit(SMALL), max_pixels=MAX_PIXELS)
    assert not ImageChops.difference(image, SMALL.convert("L").convert("RGB")).getbbox()


def test_what_is_transparent_is_on_white() -> None:
    image = decode(encoded(see_through(SMALL), "PNG"), max_pixels=MAX_PIXELS)
    assert image.getpixel((0, 20)) == SMALL.getpixel((0, 20))
    assert image.getpixel((59, 20)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_a_colour_that_is_named_transparent_is_on_white(mode: str) -> None:
    black = Image.new("RGB", (2, 2)).convert(mode)
    data = encoded(black, "PNG", transparency=black.getpixel((0, 0)))
    assert decode(data, max_pixels=MAX_PIXELS).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options: dict[str, Any] = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert decode(data, max_pixels=MAX_PIXELS).getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright(format: str, orientation: int) -> None:
    options = {} if format == "PNG" else {"quality": 95}
    image = decode(turned(SMALL, orientation, format, **options), max_pixels=MAX_PIXELS)
    assert image.size == SMALL.size
    assert difference(image, SMALL) < 8


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_broken_exif_data_does_not_break_a_picture(exif: bytes) -> None:
    assert decode(encoded(SMALL, "JPEG", exif=exif), max_pixels=MAX_PIXELS).size == SMALL.size


def test_an_orientation_that_there_is_not_is_none() -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    assert decode(encoded(SMALL, "JPEG", exif=exif), max_pixels=MAX_PIXELS).size == SMALL.size


@pytest.mark.parametrize("format", ["TIFF", "BMP", "ICO", "PPM"])
def test_other_formats_are_no_images_here(format: str) -> None:
    with pytest.raises(NotAnImage, match="PNG, JPEG, WebP, GIF"):
        decode(encoded(SMALL, format), max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("data", [b"no picture", b"\0", b"%PDF-1.7", b"<svg/>", b"RIFF\0\0\0\0WAVE", b"\x89PN"])
def test_what_has_no_signature_of_a_picture_is_not_an_image(data: bytes) -> None:
    with pytest.raises(NotAnImage):
        decode(data, max_pixels=MAX_PIXELS)


def test_nothing_is_an_invalid_image() -> None:
    with pytest.raises(InvalidImage, match="empty"):
        decode(b"", max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("format", FILES)
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9])
def test_a_file_that_is_cut_short_is_invalid(format: str, kept: float) -> None:
    data = FILES[format]
    with pytest.raises(InvalidImage, match="damaged or cut short"):
        decode(data[: max(12, int(kept * len(data)))], max_pixels=MAX_PIXELS)


def test_a_png_with_damaged_pixels_is_invalid() -> None:
    data = bytearray(FILES["PNG"])
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    with pytest.raises(InvalidImage):
        decode(bytes(data), max_pixels=MAX_PIXELS)


def test_a_jpeg_whose_scans_never_end_is_invalid() -> None:
    data = encoded(SMALL, "JPEG", progressive=True)
    assert decode(data, max_pixels=MAX_PIXELS).size == SMALL.size
    last = data.rindex(b"\xff\xda")
    with pytest.raises(InvalidImage, match=f"more than {MAX_JPEG_SCANS} scans"):
        decode(data[:last] + data[last:-2] * MAX_JPEG_SCANS + data[-2:], max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("progressive", [False, True])
def test_what_follows_the_end_of_a_jpeg_is_not_taken_for_scans(progressive: bool) -> None:
    """Phones put a video there, in whose bytes the marker of a scan is once in 64 KB."""
    data = encoded(SMALL, "JPEG", progressive=progressive, restart_marker_blocks=1)
    alone = decode(data, max_pixels=MAX_PIXELS)
    followed = decode(data + b"a video \xff\xda\x00\x0c" * 2 * MAX_JPEG_SCANS, max_pixels=MAX_PIXELS)
    assert np.array_equal(np.asarray(followed), np.asarray(alone))


def test_what_the_segments_of_a_jpeg_hold_is_not_taken_for_scans() -> None:
    data = encoded(SMALL, "JPEG", comment=b"\xff\xda\x00\x0c" * 2 * MAX_JPEG_SCANS)
    assert decode(data, max_pixels=MAX_PIXELS).size == SMALL.size


def described(name: str, megabytes: int) -> bytes:
    """Return a PNG with so long a text or profile, compressed as editors write it."""
    text, long = PngImagePlugin.PngInfo(), "ab" * (megabytes << 19)
    match name:
        case "text":
            text.add_text("Raw profile type 8bim", long, zip=True)
        case "international text":
            text.add_itxt("XML:com.adobe.xmp", long, zip=True)
        case "colour profile":
            return encoded(SMALL, "PNG", icc_profile=long.encode())
    return encoded(SMALL, "PNG", pnginfo=text)


@pytest.mark.parametrize("name", ["text", "international text", "colour profile"])
def test_a_png_with_much_text_or_a_large_colour_profile_is_read_up_to_a_limit(name: str) -> None:
    assert not ImageChops.difference(decode(described(name, 3), max_pixels=MAX_PIXELS), SMALL).getbbox()
    with pytest.raises(InvalidImage):
        decode(described(name, 65), max_pixels=MAX_PIXELS)


def test_one_pixel_over_the_limit_is_too_many() -> None:
    data = encoded(Image.new("RGB", (20, 10)), "PNG")
    assert decode(data, max_pixels=200).size == (20, 10)
    with pytest.raises(InvalidImage, match="more than 199 pixels"):
        decode(data, max_pixels=199)


@pytest.mark.parametrize("side", [9_000, 12_000, 50_000])
def test_too_many_pixels_are_refused_on_both_sides_of_the_limits_of_the_library(side: int) -> None:
    """Pillow warns over 89 megapixels and refuses over 179."""
    for data in bombs(side, side).values():
        with pytest.raises(InvalidImage, match="more than 64000000 pixels"):
            decode(data, max_pixels=MAX_PIXELS)


MEASURE = """
import json, sys, time
from inference_service.decoding import decode_picture
from inference_service.errors import InvalidImage

def peak_kib():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1])

def refuse(data):
    started = time.perf_counter()
    try:
        decode_picture(data, max_pixels=64_000_000)
    except InvalidImage:
        return time.perf_counter() - started
    raise SystemExit("it was decoded")

files = [bytes.fromhex(line) for line in sys.stdin]
before = peak_kib()
print(json.dumps({"seconds": [min(refuse(data) for _ in range(3)) for data in files], "kib": peak_kib() - before}))
"""


def test_a_bomb_is_refused_at_once_and_takes_no_memory() -> None:
    files = [*bombs().values(), png(2**31 - 1, 1, rows=0), png(1, 2**31 - 1, rows=0)]
    run = subprocess.run(
        [sys.executable, "-c", MEASURE],
        input="\n".join(data.hex() for data in files),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    measured = json.loads(run.stdout)
    assert max(measured["seconds"]) < 0.5
    assert measured["kib"] < 50 * 1024


class TestJpeg:
    """Most JPEGs are decoded in another way, to the same pixels."""

    @pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
    @pytest.mark.parametrize("quality", [1, 30, 75, 95, 100])
    @pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 16), (33, 97), (451, 300), (1921, 641)])
    def test_photographs(self, subsampling: str, quality: int, size: tuple[int, int]) -> None:
        image = photo("chelsea.png").resize(size)
        for progressive in (False, True):
            data = encoded(image, "JPEG", subsampling=subsampling, quality=quality, progressive=progressive)
            assert isinstance(decode_picture(data, max_pixels=MAX_PIXELS), np.ndarray)
            decode(data, max_pixels=MAX_PIXELS)

    @pytest.mark.parametrize(
        "options", [{"restart_marker_rows": 1}, {"optimize": True}, {"keep_rgb": True}, {"dpi": (9, 9)}]
    )
    @pytest.mark.parametrize("mode", ["RGB", "L"])
    def test_other_kinds(self, mode: str, options: dict[str, Any]) -> None:
        data = encoded(photo().convert(mode), "JPEG", **options)
        assert isinstance(decode_picture(data, max_pixels=MAX_PIXELS), np.ndarray)
        decode(data, max_pixels=MAX_PIXELS)

    @pytest.mark.parametrize("orientation", range(2, 9))
    def test_a_turned_one(self, orientation: int) -> None:
        levels = decode_picture(turned(photo(), orientation), max_pixels=MAX_PIXELS)
        assert isinstance(levels, np.ndarray)
        assert levels.flags.c_contiguous

    def test_one_with_two_headers_is_invalid(self) -> None:
        """Who reads the first sees another size than who reads the second."""
        data = encoded(SMALL, "JPEG")
        start = data.index(b"\xff\xc0")
        header = data[start : start + 19]
        with pytest.raises(InvalidImage, match="damaged"):
            decode(data[:start] + header[:5] + b"\0\x01\0\x01" + header[9:] + data[start:], max_pixels=MAX_PIXELS)

    @pytest.mark.parametrize(
        ("min_side", "size"),
        [(None, (800, 600)), (600, (800, 600)), (300, (400, 300)), (301, (500, 375)), (1, (100, 75))],
    )
    def test_it_may_be_decoded_at_a_part_of_its_size(self, min_side: int | None, size: tuple[int, int]) -> None:
        image = photo().resize((800, 600), Image.Resampling.LANCZOS)
        levels = decode_picture(encoded(image, "JPEG", quality=95), max_pixels=MAX_PIXELS, min_side=min_side)
        decoded = Image.fromarray(np.asarray(levels))
        assert decoded.size == size
        assert difference(decoded, image.resize(size, Image.Resampling.BOX)) < 3


def decode_or_refuse(data: bytes) -> None:
    """Decode anything; whatever else but the two refusals leaves here is a bug."""
    try:
        image = decode(data, max_pixels=100_000)
    except (NotAnImage, InvalidImage):
        return
    assert image.mode == "RGB"


# Pillow warns of what is odd in a file.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
class TestAnything:
    @given(st.binary(max_size=200))
    @settings(max_examples=50, deadline=None)
    def test_random_bytes(self, data: bytes) -> None:
        decode_or_refuse(data)

    @given(st.sampled_from(sorted(FILES.values())), st.floats(0, 1))
    @settings(max_examples=50, deadline=None)
    def test_truncated_files(self, data: bytes, kept: float) -> None:
        decode_or_refuse(data[: int(kept * len(data))])

    @given(
        st.sampled_from([*sorted(FILES.values()), turned(SMALL, 6)]),
        st.lists(st.tuples(st.floats(0, 0.999), st.binary(min_size=1, max_size=4)), min_size=1, max_size=6),
    )
    @settings(max_examples=100, deadline=None)
    def test_damaged_files(self, data: bytes, damages: list[tuple[float, bytes]]) -> None:
        damaged = bytearray(data)
        for place, patch in damages:
            start = int(place * len(damaged))
            damaged[start : start + len(patch)] = patch
        decode_or_refuse(bytes(damaged))
