"""Encoded pictures to pixels."""

import re
import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin

from inference_service.errors import InvalidImage, NotAnImage

Levels = NDArray[np.uint8]
"""Grey levels of red, green and blue, [H, W, 3]."""

FORMATS = ("PNG", "JPEG", "WebP", "GIF")
_JPEG_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
"""Those that a segment with its length follows, and the end of the picture; the others are inside of a scan."""

_SCAN, _END = b"\xda", b"\xd9"
MAX_JPEG_SCANS = 100
"""A progressive JPEG has about ten. Each one costs a pass over all pixels, however short it is."""

# One text or colour profile may be as long as Pillow lets all be together: by itself it refuses each over 1 MB, and
# editors write more of what was done to a picture.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

# What Pillow's readers raise on files that are not as they should be.
_DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    struct.error,
    zlib.error,
)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What to do for each EXIF orientation."""

_UPRIGHT_LEVELS: dict[int, Callable[[Levels], Levels]] = {
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored.swapaxes(0, 1), 2),
    8: np.rot90,
}


def decode_picture(data: bytes, *, max_pixels: int, min_side: int | None = None) -> Image.Image | Levels:
    """Return what `decode` returns, of most JPEGs as an array: the same pixels in less time.

    With `min_side` such a JPEG is decoded at the smallest size, a multiple of an eighth, whose sides are
    at least that. It is faster, and the pixels are others: means over squares.

    Raises:
        NotAnImage: `data` is not in one of `FORMATS`.
        InvalidImage: it is empty, damaged, cut short, or has more than `max_pixels`.
    """
    if _format(data) == "JPEG" and not _has_too_many_scans(data):
        levels = _jpeg_levels(data, max_pixels, min_side or 0)
        if levels is not None:
            return levels
    return decode(data, max_pixels=max_pixels)


def decode(data: bytes, *, max_pixels: int) -> Image.Image:
    """Return the picture in `data` as RGB, upright, with white behind what is transparent.

    Of an animation it is the first frame. Of 16 bits a channel the upper 8 are kept.

    Raises:
        NotAnImage: `data` is not in one of `FORMATS`.
        InvalidImage: it is empty, damaged, cut short, or has more than `max_pixels`.
    """
    if not data:
        raise InvalidImage("the file is empty")
    file_format = _format(data)
    if file_format is None:
        raise NotAnImage(f"expected one of {', '.join(FORMATS)}")
    if file_format == "JPEG" and _has_too_many_scans(data):
        raise InvalidImage(f"the JPEG has more than {MAX_JPEG_SCANS} scans")
    try:
        image: Image.Image = Image.open(BytesIO(data), formats=[file_format])  # reads the header only
        if image.width * image.height > max_pixels:
            raise _too_many_pixels(max_pixels)
        image.load()
        # One name, so that no step keeps the pixels of the one before: a large picture takes 256 MB.
        image = _upright(image)
        return _to_rgb(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(max_pixels) from None
    except _DAMAGE:
        raise InvalidImage(f"the {file_format} is damaged or cut short") from None


def _jpeg_levels(data: bytes, max_pixels: int, min_side: int) -> Levels | None:
    """Return the pixels of a JPEG, or None of one that `decode` has to look at: odd, damaged, or too large."""
    try:
        image = Image.open(BytesIO(data), formats=["JPEG"])  # reads the header only
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        # Both readers must see one picture: which of them is right about a file that fools one is not for here.
        if image.mode not in ("RGB", "L") or image.size != (width, height) or width * height > max_pixels:
            return None
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        levels: Levels = simplejpeg.decode_jpeg(data, "RGB", min_height=min_side, min_width=min_side)
    except (*_DAMAGE, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    return _turned(levels, orientation)


def _has_too_many_scans(data: bytes) -> bool:
    """Tell whether a JPEG has more scans than are decoded, as libjpeg goes through it.

    What its segments hold and what follows its end is not the picture: phones put seconds of video there.
    """
    scans, at = 0, 2
    while scans <= MAX_JPEG_SCANS and (marker := _JPEG_MARKER.search(data, at)) and marker[1] != _END:
        scans += marker[1] == _SCAN
        at = marker.end() + max(2, int.from_bytes(data[marker.end() : marker.end() + 2]))
    return scans > MAX_JPEG_SCANS


def _turned(stored: Levels, orientation: int) -> Levels:
    turn = _UPRIGHT_LEVELS.get(orientation)
    if turn is None:
        return stored
    # Moved as one item of three bytes, a pixel takes a third of the time.
    pixels = np.ascontiguousarray(turn(stored.view("V3")))
    return pixels.view(np.uint8)


def _format(data: bytes) -> str | None:
    """Tell the format by its signature, as Pillow does; what is named here is never `NotAnImage`."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    return None


def _too_many_pixels(max_pixels: int) -> InvalidImage:
    return InvalidImage(f"the picture has more than {max_pixels} pixels")


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _DAMAGE:
        return image  # its pixels are whole: viewers show it with broken EXIF data, too
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I;16":
        # Pillow would cut every level over 255 to white.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        page = Image.new("RGB", image.size, "white")
        page.paste(image, mask=image)
        return page
    return image if image.mode == "RGB" else image.convert("RGB")
