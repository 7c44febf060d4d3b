"""Decoding of every common kind of image, resizing and cropping."""

import io

import numpy as np
import pytest
from PIL import Image

from mlp_mixer.data import images


def picture(h: int = 24, w: int = 40) -> Image.Image:
    """Smooth colours, so that JPEG changes little."""
    y, x = np.mgrid[:h, :w]
    rgb = np.stack([255 * x / w, 255 * y / h, 255 * (1 - x / w)], -1)
    return Image.fromarray(rgb.astype(np.uint8))


def encode(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind", "tolerance"),
    [
        ("RGB", "PNG", 0),
        ("RGB", "BMP", 0),
        ("RGBA", "PNG", 0),
        ("RGB", "JPEG", 12),
        ("CMYK", "JPEG", 16),
        ("RGB", "WEBP", 16),
        ("P", "GIF", 60),  # 256 colours of a fixed palette, dithered
    ],
)
def test_every_kind_of_file_gives_its_pixels_as_rgb(mode, kind, tolerance):
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
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


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_rotation_is_applied(kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = images.decode(encode(picture(), kind, exif=exif))
    expected = np.rot90(np.asarray(picture()), k=-1)
    assert turned.shape == expected.shape
    assert np.abs(turned.astype(int) - expected).max() <= 12


def test_transparent_is_laid_over_white_and_16_bit_grey_scaled():
    clear = Image.new("RGBA", (5, 4), (10, 20, 30, 0))
    assert (images.decode(encode(clear, "PNG")) == 255).all()
    deep = np.linspace(0, 65535, 20).astype(np.uint16).reshape(4, 5)
    decoded = images.decode(encode(Image.fromarray(deep), "PNG"), 1)[..., 0]
    assert np.abs(decoded.astype(int) - deep // 257).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("damage", ["empty", "text", "cut"])
def test_a_broken_file_is_named_with_its_folder(tmp_path, kind, damage):
    data = encode(picture(), kind)
    path = tmp_path / "cats" / f"tom.{kind.lower()}"
    path.parent.mkdir()
    path.write_bytes({"empty": b"", "text": b"not an image", "cut": data[: len(data) // 2]}[damage])
    with pytest.raises(images.BrokenImage) as error:
        images.decode_file(path)
    assert path.name in str(error.value) and str(path.parent) in str(error.value)


def test_the_evaluation_view_is_the_shorter_side_resized_and_the_middle_cut_out():
    # A ramp along the width: after resizing 256/128 times, column x holds about x / 2 + 1/4.
    ramp = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (128, 1, 3))
    view = images.eval_view(ramp, (224, 224), "resmall", 0.875)
    assert view.shape == (224, 224, 3)
    left = (400 - 224) // 2
    expected = (np.arange(left, left + 224) + 0.5) / 2 - 0.5
    assert np.abs(view[100, :, 0] - expected).max() <= 1
    same = images.eval_view(ramp[:, :128], (128, 128))
    np.testing.assert_array_equal(same, ramp[:, :128])


def test_the_resize_crop_ignores_the_aspect():
    ramp = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (128, 1, 3))
    view = images.eval_view(ramp, (112, 224), "resize", 0.875)
    assert view.shape == (112, 224, 3)
    expected = (np.arange(16, 240) + 0.5) * 200 / 256 - 0.5  # the middle 224 of 256 columns
    assert np.abs(view[50, :, 0] - expected).max() <= 1


def test_the_views_shrink_by_their_own_methods():
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    middle = image[:, 8:40].astype(int)
    # resmall: the mean of all 4 x 4 pixels that a new one covers.
    mean = middle.reshape(8, 4, 8, 4, 3).mean((1, 3))
    assert np.abs(images.eval_view(image, (8, 8), "resmall") - mean).max() <= 1
    # resize: of the four pixels around its middle.
    four = [image[i::4, j::4].astype(int) for i in (1, 2) for j in (1, 2)]
    view = images.eval_view(image, (8, 12), "resize")
    assert np.abs(view - sum(four) / 4).max() <= 1


@pytest.mark.parametrize(
    ("have", "want", "top"), [(9, 4, 2), (8, 4, 2), (9, 8, 0), (7, 7, 0), (12, 5, 3)]
)
def test_the_middle_begins_at_half_of_the_rest_rounded_down(have, want, top):
    image = np.arange(have * have, dtype=np.uint8).reshape(have, have, 1)
    middle = images.center_crop(image, (want, want))
    np.testing.assert_array_equal(middle, image[top : top + want, top : top + want])


@pytest.mark.parametrize(
    ("old", "new"),
    # In the last two edges of old and new pixels coincide, where OpenCV errs.
    [((100, 140), (60, 70)), ((100, 140), (200, 70)), ((105, 140), (155, 276)), ((9, 8), (9, 64))],
)
def test_area_resizing_is_the_mean_over_what_a_pixel_covers(old, new):
    # On a grid as fine as both sizes' common multiple, all of it is repeating and averaging.
    image = np.random.default_rng(0).integers(0, 256, (*old, 1), dtype=np.uint8)
    expected = image[..., 0].astype(float)
    for axis in (0, 1):
        fine = np.lcm(old[axis], new[axis])
        expected = np.repeat(np.moveaxis(expected, axis, 0), fine // old[axis], 0)
        expected = expected.reshape(new[axis], -1, *expected.shape[1:]).mean(1)
        expected = np.moveaxis(expected, 0, axis)
    assert np.abs(images.resize(image, new, "area")[..., 0] - expected).max() <= 1


def test_an_unknown_crop_or_fraction_is_refused():
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"'center'; use resmall or resize"):
        images.eval_view(image, (4, 4), "center")
    with pytest.raises(ValueError, match=r"up to 1, not 1.5"):
        images.eval_view(image, (4, 4), "resize", 1.5)
