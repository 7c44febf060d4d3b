"""Frequency and opposites, on filters that are known."""

import numpy as np
import pytest

from mlp_mixer.analysis import ordering


def waves(cycles_per_step, grid, phase=0.7, vertical=False):
    """A sinusoid over a grid for each frequency."""
    y, x = np.mgrid[: grid[0], : grid[1]]
    along = y if vertical else x
    return np.stack([np.cos(2 * np.pi * f * along + phase) for f in cycles_per_step])


@pytest.mark.parametrize(
    ("grid", "vertical"), [((14, 14), False), ((12, 20), True), ((7, 32), False)]
)
def test_a_sinusoid_has_about_its_own_frequency_on_any_grid(grid, vertical):
    cycles = np.array([0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45])
    found = ordering.frequencies(waves(cycles, grid, vertical=vertical))
    assert (np.diff(found) > 0).all()
    assert found == pytest.approx(cycles, abs=0.06)


def test_the_ends_of_the_scale():
    constant, zero = np.ones((8, 6)), np.zeros((8, 6))
    checkerboard = np.indices((8, 6)).sum(0) % 2 * 2.0 - 1
    ramp = np.linspace(-1, 1, 8)[:, None] * np.ones(6)
    found = ordering.frequencies(np.stack([constant, zero, checkerboard, ramp]))
    assert found[:2] == pytest.approx([0, 0])
    assert 0.5 < found[2] < 0.5 * np.sqrt(2)
    assert found[3] < 1.2 / 16  # half a cycle over 8 steps is 1/16: its edges do not count


def test_frequency_ignores_scale_and_sign_and_adds_up_channels():
    units = np.random.default_rng(0).normal(size=(5, 6, 7, 3))
    found = ordering.frequencies(units)
    assert ordering.frequencies(-3 * units) == pytest.approx(found)
    assert ordering.frequencies(units[..., [2, 0, 1]]) == pytest.approx(found)
    assert ordering.frequencies(units[..., :1].repeat(3, -1)) == pytest.approx(
        ordering.frequencies(units[..., 0])
    )


def test_each_filter_precedes_its_inverse_by_rising_frequency():
    cycles = np.array([0.05, 0.15, 0.25, 0.35])
    units = waves(cycles, (14, 14))
    shuffled = np.random.default_rng(0).permutation(8)
    mixed = np.concatenate([units, -0.5 * units])[shuffled]
    order, similarity = ordering.opposite_pairs(mixed, ordering.frequencies(mixed))
    wave = shuffled[order] % 4  # which of the four it is
    assert wave.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert similarity == pytest.approx(-np.ones(8))


def test_a_filter_without_partner_comes_last():
    units = np.stack([np.ones((2, 2)), np.eye(2), -np.ones((2, 2))])
    order, similarity = ordering.opposite_pairs(units, np.array([0.0, 0.1, 0.2]))
    assert order.tolist() == [0, 2, 1] and np.isnan(similarity[-1])
