from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.encoders import View, build, combine
from pipeline.encoders.encoder import fingerprint, widths


def vectors(*values):
    return np.array([values], dtype=np.float32)


def test_averages_views_before_it_joins_encoders():
    joined = combine({"a": [vectors(1, 2), vectors(3, 4)], "b": [vectors(9), vectors(7)]}, "average")
    assert joined.tolist() == [[2, 3, 8]], "the mean of each encoder's views, then side by side"
    assert joined.dtype == np.float32, "vectors stay float32"


def test_concatenates_views_in_the_order_given():
    joined = combine({"b": [vectors(1, 2), vectors(3, 4)], "a": [vectors(9)]}, "concatenate")
    assert joined.tolist() == [[1, 2, 3, 4, 9]], "neither names nor views are reordered"


def test_one_encoder_with_one_view_is_not_copied():
    only = vectors(1, 2)
    assert combine({"a": [only]}, "concatenate") is only, "200,000 vectors must not be in memory twice"


def test_refuses_an_unknown_way_to_combine():
    with pytest.raises(UserError, match="'sum': choose concatenate or average"):
        combine({"a": [vectors(1)]}, "sum")


@pytest.mark.parametrize("padding", [-0.1, float("nan"), float("inf")])
def test_refuses_a_padding_that_is_no_amount(padding):
    with pytest.raises(UserError, match=r"padding is .*: it must be a number of 0 or more"):
        View(padding=padding)


def test_fingerprints_differ_in_everything_that_changes_a_vector():
    base = {
        "name": "net",
        "weights_sha256": "ab",
        "size": 160,
        "preprocessing": 1,
        "arithmetic": "fp32",
        "view": View(),
        "margin": None,
    }
    changes = {
        "name": "other",
        "weights_sha256": "cd",
        "size": 161,
        "preprocessing": 2,
        "arithmetic": "bfloat16",
        "view": View(mirror=True),
        "margin": 0.25,
    }
    texts = {fingerprint(**{**base, key: value}) for key, value in changes.items()}
    texts |= {fingerprint(**base), fingerprint(**{**base, "view": View(padding=1 / 3)})}
    texts |= {fingerprint(**{**base, "view": View(padding=0.333333)})}
    assert len(texts) == len(changes) + 3, "two settings share a fingerprint"


def test_refuses_an_unknown_encoder_and_an_unknown_setting():
    with pytest.raises(UserError, match="unknown encoder 'arcface': choose one of dlib, facenet"):
        build("arcface")
    with pytest.raises(UserError, match="encoder 'facenet' has no setting 'size'"):
        build("facenet", size=224)


def test_each_encoders_part_is_as_wide_as_combine_makes_it():
    encoders = [SimpleNamespace(name=name, dim=dim) for name, dim in (("a", 2), ("b", 3), ("a", 2))]
    joined = {"a": [vectors(1, 2), vectors(3, 4)], "b": [vectors(7, 8, 9)]}
    assert widths(encoders, "concatenate") == [4, 3]
    assert widths(encoders, "average") == [2, 3]
    for how in ("concatenate", "average"):
        assert sum(widths(encoders, how)) == combine(joined, how).shape[1]
