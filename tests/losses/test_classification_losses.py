"""Cross-entropies; numbers in brackets are equations of the EmoSynthNet thesis."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from pipeline import losses
from pipeline.core.errors import UserError

TARGETS = [0, 2, 1, 3, 3]
COUNTS = [50, 5, 20, 100]


def make_logits(dtype=torch.float64, scale=2.0):
    generator = torch.Generator().manual_seed(1)
    return (scale * torch.randn(5, 4, dtype=torch.float64, generator=generator)).to(dtype)


def slow_p(row):
    top = max(row)
    e = [math.exp(z - top) for z in row]
    return [a / sum(e) for a in e]


def label(y):
    return [1.0 if j == y else 0.0 for j in range(4)]


def slow_mse(rows, ys):
    return [
        sum((a - b) ** 2 for a, b in zip(p, label(y), strict=True)) / 4 for p, y in zip(rows, ys, strict=True)
    ]


def slow_sce(rows, ys, a=0.5, b=0.5):
    alpha = 0.0  # (4.3)
    for p, y in zip(rows, ys, strict=True):
        alpha += sum((t - q) ** 2 for t, q in zip(label(y), p, strict=True)) / len(rows)
    found = []
    for p, y in zip(rows, ys, strict=True):
        weight = math.sqrt(sum(((1 - t) - q) ** 2 for t, q in zip(label(y), p, strict=True)))  # (4.4)
        found.append(a * -math.log(p[y]) + b * -alpha * weight * math.log(p[y]))  # (4.5), (4.6)
    return found


def slow_focal(rows, ys, gamma=2.0, alpha=1.0):
    return [-alpha * (1 - p[y]) ** gamma * math.log(p[y]) for p, y in zip(rows, ys, strict=True)]  # (4.2)


def slow_class_balanced(rows, ys, beta=0.999, gamma=0.0):
    weights = [(1 - beta) / (1 - beta**n) for n in COUNTS]
    mean = sum(weights) / 4
    return [weights[y] / mean * f for f, y in zip(slow_focal(rows, ys, gamma), ys, strict=True)]


def slow_dwb(rows, ys):
    found = []
    for p, y in zip(rows, ys, strict=True):
        w = math.log(max(COUNTS) / COUNTS[y]) + 1  # (2.10)
        found.append(-(w ** (1 - p[y])) * math.log(p[y]) - sum(q * (1 - q) for q in p))  # (2.9)
    return found


SLOW = {
    "cross_entropy": ({}, lambda rows, ys: slow_focal(rows, ys, 0.0)),
    "one_hot_mse": ({}, slow_mse),
    "symmetric_cross_entropy": ({}, slow_sce),
    "focal": ({"gamma": 1.5, "alpha": 0.25}, lambda rows, ys: slow_focal(rows, ys, 1.5, 0.25)),
    "class_balanced": (
        {"counts": COUNTS, "gamma": 2.0},
        lambda rows, ys: slow_class_balanced(rows, ys, gamma=2.0),
    ),
    "dwb": ({"counts": COUNTS}, slow_dwb),
}


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weights", [None, [1.0, 0.0, 2.0, 0.5, 3.0]])
def test_every_loss_equals_a_plain_loop_over_its_formula(name, dtype, weights):
    settings, formula = SLOW[name]
    logits = make_logits(dtype)
    each = formula([slow_p(row) for row in logits.tolist()], TARGETS)
    w = weights or [1.0] * 5
    expected = sum(a * b for a, b in zip(w, each, strict=True)) / len(each)
    given = None if weights is None else torch.tensor(weights)
    value = losses.build(name, **settings)(logits, torch.tensor(TARGETS), given)
    assert float(value) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", SLOW)
def test_every_gradient_is_that_of_finite_differences(name):
    settings, _ = SLOW[name]
    loss = losses.build(name, **settings).double()
    assert gradcheck(lambda z: loss(z, torch.tensor(TARGETS)), make_logits().requires_grad_())


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_finite_for_certain_scores_right_and_wrong(name, dtype):
    settings, _ = SLOW[name]
    loss = losses.build(name, **(settings | ({"gamma": 0.5} if name == "focal" else {})))
    certain = torch.full((4, 4), -50.0)
    certain.fill_diagonal_(50.0)
    for y in (0, 3):
        z = torch.cat([certain, torch.zeros(1, 4)]).to(dtype).requires_grad_()
        value = loss(z, torch.full((5,), y))
        value.backward()
        assert value.isfinite()
        assert z.grad.isfinite().all()


def test_cross_entropy_with_class_weights_is_torchs_over_the_number_of_samples():
    class_weights = torch.tensor([1.0, 3.0, 0.5, 2.0], dtype=torch.float64)
    target = torch.tensor(TARGETS)
    expected = torch.nn.functional.cross_entropy(make_logits(), target, weight=class_weights, reduction="sum")
    found = losses.build("cross_entropy")(make_logits(), target, class_weights[target])
    torch.testing.assert_close(found, expected / len(target))


def test_symmetric_cross_entropy_without_its_second_term_is_cross_entropy():
    target = torch.tensor(TARGETS)
    found = losses.build("symmetric_cross_entropy", ce_weight=1.0, error_weight=0.0)(make_logits(), target)
    torch.testing.assert_close(found, losses.build("cross_entropy")(make_logits(), target))


def test_class_balance_goes_from_none_to_inverse_frequency():
    even = losses.build("class_balanced", counts=COUNTS, beta=0.0)
    assert even.class_weights.tolist() == [1.0] * 4
    inverse = losses.build("class_balanced", counts=COUNTS, beta=1 - 1e-9).class_weights
    assert float(inverse[1] / inverse[3]) == pytest.approx(20, rel=1e-3)


def test_predictions_are_classes_and_probabilities_sum_to_one():
    loss = losses.build("cross_entropy", classes=4)
    assert loss.outputs == 4
    assert loss.prediction(make_logits()).tolist() == make_logits().argmax(-1).tolist()
    torch.testing.assert_close(loss.probabilities(make_logits()).sum(-1), torch.ones(5, dtype=torch.float64))


def test_targets_that_are_no_class_are_refused_with_their_row():
    loss = losses.build("focal", classes=4)
    loss.check_targets(torch.tensor([0.0, 3.0]))
    for value in (4.0, -1.0, 1.5):
        with pytest.raises(UserError, match=r"row 1: a class is a whole number from 0 to 3"):
            loss.check_targets(torch.tensor([0.0, value]))


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("symmetric_cross_entropy", {"ce_weight": -1.0}, "neither may be negative"),
        ("symmetric_cross_entropy", {"ce_weight": 0.0, "error_weight": 0.0}, "nor both 0"),
        ("focal", {"gamma": -1.0}, "gamma -1"),
        ("class_balanced", {"counts": [3, 0]}, "class 1 has no training sample"),
        ("class_balanced", {"counts": [3, 4], "beta": 1.0}, "beta 1"),
        ("dwb", {"counts": [0, 4]}, "class 0 has no training sample"),
    ],
)
def test_settings_that_make_no_loss_are_refused(name, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        losses.build(name, **settings)
