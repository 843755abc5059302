import numpy as np
import pytest

from pipeline.metrics.class_scores import classification_scores, confusion, per_class

TARGET = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
PREDICTED = np.array([0, 0, 1, 2, 1, 1, 0, 0, 0, 1])


def slow(predicted, target, k):
    hit = sum(1 for p, t in zip(predicted, target, strict=True) if p == t == k)
    called, true = sum(p == k for p in predicted), sum(t == k for t in target)
    precision, recall = hit / called if called else 0.0, hit / true
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return precision, recall, f1


def test_scores_are_class_means_of_the_definitions():
    each = [slow(PREDICTED, TARGET, k) for k in range(3)]
    found = classification_scores(PREDICTED, TARGET)
    assert found.accuracy == pytest.approx(0.4)
    assert (found.precision, found.recall, found.f1) == pytest.approx(tuple(np.mean(each, axis=0)))


def test_a_class_that_does_not_occur_does_not_count():
    found = classification_scores([0, 1, 2], [0, 1, 1])
    assert found.recall == pytest.approx((1 + 0.5) / 2)


def test_rows_of_the_confusion_sum_to_one_and_hold_the_recalls():
    found = confusion(PREDICTED, TARGET, classes=4)
    np.testing.assert_allclose(found[:3].sum(axis=1), 1)
    assert np.isnan(found[3]).all()
    assert found[0].tolist() == [0.5, 0.25, 0.25, 0.0]
    np.testing.assert_allclose(np.diag(found)[:3], [slow(PREDICTED, TARGET, k)[1] for k in range(3)])


def test_every_class_has_its_row():
    frame = per_class(PREDICTED, TARGET, ["a", "b", "c", "d"])
    assert frame["pictures"].tolist() == [4, 3, 3, 0]
    for k in range(3):
        row = frame.iloc[k]
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx(slow(PREDICTED, TARGET, k))
    assert np.isnan(frame.iloc[3]["recall"])


def test_what_does_not_fit_is_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"\(2,\) do not fit true ones of shape \(3,\)"):
        classification_scores([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="one picture at least"):
        confusion([], [], 2)
