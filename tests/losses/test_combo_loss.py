"""Numbers in brackets are equations of Xu and Xiang, ComboLoss, 2020."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from pipeline import losses
from pipeline.core.errors import UserError
from pipeline.losses.combo import ComboOutput

LABELS = [1.0, 2.0, 3.0, 4.0, 5.0]
TARGETS = [1.0, 2.5, 2.51, 4.9, 3.0, 3.4]
CLASSES = [0, 1, 2, 4, 2, 2]  # ceil(s - 1/2), counted from 1
CLASS_WEIGHTS = [3.0, 3.0, 1.0, 1.0, 3.0]
WEIGHTS = [1.0, 0.0, 2.0, 0.5, 3.0, 1.0]


def make(dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    value = 3 + torch.randn(6, dtype=torch.float64, generator=generator)
    logits = torch.randn(6, 5, dtype=torch.float64, generator=generator)
    return ComboOutput(value.to(dtype), logits.to(dtype))


def slow(output, classes, targets, class_weights, alpha=2.0, beta=1.0, gamma=1.0, labels=LABELS):
    """[2] to [5], sample by sample."""
    found = []
    for value, row, c, s in zip(output.value.tolist(), output.logits.tolist(), classes, targets, strict=True):
        exponentials = [math.exp(z) for z in row]
        p = [e / sum(exponentials) for e in exponentials]
        expectation = sum(p[j] * labels[j] for j in range(len(p)))
        entropy = -class_weights[c] * math.log(p[c])
        found.append(alpha * abs(value - s) + beta * abs(expectation - s) + gamma * entropy)
    return found


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("class_weights", [None, CLASS_WEIGHTS])
def test_equals_a_plain_loop_over_its_formula(dtype, weights, class_weights):
    output = make(dtype)
    each = slow(output, CLASSES, TARGETS, class_weights or [1.0] * 5)
    w = weights or [1.0] * 6
    expected = sum(a * b for a, b in zip(w, each, strict=True)) / 6
    loss = losses.build("combo", labels=LABELS, class_weights=class_weights)
    weight = None if weights is None else torch.tensor(weights)
    value = loss(output, torch.tensor(TARGETS), weight)
    assert value.shape == ()
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_the_terms_have_their_own_weights():
    output, target = make(), torch.tensor(TARGETS, dtype=torch.float64)
    loss = losses.build("combo", labels=LABELS, alpha=0.5, beta=3.0, gamma=0.25)
    expected = slow(output, CLASSES, TARGETS, [1.0] * 5, 0.5, 3.0, 0.25)
    torch.testing.assert_close(
        loss.per_sample(output, target), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6
    )


def test_classes_can_be_bins_whose_borders_belong_below():
    labels, edges = [-2.0, 0.0, 2.0], [-1.0, 1.0]
    targets = [-1.5, -1.0, -0.99, 1.0, 1.01, 7.0]
    output = make()._replace(logits=make().logits[:, :3])
    expected = slow(output, [0, 0, 1, 1, 2, 2], targets, [1.0] * 3, labels=labels)
    loss = losses.build("combo", labels=labels, edges=edges)
    assert loss.per_sample(output, torch.tensor(targets, dtype=torch.float64)).tolist() == pytest.approx(
        expected
    )


def test_learns_the_class_weights_of_equation_6_from_training_targets():
    targets = torch.tensor([1.0] * 2 + [2.0] * 4 + [3.0] * 8 + [4.0])
    loss = losses.build("combo", labels=LABELS)
    learnt = loss.learn(targets)
    assert learnt == {"class_weights": [4.0, 2.0, 1.0, 8.0, 8.0]}
    assert losses.build("combo", labels=LABELS, **learnt).learn(targets) == {}
    with pytest.raises(UserError, match="needs its labels"):
        losses.build("combo").learn(targets)


def test_one_tensor_that_holds_both_is_the_same():
    output, target = make(), torch.tensor(TARGETS)
    loss = losses.build("combo", labels=LABELS)
    packed = output.packed()
    assert packed.shape == (6, 6)
    assert loss.outputs == 6
    torch.testing.assert_close(loss(packed, target), loss(output, target))
    torch.testing.assert_close(loss.prediction(packed), output.value)
    torch.testing.assert_close(loss.expectation(packed), loss.expectation(output))


def test_predicts_by_its_regression_branch_and_tells_the_other_ones_expectation():
    output = make()
    loss = losses.build("combo", labels=LABELS)
    torch.testing.assert_close(loss.prediction(output), output.value)
    p = output.logits.softmax(-1)
    torch.testing.assert_close(loss.expectation(output), p @ torch.tensor(LABELS, dtype=torch.float64))


def test_every_gradient_is_that_of_finite_differences():
    loss = losses.build("combo", labels=LABELS, class_weights=CLASS_WEIGHTS)
    target = torch.tensor(TARGETS, dtype=torch.float64)
    weight = torch.tensor(WEIGHTS, dtype=torch.float64)
    value, logits = make()
    assert gradcheck(
        lambda v, z: loss(ComboOutput(v, z), target, weight),
        (value.requires_grad_(), logits.requires_grad_()),
    )


def test_leading_dimensions_are_reduced_one_by_one():
    value, logits = torch.randn(3, 4), torch.randn(3, 4, 5)
    target = torch.tensor(TARGETS[:4]).expand(3, 4)
    loss = losses.build("combo", labels=LABELS)
    each = torch.stack([loss(ComboOutput(v, z), y) for v, z, y in zip(value, logits, target, strict=True)])
    torch.testing.assert_close(loss(ComboOutput(value, logits), target), each)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"labels": 3, "edges": [0.0]}, "1 edges for 3 labels"),
        ({"labels": 3, "edges": [1.0, 0.0]}, "ascending"),
        ({"labels": 3, "class_weights": [1.0, 1.0]}, "2 class weights for 3 labels"),
    ],
)
def test_settings_that_do_not_belong_together_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        losses.build("combo", **settings)


def test_shapes_that_do_not_belong_together_are_refused_by_name():
    with pytest.raises(ValueError, match=r"value has shape \(2, 1\) and logits \(2, 5\)"):
        losses.build("combo")(ComboOutput(torch.zeros(2, 1), torch.zeros(2, 5)), torch.zeros(2))
    with pytest.raises(ValueError, match=r"\(2, 5\) for 3 labels"):
        losses.build("combo", labels=3)(ComboOutput(torch.zeros(2), torch.zeros(2, 5)), torch.zeros(2))
