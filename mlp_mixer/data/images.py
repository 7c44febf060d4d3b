"""One image on the host, uint8 [h, w, channels]: decoding, resizing, cropping."""

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Threads of the pipeline decode many images at once; a second pool under each only gets in its way.
cv2.setNumThreads(0)


def decode_file(path: Path, channels: int = 3) -> np.ndarray:
    """Reads and decodes one image file; see `decode`.

    Raises:
        ValueError: not an image, or a broken one; names the file and its folder.
        FileNotFoundError: no such file.
    """
    try:
        data = Path(path).read_bytes()
    except IsADirectoryError as error:
        raise ValueError(f"{path} is a folder, not an image") from error
    return decode(data, channels, f"{Path(path).name} in folder {Path(path).parent}")


def decode(data: bytes, channels: int = 3, where: str = "image") -> np.ndarray:
    """Decodes an image of any common kind to uint8 [h, w, channels].

    Any EXIF rotation is applied, transparency is laid over white, the first frame is taken of an
    animation, 16-bit grey is scaled to 8.

    Args:
        data: contents of a JPEG, PNG, GIF, WebP, BMP, ... file.
        channels: 3 for RGB, 1 for grey.
        where: what to call the image in an error.

    Raises:
        ValueError: the bytes are not an image, or a broken one.
    """
    if channels not in (1, 3):
        raise ValueError(f"images are decoded to 1 (grey) or 3 (RGB) channels, not {channels}")
    if data[:2] == b"\xff\xd8" and data.rstrip(b"\0")[-2:] == b"\xff\xd9":
        # Twice as fast as Pillow, and the same pixels. It would fill in the missing part of a
        # file that was cut short, hence the look at the end marker.
        flag = cv2.IMREAD_COLOR_RGB if channels == 3 else cv2.IMREAD_GRAYSCALE
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        if image is not None:
            return image.reshape(*image.shape[:2], channels)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata is no reason to alarm anyone
            return _decode_with_pillow(data, channels)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
        if not data:
            reason = "empty file"
        elif isinstance(error, UnidentifiedImageError):
            reason = f"not an image, or its header is damaged; it begins with {data[:16]!r}"
        else:
            reason = str(error)
        raise ValueError(f"broken image: {where} cannot be decoded ({reason})") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"image too large: {where} ({error})") from error


def _decode_with_pillow(data: bytes, channels: int) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip
            image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        array = np.asarray(image.convert("RGB" if channels == 3 else "L"))
    return array.reshape(*array.shape[:2], channels)


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes to (height, width): area averaging where both sides shrink, else bilinear."""
    h, w = image.shape[:2]
    if (h, w) == tuple(size):
        return image
    shrinks = size[0] <= h and size[1] <= w
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=interpolation).reshape(*size, -1)


def center_crop(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle (height, width) of an image that is at least as large."""
    top, left = ((have - want) // 2 for have, want in zip(image.shape, size, strict=False))
    return image[top : top + size[0], left : left + size[1]]


def resize_and_crop(image: np.ndarray, size: tuple[int, int], fraction: float) -> np.ndarray:
    """The evaluation view: the middle of the image, of which a crop of `fraction` is seen.

    The image is resized, keeping its aspect, until it just covers `size / fraction`; the middle
    `size` is cut out. For 224 pixels and 0.875 this is the paper's "resmall-crop": the shorter side
    to 256, then the central 224. With 1.0 nothing but what the aspect costs is cut away.
    """
    cover = [round(side / fraction) for side in size]
    h, w = image.shape[:2]
    scale = max(cover[0] / h, cover[1] / w)
    resized = resize(image, (max(cover[0], round(h * scale)), max(cover[1], round(w * scale))))
    return center_crop(resized, size)
