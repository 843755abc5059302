import itertools

import numpy as np
import pytest

from pipeline.dlib.mmod.pyramid import AROUND, BETWEEN, Level, layout, overlap, to_picture, without_overlaps


@pytest.mark.parametrize(
    ("height", "width"), [(24, 24), (200, 200), (24, 512), (512, 24), (375, 512), (61, 480), (333, 97)]
)
def test_levels_shrink_by_a_sixth_and_lie_apart_within_the_tile(height: int, width: int) -> None:
    levels, (rows, columns) = layout(height, width)
    assert levels[0] == Level(AROUND, AROUND, width, height), "the picture itself"
    for larger, smaller in itertools.pairwise(levels):
        assert (smaller.width, smaller.height) == (larger.width * 5 // 6, larger.height * 5 // 6)
    tile = np.zeros((rows, columns), dtype=int)
    for left, top, across, down in levels:
        assert min(left, top) >= AROUND
        assert left + across <= columns - AROUND
        assert top + down <= rows - AROUND
        tile[top : top + down, left : left + across] += 1
    assert tile.max() == 1, "none covers another"
    first, second = levels[:2]
    assert second.top == first.top + first.height + BETWEEN


def test_the_first_column_ends_where_the_rest_fits_beside_it() -> None:
    levels, (rows, _) = layout(200, 200)
    left = [level for level in levels if level.left == AROUND]
    assert rows == left[-1].top + left[-1].height + AROUND
    right = levels[len(left) :]
    assert right
    assert all(level.left + level.width == AROUND + 200 for level in right), "flush right"
    assert right[0].top + right[0].height == rows - AROUND, "from the bottom up"
    assert all(upper.top < lower.top for lower, upper in itertools.pairwise(right))


def test_a_place_becomes_a_box_of_the_level_it_lies_in() -> None:
    levels, _ = layout(200, 200)
    assert to_picture(levels, AROUND + 100, AROUND + 100) == (61, 61, 141, 141)
    second = levels[1]
    across, down = 100, 50
    edges = [(place + half) * 1.2 + 0.3 for half in (-39.5, 39.5) for place in (across, down)]
    expected = (*(round(edge) for edge in edges[:2]), *(round(edge) + 1 for edge in edges[2:]))
    assert to_picture(levels, second.left + across, second.top + down) == expected


def test_a_place_between_levels_belongs_to_the_closest() -> None:
    levels, _ = layout(200, 200)
    under = levels[0].top + levels[0].height
    for below, side in ((4, 80), (5, 96)):  # in the second level a face is a fifth larger
        box = to_picture(levels, 100, under + below)
        assert box[3] - box[1] == side


def test_halves_are_rounded_away_from_zero() -> None:
    levels, _ = layout(200, 200)
    assert to_picture(levels, AROUND + 35, AROUND + 35) == (-5, -5, 76, 76)


def test_of_overlapping_faces_the_best_is_kept() -> None:
    best, beside, away, near_away = (0, 0, 10, 10), (4, 0, 14, 10), (30, 0, 40, 10), (35, 0, 45, 10)
    assert overlap(best, beside) == pytest.approx(6 / 14)
    assert overlap(away, near_away) == pytest.approx(5 / 15)
    found = [(best, 3.0), (beside, 2.0), (away, 1.5), (near_away, 1.0)]
    assert without_overlaps(found) == [(best, 3.0), (away, 1.5), (near_away, 1.0)]


def test_overlap_is_measured_against_the_box_around_both() -> None:
    assert overlap((0, 0, 10, 10), (5, 5, 15, 15)) == pytest.approx(25 / 225), "not against their union, 175"
    assert overlap((0, 0, 2, 2), (2, 0, 4, 2)) == 0
    assert overlap((0, 0, 2, 2), (5, 5, 9, 9)) == 0
