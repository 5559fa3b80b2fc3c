"""Pictures that the tests make, of every kind that may be sent."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

DATA = Path(__file__).parents[2] / "data"


def read(name: str) -> bytes:
    """Return a file of `tests/data`."""
    return (DATA / name).read_bytes()


def photo(name: str = "coffee.png") -> Image.Image:
    """Return a picture of `tests/data`, RGB."""
    with Image.open(DATA / name) as image:
        return image.convert("RGB")


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    """Return the file of a picture."""
    data = io.BytesIO()
    image.save(data, format, **options)
    return data.getvalue()


def turned(image: Image.Image, orientation: int, format: str = "JPEG", **options: Any) -> bytes:
    """Return a file whose pixels lie as a camera held that way stores them, and that says so."""
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image if stored is None else image.transpose(stored), format, exif=exif, **options)


def sixteen_bit(image: Image.Image) -> bytes:
    """Return a PNG with 16 bits of grey."""
    levels = np.asarray(image.convert("L"), dtype=np.uint16)
    return encoded(Image.fromarray(levels * 257), "PNG")


def see_through(image: Image.Image) -> Image.Image:
    """Return an RGBA picture that fades out to the right, over colours that must not show."""
    fading = image.convert("RGBA")
    ramp = np.linspace(255, 0, image.width).astype(np.uint8)
    fading.putalpha(Image.fromarray(np.tile(ramp, (image.height, 1))))
    return fading


def png(width: int, height: int, rows: int = 64) -> bytes:
    """Return a PNG that declares any size; only its first rows are there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 + 3 * width)) for _ in range(rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def bombs(width: int = 50_000, height: int = 50_000) -> dict[str, bytes]:
    """Return small files of each format whose pixels would take gigabytes."""
    dot = Image.new("RGB", (1, 1))
    jpeg = bytearray(encoded(dot, "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    gif = bytearray(encoded(dot, "GIF"))
    gif[6:10] = struct.pack("<HH", width, height)
    # An animation: its frames may be smaller than its canvas, whose size stands in the header.
    webp = bytearray(encoded(dot, "WEBP", save_all=True, append_images=[Image.new("RGB", (1, 1), "red")]))
    webp[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return {"PNG": png(width, height), "JPEG": bytes(jpeg), "GIF": bytes(gif), "WEBP": bytes(webp)}
