"""Numbers in brackets are equations of Li et al., Unimodal-Concentrated Loss, 2022."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from pipeline import losses
from pipeline.core.errors import UserError
from pipeline.losses.label_distribution import Distribution, concentrated_term, unimodal_term


def slow_probabilities(logits):
    top = max(logits)
    exponentials = [math.exp(z - top) for z in logits]
    return [e / sum(exponentials) for e in exponentials]


def slow_mean(p, labels):
    return sum(p[j] * labels[j] for j in range(len(p)))


def slow_variance(p, labels):
    mean = slow_mean(p, labels)
    return sum(p[j] * (labels[j] - mean) ** 2 for j in range(len(p)))


def slow_softmax(p, labels, y):
    nearest = 0
    for j in range(len(labels)):
        if abs(labels[j] - y) < abs(labels[nearest] - y):
            nearest = j
    return -math.log(p[nearest])


def slow_divergence(p, labels, y, sigma):
    gaussian = [math.exp(-((label - y) ** 2) / (2 * sigma**2)) for label in labels]
    d = [g / sum(gaussian) for g in gaussian]
    return sum(d[j] * math.log(d[j] / p[j]) for j in range(len(p)) if d[j] > 0)


def slow_unimodal(p, labels, y):
    total = 0.0
    for j in range(len(p) - 1):
        sign = -1 if labels[j] - y < 0 else 1
        total += max(0.0, -(p[j] - p[j + 1]) * sign)
    return total


def slow_concentrated(p, labels, y):
    v = slow_variance(p, labels)
    return 0.5 * math.log(v) + (slow_mean(p, labels) - y) ** 2 / (2 * v)


def slow_mean_variance(p, labels, y):
    error = slow_mean(p, labels) - y
    return slow_softmax(p, labels, y) + 0.2 / 2 * error**2 + 0.05 * slow_variance(p, labels)


SLOW = {
    "softmax": ({}, slow_softmax),
    "dldl": ({"sigma": 1.5}, lambda p, n, y: slow_divergence(p, n, y, 1.5)),
    "dldl_v2": (
        {"expectation_weight": 0.7},
        lambda p, n, y: slow_divergence(p, n, y, 2.0) + 0.7 * abs(slow_mean(p, n) - y),
    ),
    "mean_variance": ({}, slow_mean_variance),
    "unimodal": ({}, slow_unimodal),
    "concentrated": ({}, slow_concentrated),
    "unimodal_concentrated": (
        {},
        lambda p, n, y: slow_concentrated(p, n, y) + 1000 * slow_unimodal(p, n, y),
    ),
    "label_distribution": (
        {"unimodal": 1000.0, "mean": 0.2, "variance": 0.05},
        lambda p, n, y: (
            1000 * slow_unimodal(p, n, y) + 0.1 * (slow_mean(p, n) - y) ** 2 + 0.05 * slow_variance(p, n)
        ),
    ),
}
LABELS = [20.0, 21.0, 22.0, 23.0, 24.0, 25.0]
TARGETS = [20.0, 25.0, 22.0, 22.4, 23.0]


def make_logits(rows, columns, dtype=torch.float64, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(rows, columns, dtype=torch.float64, generator=generator)).to(dtype)


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("weights", [None, [1.0, 0.0, 2.0, 0.5, 3.0]])
def test_every_loss_equals_a_plain_loop_over_its_formula(name, dtype, weights):
    settings, formula = SLOW[name]
    logits = make_logits(5, 6, dtype)
    expected = [
        formula(slow_probabilities(row), LABELS, y) for row, y in zip(logits.tolist(), TARGETS, strict=True)
    ]
    w = weights or [1.0] * 5
    mean = sum(a * b for a, b in zip(w, expected, strict=True)) / 5
    weight = None if weights is None else torch.tensor(weights)
    value = losses.build(name, labels=LABELS, **settings)(logits, torch.tensor(TARGETS), weight)
    assert value.shape == ()
    assert float(value) == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("name", SLOW)
def test_every_gradient_is_that_of_finite_differences(name):
    settings, _ = SLOW[name]
    loss = losses.build(name, labels=LABELS, **settings)
    target = torch.tensor(TARGETS, dtype=torch.float64)
    assert gradcheck(lambda z: loss(z, target), make_logits(5, 6).requires_grad_())


def test_without_labels_they_count_from_zero():
    logits, target = make_logits(3, 7), torch.tensor([0.0, 3.0, 6.0])
    unnamed, named = losses.build("dldl_v2"), losses.build("dldl_v2", labels=7)
    assert unnamed.outputs is None
    assert named.outputs == 7
    torch.testing.assert_close(unnamed(logits, target), named(logits, target))


def test_leading_dimensions_are_reduced_one_by_one():
    logits, target = make_logits(12, 6).view(3, 4, 6), torch.tensor(TARGETS[:4]).expand(3, 4)
    loss = losses.build("unimodal_concentrated", labels=LABELS)
    each = torch.stack([loss(z, y) for z, y in zip(logits, target, strict=True)])
    torch.testing.assert_close(loss(logits, target), each)


def distribution_of_leaf(p, labels):
    """A Distribution whose probabilities are free variables, as the paper's partial derivatives take them."""
    predicted = Distribution(p.detach().log(), labels)
    predicted.p = p
    return predicted


def test_unimodal_gradients_by_probability_are_those_of_equations_5_and_6():
    labels = torch.arange(5.0, dtype=torch.float64)
    p = torch.tensor([0.3, 0.1, 0.2, 0.15, 0.25], dtype=torch.float64, requires_grad=True)
    unimodal_term(distribution_of_leaf(p, labels), torch.tensor(2.0, dtype=torch.float64)).backward()
    # wrong: the fall from 0 to 1 before the target, and the rise from 3 to 4 after it
    assert p.grad.tolist() == [1, -1, 0, -1, 1]


def gradient_of_mean_and_variance(error, variance, settings):
    """d loss / d v and d loss / d epsilon, for a Distribution that is nothing but its two moments."""
    v = torch.tensor(variance, dtype=torch.float64, requires_grad=True)
    epsilon = torch.tensor(error**2, dtype=torch.float64, requires_grad=True)
    predicted = Distribution(torch.zeros(3, dtype=torch.float64), torch.arange(3.0, dtype=torch.float64))
    predicted.mean, predicted.variance = epsilon.sqrt(), v
    settings(predicted, torch.tensor(0.0, dtype=torch.float64)).backward()
    return float(v.grad), float(epsilon.grad)


@pytest.mark.parametrize(("error", "variance"), [(1.0, 4.0), (3.0, 4.0), (2.0, 0.5)])
def test_concentrated_gradients_are_those_of_equations_11_to_14(error, variance):
    by_v, by_epsilon = gradient_of_mean_and_variance(
        error, variance, lambda d, y: concentrated_term(d, y, min_variance=1e-3)
    )
    assert by_v == pytest.approx(1 / (2 * variance) - error**2 / (2 * variance**2))
    assert (by_v > 0) == (variance > error**2)
    assert by_epsilon == pytest.approx(1 / (2 * variance))


def test_mean_variance_gradients_are_those_of_equations_19_and_20():
    loss = losses.build("label_distribution", mean=0.2, variance=0.05)
    loss._predicted = lambda output: output
    by_v, by_epsilon = gradient_of_mean_and_variance(3.0, 4.0, loss.formula)
    assert by_epsilon == pytest.approx(0.2 / 2)
    assert by_v == pytest.approx(0.05)


def test_mean_variance_gradients_by_probability_are_those_of_equation_18():
    labels = torch.tensor(LABELS, dtype=torch.float64)
    y, at = 22.0, 2
    p = make_logits(1, 6).softmax(-1)[0].requires_grad_()
    predicted = distribution_of_leaf(p, labels)
    predicted.log_p = p.log()
    loss = losses.build("mean_variance", labels=LABELS)
    loss._predicted = lambda output: output
    loss.formula(predicted, torch.tensor(y, dtype=torch.float64)).backward()
    mean = slow_mean(p.tolist(), LABELS)
    for j, gradient in enumerate(p.grad.tolist()):
        expected = 0.2 * (mean - y) * LABELS[j] + 0.05 * (LABELS[j] - mean) ** 2
        expected += -1 / float(p[j].detach()) if j == at else 0.0
        assert gradient == pytest.approx(expected)


def test_mean_and_variance_gradients_by_logits_are_those_of_equations_23_24_and_29():
    labels = torch.tensor(LABELS, dtype=torch.float64)
    y = 22.0
    target = torch.tensor([y], dtype=torch.float64)
    p = make_logits(1, 6).softmax(-1)
    mean = (p * labels).sum()
    v = (p * (labels - mean) ** 2).sum()
    one_hot = (labels == y).double()
    expected = {
        "mean": (mean - y) * p * (labels - mean),
        "variance": p * ((labels - mean) ** 2 - v),
        "softmax": p - one_hot,
    }
    for term, gradient in expected.items():
        z = make_logits(1, 6).requires_grad_()
        losses.build("label_distribution", labels=LABELS, **{term: 1.0})(z, target).backward()
        torch.testing.assert_close(z.grad, gradient)


@pytest.mark.parametrize(
    ("logits", "left", "sign"), [([2.0, 0.0, 3.0, 1.0], 0, 1), ([1.0, 3.0, 0.0, 2.0], 2, -1)]
)
def test_a_pair_in_the_wrong_order_is_corrected_as_equations_30_and_31_say(logits, left, sign):
    # Before the target (sign 1) the left one must lose, after it (sign -1) the right one; the paper writes
    # out the first case and differentiates each probability by its own logit only.
    z = torch.tensor([logits], dtype=torch.float64, requires_grad=True)
    p = z.detach().softmax(-1)[0]
    target = 2.0 if left == 0 else 1.0
    losses.build("unimodal")(z, torch.tensor([target])).backward()
    a, b = p[left], p[left + 1]
    own = sign * torch.stack([a * (1 - a), -b * (1 - b)])
    coupled = sign * torch.stack([a * b, -a * b])  # through the softmax's common denominator
    torch.testing.assert_close(z.grad[0, left : left + 2], own + coupled)


def test_pairs_in_the_right_order_have_no_gradient_as_equations_30_and_31_say():
    z = torch.tensor([[0.0, 1.0, 2.0, 1.0]], dtype=torch.float64, requires_grad=True)
    losses.build("unimodal")(z, torch.tensor([2.0])).backward()
    assert z.grad.tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize("name", sorted(set(SLOW) - {"unimodal_concentrated", "label_distribution"}))
def test_gradients_fit_float16_for_a_hundred_labels(name):
    settings, _ = SLOW[name]
    z = make_logits(16, 101, torch.float16, scale=15).requires_grad_()
    losses.build(name, **settings)(z, torch.linspace(0, 100, 16)).backward()
    assert z.grad.isfinite().all()


def test_below_the_floor_a_wrong_and_certain_distribution_is_still_pushed_to_widen():
    z = torch.zeros(1, 11, dtype=torch.float64)
    z[0, 2] = 9.0
    z.requires_grad_()
    loss = losses.build("concentrated")
    assert loss.spread(z.detach()) < 1 / 12
    loss(z, torch.tensor([8.0])).backward()
    assert z.grad[0, 2] > 0, "the certain label must lose"
    assert (z.grad[0, 3:] < 0).all(), "labels towards the target must gain"


def test_the_floor_is_the_variance_of_rounding_to_labels():
    certain = torch.tensor([[0.0, 80.0, 0.0]], dtype=torch.float64)
    value = losses.build("concentrated", labels=[0.0, 3.0, 6.0])(certain, torch.tensor([3.0]))
    assert float(value) == pytest.approx(0.5 * math.log(9 / 12))


def test_prediction_and_spread_are_the_moments():
    logits = make_logits(4, 6)
    loss = losses.build("softmax", labels=LABELS)
    rows = [slow_probabilities(row) for row in logits.tolist()]
    assert loss.prediction(logits).tolist() == pytest.approx([slow_mean(p, LABELS) for p in rows])
    assert loss.spread(logits).tolist() == pytest.approx([slow_variance(p, LABELS) for p in rows])


def test_targets_beyond_half_a_step_outside_the_labels_are_refused():
    loss = losses.build("dldl", labels=LABELS)
    loss.check_targets(torch.tensor([19.6, 25.4]))
    with pytest.raises(UserError, match=r"target 25\.6 in row 1: outside the labels 20 to 25"):
        loss.check_targets(torch.tensor([20.0, 25.6]))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"labels": [3.0], "softmax": 1.0}, "two or more"),
        ({"labels": [3.0, 2.0], "softmax": 1.0}, "ascending"),
        ({"labels": 5}, "needs a weight"),
        ({"labels": 5, "divergence": 1.0, "sigma": 0.0}, "sigma 0"),
    ],
)
def test_settings_that_make_no_loss_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        losses.build("label_distribution", **settings)


def test_logits_for_another_number_of_labels_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r"\(2, 5\) for 6 labels"):
        losses.build("softmax", labels=LABELS)(torch.zeros(2, 5), torch.tensor([20.0, 21.0]))
