import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import find_peaks

from pipeline.metrics import modes, unimodality_rate


def slow_modes(row, share=0.0):
    """scipy's peaks, which have no ends, hence the numbers below all others.

    Of equal peaks scipy lets none be the higher one: the last is, by too little to matter otherwise.
    """
    tilted = np.concatenate([[-1.0], np.asarray(row) + 1e-9 * np.arange(len(row)), [-1.0]])
    _, found = find_peaks(tilted, prominence=0)
    return int((found["prominences"] > share * max(row) + 1e-6).sum())


@settings(max_examples=300, deadline=None)
@given(
    row=st.lists(st.integers(0, 9), min_size=1, max_size=12), share=st.sampled_from([0.0, 0.05, 0.15, 0.45])
)
def test_counts_the_peaks_that_scipy_finds(row, share):
    assert modes(np.array(row, dtype=float), share) == slow_modes(np.array(row, dtype=float), share)


def test_takes_any_leading_dimensions():
    p = np.random.default_rng(0).dirichlet(np.ones(9), size=(3, 5))
    assert modes(p).tolist() == [[slow_modes(row, 0.05) for row in member] for member in p]


def normal(labels, mean, std):
    p = np.exp(-(((labels - mean) / std) ** 2) / 2)
    return p / p.sum()


@pytest.mark.parametrize("count", [11, 101, 1001])
def test_two_hills_are_two_however_many_labels_there_are(count):
    labels = np.linspace(0, 100, count)
    assert modes(normal(labels, 20, 12) + normal(labels, 80, 12)) == 2
    assert modes(normal(labels, 45, 12) + normal(labels, 55, 12)) == 1


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0.2, 0.2, 0.2, 0.2, 0.2], 1),
        ([0.5, 0.3, 0.2], 1),
        ([0.2, 0.3, 0.5], 1),
        ([0.4, 0.2, 0.4], 2),
        ([0.1, 0.4, 0.4, 0.1], 1),
        ([0.3, 0.1, 0.3, 0.0, 0.3], 3),
        ([1.0], 1),
    ],
)
def test_plateaus_are_one_peak_and_ends_can_be_peaks(row, expected):
    assert modes(row) == expected


def test_ripples_in_the_tails_are_no_peaks():
    row = np.array([0.0, 1e-9, 0.0, 0.2, 0.6, 0.2, 2e-7, 3e-7])
    assert modes(row) == 1
    assert modes(row, prominence=0) == 3


def test_the_rate_is_the_share_with_one_peak():
    assert unimodality_rate([[0.1, 0.8, 0.1], [0.4, 0.2, 0.4], [0.2, 0.3, 0.5]]) == pytest.approx(2 / 3)


def test_refuses_what_is_no_distribution():
    with pytest.raises(ValueError, match=r"shape \(2, 0\)"):
        modes(np.zeros((2, 0)))
    with pytest.raises(ValueError, match="not finite"):
        modes([0.5, np.nan])
    with pytest.raises(ValueError, match="share from 0"):
        modes([0.5, 0.5], prominence=1.0)
    with pytest.raises(ValueError, match="no distribution"):
        unimodality_rate(np.zeros((0, 3)))
