"""Grey of more than 8 bits: what is black and what is white."""

import numpy as np
import pytest
from PIL import Image

from mlp_mixer.data import depth, images

from .encoding import encode, png, tiff

SHORT, LONG = 3, 4  # types of tags
BITS, PHOTOMETRIC, FORMAT, SMALLEST, LARGEST = 258, 262, 339, 340, 341
SIGNED, UNSIGNED = 2, 1  # formats of samples
RAMP = np.linspace(0, 1, 20).reshape(4, 5)


@pytest.fixture(autouse=True)
def nothing_told_yet(monkeypatch):
    monkeypatch.setattr(depth, "_warned", set())


def decode(data: bytes) -> np.ndarray:
    """A grey image [h, w] as floats, the same in its three colours."""
    colour = images.decode(data, where="deep.tif")
    np.testing.assert_array_equal(colour, np.repeat(images.decode(data, 1), 3, axis=2))
    return colour[..., 0].astype(float)


def of_values(values: np.ndarray, bits: int, tags: dict | None = None) -> bytes:
    """A TIFF of integers."""
    rows = [row.astype(f"<u{bits // 8}").tobytes() for row in values]
    return tiff(rows, values.shape[1], {BITS: (SHORT, bits)} | (tags or {}))


def test_16_bits_are_cut_to_the_upper_8(caplog):
    values = np.round(RAMP * 65535).astype(np.uint16)
    files = [
        png(values, 16),
        of_values(values, 16),
        b"P5 5 4 65535\n" + values.astype(">u2").tobytes(),
        encode(Image.fromarray(values), "JPEG2000"),
    ]
    for data in files:
        np.testing.assert_array_equal(decode(data), values >> 8)
    colours = np.stack([values, values[::-1], values[:, ::-1]], -1)
    np.testing.assert_array_equal(images.decode(png(colours, 16)), colours >> 8)
    assert not caplog.records


def test_fewer_bits_than_16_are_all_used(caplog):
    values = np.round(RAMP * 4095).astype(int)[:, :4]
    pairs = values.reshape(-1, 2)  # two pixels in three bytes
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1]])
    rows = [row.tobytes() for row in packed.T.astype(np.uint8).reshape(4, 6)]
    np.testing.assert_array_equal(decode(tiff(rows, 4, {BITS: (SHORT, 12)})), values >> 4)
    grey_map = b"P5 4 4 4095\n" + values.astype(">u2").tobytes()
    np.testing.assert_array_equal(decode(grey_map), values >> 4)
    assert not caplog.records


@pytest.mark.parametrize("bits", [16, 32])
def test_the_range_that_a_tiff_states_is_taken(bits, caplog):
    values = 100 + np.round(RAMP * 900).astype(int)
    tags = {SMALLEST: (SHORT, 100), LARGEST: (SHORT, 1000)}
    decoded = decode(of_values(values, bits, tags))
    assert np.abs(decoded - RAMP * 255).max() <= 1 and not caplog.records
    if bits == 16:  # Pillow does not read others whose white is zero
        inverted = decode(of_values(values, bits, tags | {PHOTOMETRIC: (SHORT, 0)}))
        np.testing.assert_array_equal(inverted, 255 - decoded)


@pytest.mark.parametrize("top", [200, 255, 40_000, 65535, 2**31 - 1, 2**32 - 1])
def test_the_range_of_32_bits_is_guessed_once_aloud(top, caplog):
    white = 255 if top <= 255 else 65535 if top <= 65535 else top
    data = of_values(np.round(RAMP * top), 32, {FORMAT: (SHORT, UNSIGNED)})
    assert np.abs(decode(data) - RAMP * 255 * top / white).max() <= 1
    decode(data)
    assert len(caplog.records) == 1
    assert (
        "deep.tif has integers of 32 bits" in caplog.text and f"{white:g} for white" in caplog.text
    )


def test_values_below_zero_are_the_darkest(caplog):
    values = np.round(RAMP * 3000).astype(int) - 1000
    decoded = decode(of_values(values, 16, {FORMAT: (SHORT, SIGNED)}))
    assert np.abs(decoded - RAMP * 255).max() <= 1
    assert "-1000 is taken for black and 2000 for white" in caplog.text


@pytest.mark.parametrize(
    ("low", "high", "black", "white"),
    [(0, 1, 0, 1), (0, 0.8, 0, 1), (0, 255, 0, 255), (0, 9000, 0, 65535), (-1, 1, -1, 1),
     (0, 1e9, 0, 1e9), (1e5, 2e5, 1e5, 2e5)],
)  # fmt: skip
def test_the_range_of_floats_is_guessed_once_aloud(low, high, black, white, caplog):
    values = (low + RAMP * (high - low)).astype(np.float32)
    expected = (values - black) / (white - black) * 255
    data = encode(Image.fromarray(values), "TIFF")
    assert np.abs(decode(data) - expected).max() <= 0.51
    decode(data)
    assert len(caplog.records) == 1 and f"{black:g} is taken for black and {white:g}" in caplog.text


def test_nans_are_black_and_an_image_of_them_alone_is_broken():
    values = RAMP.astype(np.float32)
    values[0, 1], values[0, 2] = np.nan, -np.inf
    decoded = decode(encode(Image.fromarray(values), "TIFF"))
    assert (decoded[0, :3] == 0).all() and decoded[-1, -1] == 255
    with pytest.raises(images.BrokenImage, match="not a number"):
        images.decode(encode(Image.fromarray(values * np.float32(np.nan)), "TIFF"))


def test_one_value_for_all_pixels_is_no_error():
    for value in (0, 7, -7, 70_000):
        assert np.ptp(decode(encode(Image.new("I", (3, 2), value), "TIFF"))) == 0
        assert np.ptp(decode(encode(Image.new("F", (3, 2), value), "TIFF"))) == 0


@pytest.mark.parametrize("is_colour", [False, True])
def test_16_bits_of_which_few_are_used_are_said_to_be_dark(is_colour, caplog):
    values = np.round(RAMP * 4095).astype(int)
    decoded = images.decode(
        png(np.stack([values] * 3, -1) if is_colour else values, 16), 3, "dim.png"
    )
    np.testing.assert_array_equal(decoded[..., 1], values >> 8)
    assert len(caplog.records) == 1 and "dim.png is nearly black" in caplog.text
    images.decode(png(values, 16))
    assert len(caplog.records) == 1
