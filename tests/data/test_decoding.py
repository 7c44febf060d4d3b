"""Every common kind of image file, good, odd or broken."""

import io
import struct
import threading
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from mlp_mixer.data import decoding, images

from .encoding import chunk, encode, exif, picture, png, with_exif

ORIENTATION = (0x112, 3, 1, struct.pack("<H", 6))  # to be turned by 90 degrees clockwise


@pytest.mark.parametrize(
    ("mode", "kind", "tolerance"),
    [
        ("RGB", "PNG", 0),
        ("RGB", "BMP", 0),
        ("RGB", "TIFF", 0),
        ("RGBA", "PNG", 0),
        ("RGB", "JPEG", 12),
        ("CMYK", "JPEG", 16),
        ("CMYK", "TIFF", 0),
        ("RGB", "WEBP", 16),
        ("RGB", "AVIF", 24),
        ("P", "GIF", 60),  # 256 colours of a fixed palette, dithered
    ],
)
def test_every_kind_of_file_gives_its_pixels_as_rgb(mode, kind, tolerance):
    options = {"quality": 95} if kind in ("JPEG", "WEBP", "AVIF") else {}
    decoded = images.decode(encode(picture().convert(mode), kind, **options))
    assert decoded.dtype == np.uint8 and decoded.shape == (24, 40, 3)
    difference = np.abs(decoded.astype(int) - np.asarray(picture()))
    assert difference.max() <= tolerance


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_grey_and_colour_convert_to_each_other(mode, kind):
    data = encode(picture().convert(mode), kind)
    grey, colour = images.decode(data, 1), images.decode(data, 3)
    assert grey.shape == (24, 40, 1) and colour.shape == (24, 40, 3)
    expected = np.asarray(picture().convert("L"))[..., None]
    assert np.abs(grey.astype(int) - expected).max() <= 8
    if mode == "L":
        assert np.abs(colour.astype(int) - grey).max() <= 1


def test_lab_gives_its_colour():
    # L*, a*, b* of sRGB's (200, 60, 40) are 47, 55 and 45: by the formulas of CIE, white being D50.
    lab = Image.merge("LAB", [Image.new("L", (5, 4), level) for level in (121, 128 + 55, 128 + 45)])
    decoded = images.decode(encode(lab, "TIFF"))
    assert np.abs(decoded.astype(int) - (200, 60, 40)).max() <= 3


# --- transparency ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_grey_is_laid_over_white_at_any_depth(bits):
    levels = np.arange(6).reshape(2, 3) * (2**bits - 1) // 5
    clear = chunk(b"tRNS", struct.pack(">H", levels[1, 1]))
    decoded = images.decode(png(levels, bits, clear), 1)[..., 0]
    expected = levels * 255 // (2**bits - 1)
    np.testing.assert_array_equal(decoded, np.where(levels == levels[1, 1], 255, expected))


def test_a_transparent_colour_of_16_bits_is_laid_over_white():
    colours = np.arange(12).reshape(2, 2, 3) * 5000
    clear = chunk(b"tRNS", struct.pack(">HHH", *colours[1, 0]))
    expected = (colours >> 8).astype(np.uint8)
    expected[1, 0] = 255
    np.testing.assert_array_equal(images.decode(png(colours, 16, clear)), expected)


@pytest.mark.parametrize("alpha", [0, 128])
@pytest.mark.parametrize(
    ("mode", "kind"), [("RGBA", "PNG"), ("LA", "PNG"), ("PA", "TIFF"), ("P", "PNG")]
)
def test_half_transparent_is_half_white_and_clear_is_white(mode, kind, alpha):
    image = picture().convert("L").convert(mode.removesuffix("A"))
    if "A" in mode:
        image.putalpha(alpha)
    assert image.mode == mode
    options = {"transparency": bytes([alpha]) * 256} if mode == "P" else {}
    decoded = images.decode(encode(image, kind, **options), 1)[..., 0]
    expected = 255 - (255 - np.asarray(picture().convert("L")).astype(float)) * alpha / 255
    assert np.abs(decoded - expected).max() <= 1


# --- orientation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(10))  # 0 and 9 mean nothing
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_rotation_is_applied(kind, orientation):
    tags = Image.Exif()
    tags[0x112] = orientation
    data = encode(picture(), kind, exif=tags, **({"lossless": True} if kind == "WEBP" else {}))
    upright = picture()
    upright.getexif()[0x112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(upright))
    for more in (b"", b"\r\nand some more"):
        turned = images.decode(data + more)
        assert turned.shape == expected.shape and turned.flags.c_contiguous
        assert np.abs(turned.astype(int) - expected).max() <= (12 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("tail", [b"", b"\r\n"])
@pytest.mark.parametrize(
    ("metadata", "is_turned"),
    [
        (b"II*\0", False),
        (b"garbage!!", False),
        (b"", False),
        (exif((0x112, 2, 4, b"six\0")), False),
        (exif(ORIENTATION, (0x11A, 2, 3, b"72\0")), True),
        (exif(ORIENTATION, (0x11A, 11, 1, struct.pack("<f", np.nan))), True),
        (exif(ORIENTATION, (0x102, 12, 1, struct.pack("<d", np.nan))), True),
    ],
    ids=["cut", "garbage", "empty", "orientation text", "resolution text", "nan", "float"],
)
def test_good_pixels_with_damaged_metadata_are_used(kind, tail, metadata, is_turned):
    data = with_exif(encode(picture(), kind), metadata) + tail
    expected = np.asarray(picture())
    decoded = images.decode(data)
    assert decoded.shape == ((40, 24, 3) if is_turned else (24, 40, 3))
    expected = np.rot90(expected, k=-1) if is_turned else expected
    assert np.abs(decoded.astype(int) - expected).max() <= 12


# --- broken files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF", "BMP"])
@pytest.mark.parametrize("damage", ["empty", "text", "cut"])
@pytest.mark.parametrize("lenient", [False, True])
def test_a_broken_file_is_named_with_its_folder(tmp_path, monkeypatch, kind, damage, lenient):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)  # by another library
    data = encode(picture(), kind)
    path = tmp_path / "cats" / f"tom.{kind.lower()}"
    path.parent.mkdir()
    path.write_bytes({"empty": b"", "text": b"not an image", "cut": data[: len(data) // 2]}[damage])
    with pytest.raises(images.BrokenImage) as error:
        images.decode_file(path)
    assert path.name in str(error.value) and str(path.parent) in str(error.value)
    assert lenient == ImageFile.LOAD_TRUNCATED_IMAGES


def test_no_image_is_broken_for_want_of_memory(monkeypatch):
    def full(*_):
        raise MemoryError

    for owner, name, kind in (
        (Image, "open", "PNG"),
        (np, "asarray", "PNG"),
        (cv2, "imdecode", "JPEG"),
    ):
        with monkeypatch.context() as patched, pytest.raises(OSError, match=r"memory.*tom"):
            data = encode(picture(), kind)
            patched.setattr(owner, name, full)
            images.decode(data, where="tom")


@pytest.mark.parametrize(
    "error", [struct.error("x"), zlib.error("x"), RuntimeError("x"), KeyError("x")]
)
def test_whatever_a_decoder_raises_is_a_broken_image(monkeypatch, error):
    def broken(*_):
        raise error

    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(images.BrokenImage, match="tom"):
        images.decode(encode(picture(), "PNG"), where="tom.png")
    monkeypatch.undo()
    monkeypatch.setattr(cv2, "imdecode", broken)
    with pytest.raises(images.BrokenImage, match="tom"):
        images.decode(encode(picture(), "JPEG"), where="tom.jpg")


def noisy_jpeg(**options) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    return encode(Image.fromarray(noise), "JPEG", **options)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("tail", [b"", b"\xff\xd9", b"\0" * 99 + b"\xff\xd9", b"\xff\xd9text"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("restarts", [0, 1])
def test_a_jpeg_whose_rest_is_missing_is_broken_however_it_ends(mode, tail, channels, restarts):
    with Image.open(io.BytesIO(noisy_jpeg())) as image:
        data = encode(image.convert(mode), "JPEG", restart_marker_rows=restarts)
    assert (b"\xff\xd1" in data) == bool(restarts)
    for keep in (0.5, 0.8, 0.9):
        with pytest.raises(images.BrokenImage, match="ends early"):
            images.decode(data[: int(keep * len(data))] + tail, channels)
    # The end of a preview in its metadata is not its own.
    with pytest.raises(images.BrokenImage, match="ends early"):
        images.decode(with_exif(data[:-2], b"\xff\xd8\xff\xd9"), channels)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_whole_jpeg_is_good_whatever_follows(progressive):
    data = noisy_jpeg(progressive=progressive)
    expected = images.decode(data)
    assert expected.std() > 30
    for tail in (b"\0" * 32, b"\xff" * 32, b"padding", data, b"\xff\xd9"):
        np.testing.assert_array_equal(images.decode(data + tail), expected)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_complete_jpeg_may_be_grey_at_its_end(progressive):
    grey = np.full((64, 64, 3), 128, np.uint8)
    grey[:8] = 20
    data = encode(Image.fromarray(grey), "JPEG", progressive=progressive)
    for channels in (1, 3):
        decoded = images.decode(data, channels)
        assert (decoded[-1, -1] == 128).all() and (decoded[0] < 30).all()


# --- size -----------------------------------------------------------------------------------------


def huge(kind: str) -> bytes:
    """A small file whose header promises 65,500 x 65,500 pixels."""
    data = bytearray(encode(picture(), kind))
    if kind == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", 65500, 65500)
    else:
        data[16:33] = chunk(b"IHDR", struct.pack(">II", 65500, 65500) + bytes(data[24:29]))[8:]
    return bytes(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_damaged_header_of_a_huge_picture_is_a_broken_image(kind):
    with pytest.raises(images.BrokenImage, match=r"too large: tom has 65500 x 65500 pixels"):
        images.decode(huge(kind), where="tom")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "GIF", "WEBP", "BMP"])
def test_one_limit_of_pixels_holds_for_every_kind_of_file(monkeypatch, kind):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's own does not count
    data = encode(picture(), kind)
    monkeypatch.setenv("MLP_MIXER_MAX_PIXELS", "960")
    assert images.decode(data).shape == (24, 40, 3)
    monkeypatch.setenv("MLP_MIXER_MAX_PIXELS", "959")
    words = r"tom has 40 x 24 pixels.*limit is 959 .*MLP_MIXER_MAX_PIXELS=960"
    with pytest.raises(images.BrokenImage, match=words):
        images.decode(data, where="tom")
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("text", ["many", "0", "-5", "inf", "nan"])
def test_a_limit_that_is_no_number_of_pixels_is_refused(monkeypatch, text):
    monkeypatch.setenv("MLP_MIXER_MAX_PIXELS", text)
    with pytest.raises(ValueError, match=f"MLP_MIXER_MAX_PIXELS={text}") as error:
        images.decode(encode(picture(), "PNG"))
    assert not isinstance(error.value, images.BrokenImage)  # which would be skipped


def test_pillows_settings_are_restored_by_the_last_thread(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 7)
    inside, leave = threading.Event(), threading.Event()

    def decode():
        with decoding._pillow.ours():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=decode)
    thread.start()
    assert inside.wait(10)
    images.decode(encode(picture(), "PNG"))
    assert Image.MAX_IMAGE_PIXELS is None  # the other one is not done
    leave.set()
    thread.join()
    assert Image.MAX_IMAGE_PIXELS == 7
