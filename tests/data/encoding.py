"""Image files made by hand or by Pillow."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def picture(h: int = 24, w: int = 40) -> Image.Image:
    """Smooth colours, so that JPEG changes little."""
    y, x = np.mgrid[:h, :w]
    rgb = np.stack([255 * x / w, 255 * y / h, 255 * (1 - x / w)], -1)
    return Image.fromarray(rgb.astype(np.uint8))


def encode(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(pixels: np.ndarray, bits: int, chunks: bytes = b"") -> bytes:
    """A PNG of grey [h, w] or colour [h, w, 3] with so many bits of a sample."""
    h, w = pixels.shape[:2]
    rows = pixels.astype(">u2").reshape(h, -1)
    if bits < 16:
        ones = (rows[..., None] >> np.arange(bits)[::-1] & 1).reshape(h, -1).astype(np.uint8)
        rows = np.packbits(ones, axis=1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)  # no filter
    header = struct.pack(">IIBBBBB", w, h, bits, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunks + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def chunk(name: bytes, data: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def tiff(rows: list[bytes], w: int, tags: dict[int, tuple[int, int]]) -> bytes:
    """A TIFF of grey; further tags are {tag: (type, value)}, of type 3 (16 bits) or 4 (32)."""
    data = b"".join(rows)
    entries = {
        256: (4, w), 257: (4, len(rows)), 259: (3, 1), 262: (3, 1), 273: (4, 8), 277: (3, 1),
        278: (4, len(rows)), 279: (4, len(data)),
    } | tags  # fmt: skip
    table = b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(entries.items())
    )
    at = 8 + len(data)
    return (
        struct.pack("<2sHI", b"II", 42, at)
        + data
        + struct.pack("<H", len(entries))
        + table
        + bytes(4)
    )


def with_exif(data: bytes, exif: bytes) -> bytes:
    """A PNG or JPEG with these bytes for EXIF, which encoders would refuse to write."""
    if data.startswith(b"\xff\xd8"):
        return (
            data[:2]
            + b"\xff\xe1"
            + struct.pack(">H", len(exif) + 8)
            + b"Exif\0\0"
            + exif
            + data[2:]
        )
    at = data.index(b"IDAT") - 4
    return data[:at] + chunk(b"eXIf", exif) + data[at:]


def exif(*tags: tuple[int, int, int, bytes]) -> bytes:
    """EXIF of (tag, type, count, value) as they are."""
    table, rest, at = b"", b"", 14 + 12 * len(tags)
    for tag, kind, count, value in tags:
        table += struct.pack("<HHI", tag, kind, count)
        if len(value) > 4:
            table, rest = table + struct.pack("<I", at + len(rest)), rest + value
        else:
            table += value.ljust(4, b"\0")
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + table + bytes(4) + rest
