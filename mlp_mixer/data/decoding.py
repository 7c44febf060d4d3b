"""Decodes image files to pixels, uint8 [h, w, channels]."""

import contextlib
import io
import os
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from mlp_mixer.data import depth, jpeg

# The pipeline already decodes many images in parallel threads; OpenCV's own pool would compete.
cv2.setNumThreads(0)
# Pillow warns of odd metadata, which does not matter for the pixels.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

MAX_PIXELS_VARIABLE = "MLP_MIXER_MAX_PIXELS"
MAX_PIXELS = 2**28  # 16,384 x 16,384, which takes 805 MB in colour
ORIENTATION = 0x0112  # EXIF tag
_FLAGS = {
    1: cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION,
    3: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION,
}
PNG_BITS = 24  # byte offset of the bit depth in a PNG file


class BrokenImage(ValueError):
    """The bytes of a file are not an image, or the image is damaged or far too large."""


def decode(data: bytes, channels: int = 3, where: str = "image") -> np.ndarray:
    """Decodes an image file of any common format to uint8 [h, w, channels].

    EXIF rotation is applied, transparency is composited over white, animations are reduced to
    their first frame, and more than 8 bits are scaled to 8 (see `depth.to_8_bits`).

    Args:
        data: contents of a JPEG, PNG, GIF, WebP, BMP, ... file.
        channels: 3 for RGB, 1 for grey.
        where: what to call the image in errors.

    Raises:
        BrokenImage: the bytes are not an image, or it is damaged or has more than `max_pixels`.
        OSError: there is not enough memory.
    """
    if channels not in (1, 3):
        raise ValueError(f"images are decoded to 1 (grey) or 3 (RGB) channels, not {channels}")
    limit = max_pixels()
    try:
        header = jpeg.read_header(data)
        image = None if header is None else _decode_jpeg(data, header, channels, where, limit)
        if image is None:
            with _pillow.ours():
                return _decode_other(data, channels, where, limit)
        return image
    except BrokenImage:
        raise
    except MemoryError as error:  # not the image's fault, so it must not be skipped as broken
        raise OSError(f"there is not enough memory to decode {where}") from error
    except Exception as error:  # decoders raise many types, some of them by accident
        if not data:
            reason = "empty file"
        elif isinstance(error, UnidentifiedImageError):
            reason = f"not an image, or its header is damaged; it begins with {data[:16]!r}"
        else:
            reason = str(error) or type(error).__name__
        raise BrokenImage(f"broken image: {where} cannot be decoded ({reason})") from error


def max_pixels() -> int:
    """Returns the largest number of pixels that an image may have.

    The environment variable MLP_MIXER_MAX_PIXELS changes it.

    Raises:
        ValueError: the variable is not a number of at least 1.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE)
    if not text:
        return MAX_PIXELS
    try:
        number = int(float(text))
    except (ValueError, OverflowError):
        number = 0
    if number < 1:
        raise ValueError(f"{MAX_PIXELS_VARIABLE}={text} is not a number of pixels, such as 4e8")
    return number


def _check_size(h: int, w: int, where: str, limit: int) -> None:
    if h * w > limit:
        raise BrokenImage(
            f"image too large: {where} has {w} x {h} pixels, or its header is damaged; the limit "
            f"is {limit} pixels, and {MAX_PIXELS_VARIABLE}={h * w} in the environment raises it"
        )


def _decode_jpeg(
    data: bytes, header: jpeg.Header, channels: int, where: str, limit: int
) -> np.ndarray | None:
    """Decodes with OpenCV: the pixels of Pillow in half the time. None if OpenCV cannot."""
    _check_size(*header.size, where, limit)
    if not jpeg.has_end(data, header):
        raise ValueError("it ends early: there is no end marker")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[channels])
    except cv2.error:
        return None
    if image is None:
        return None
    image = image.reshape(*image.shape[:2], channels)
    if jpeg.may_be_cut(header, image):
        with _pillow.ours():
            if jpeg.is_cut(data, header):
                raise ValueError("it ends early: the rest of the picture is missing")
    if header.has_metadata:
        image = _turn(image, _orientation(data))
    return image


def decode_opened(opened: Image.Image, channels: int, where: str) -> np.ndarray:
    """Converts a PIL image to what `decode` returns for its file, uint8 [h, w, channels].

    Raises:
        BrokenImage: its file is damaged, or it has more than `max_pixels`.
    """
    _check_size(opened.height, opened.width, where, max_pixels())
    try:
        with _pillow.ours():
            opened.load()
            return _to_pixels(opened, opened.info.get("transparency"), channels, where)
    except (OSError, SyntaxError, ValueError) as error:
        raise BrokenImage(f"broken image: {where} cannot be decoded ({error})") from error


def _decode_other(data: bytes, channels: int, where: str, limit: int) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as opened:
        _check_size(opened.height, opened.width, where, limit)
        is_deep = ";16" in str(opened.tile)  # Pillow's name for the format in the file
        opened.load()
        colour = opened.info.get("transparency")
        if opened.format == "PNG":
            colour = depth.transparent_colour(opened, data[PNG_BITS])
        return _to_pixels(opened, colour, channels, where, is_deep)


def _to_pixels(
    opened: Image.Image, colour: Any, channels: int, where: str, is_deep: bool = False
) -> np.ndarray:
    """Converts a PIL image to pixels; `colour` is its transparent colour, if it has one."""
    image = depth.to_8_bits(opened, where) if opened.mode[0] in "IF" else opened
    if colour != image.info.get("transparency"):
        image = image.copy()  # the caller's image must not change
        image.info["transparency"] = colour
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    array = np.asarray(image.convert("RGB" if channels == 3 else "L"))
    if is_deep:
        depth.check_dark(array, where)
    return _turn(array.reshape(*array.shape[:2], channels), _orientation(opened))


def _orientation(image: bytes | Image.Image) -> int:
    """Returns the EXIF orientation of an image; 1 (upright) if it has none."""
    try:
        with _pillow.ours():
            opened = Image.open(io.BytesIO(image)) if isinstance(image, bytes) else image
            return opened.getexif().get(ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # damaged metadata raise many types of errors; the pixels are still good
        return 1


def _turn(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turns and mirrors an image according to one of the eight EXIF orientations."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


class _PillowSettings:
    """Pillow's process-wide settings, replaced by ours while any thread decodes.

    Ours turn off Pillow's own pixel limit, and make a truncated file an error.
    """

    def __init__(self):
        self._lock, self._users = threading.Lock(), 0
        self._before: tuple[int | None, bool] = None, False

    @contextlib.contextmanager
    def ours(self) -> Iterator[None]:
        with self._lock:
            if not self._users:
                self._before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
                Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, False
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = self._before


_pillow = _PillowSettings()
