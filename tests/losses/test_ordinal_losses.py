import math

import pytest
import torch
from coral_pytorch.dataset import corn_label_from_logits, levels_from_labelbatch, proba_to_label
from coral_pytorch.losses import coral_loss, corn_loss
from torch.autograd import gradcheck

from pipeline import losses
from pipeline.core.errors import UserError

NAMES = ("coral", "or_cnn", "corn")
LABELS = [10.0, 20.0, 35.0, 40.0, 60.0]
TARGETS = [10.0, 60.0, 35.0, 27.0, 28.0]
RANKS = [0, 4, 2, 1, 2]  # 27 lies nearer to 20, 28 nearer to 35
WEIGHTS = [1.0, 0.0, 2.0, 0.5, 3.0]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def slow_answers(row, rank, conditional):
    """The cross-entropy of each question a sample is asked."""
    found = []
    for question, logit in enumerate(row):
        if conditional and rank < question:
            continue
        p = sigmoid(logit)
        found.append(-math.log(p if rank > question else 1 - p))
    return found


def slow(name, logits, ranks, weights):
    answers = [slow_answers(row, rank, name == "corn") for row, rank in zip(logits, ranks, strict=True)]
    total = sum(w * sum(found) for w, found in zip(weights, answers, strict=True))
    counts = [len(found) if name == "corn" else 1 for found in answers]
    return total / sum(counts)


def make_logits(rows, columns, dtype=torch.float64, scale=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(rows, columns, dtype=torch.float64, generator=generator)).to(dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_every_loss_equals_a_plain_loop_over_its_formula(name, dtype, weights):
    logits = make_logits(5, 4, dtype)
    expected = slow(name, logits.tolist(), RANKS, weights or [1.0] * 5)
    weight = None if weights is None else torch.tensor(weights)
    value = losses.build(name, labels=LABELS)(logits, torch.tensor(TARGETS), weight)
    assert value.shape == ()
    assert float(value) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("classes", [2, 5, 101])
def test_coral_and_or_cnn_agree_with_coral_pytorch(classes):
    logits, ranks = make_logits(64, classes - 1), torch.arange(64) % classes
    expected = coral_loss(logits, levels_from_labelbatch(ranks, classes, dtype=torch.float64))
    for name in ("coral", "or_cnn"):
        torch.testing.assert_close(losses.build(name)(logits, ranks.double()), expected)
        predicted = losses.build(name).prediction(logits)
        assert predicted.tolist() == proba_to_label(logits.sigmoid()).tolist()


@pytest.mark.parametrize("classes", [2, 5, 101])
def test_corn_agrees_with_coral_pytorch(classes):
    logits, ranks = make_logits(64, classes - 1), torch.arange(64) % classes
    loss = losses.build("corn", labels=classes)
    torch.testing.assert_close(loss(logits, ranks.double()), corn_loss(logits, ranks, classes))
    assert loss.prediction(logits).tolist() == corn_label_from_logits(logits).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_every_gradient_is_that_of_finite_differences(name):
    loss = losses.build(name, labels=LABELS)
    target = torch.tensor(TARGETS, dtype=torch.float64)
    weight = torch.tensor(WEIGHTS, dtype=torch.float64)
    assert gradcheck(lambda z: loss(z, target, weight), make_logits(5, 4).requires_grad_())


@pytest.mark.parametrize("name", NAMES)
def test_leading_dimensions_are_reduced_one_by_one(name):
    logits, target = make_logits(12, 4).view(3, 4, 4), torch.tensor(TARGETS[:4]).expand(3, 4)
    weight = torch.rand(3, 4)
    loss = losses.build(name, labels=LABELS)
    each = torch.stack([loss(*member) for member in zip(logits, target, weight, strict=True)])
    torch.testing.assert_close(loss(logits, target, weight), each)
    torch.testing.assert_close(
        loss.prediction(logits), torch.stack([loss.prediction(member) for member in logits])
    )


def test_importance_weighs_the_questions():
    logits = make_logits(5, 4)
    importance = [0.5, 1.0, 0.0, 3.0]
    expected = 0.0
    for row, rank in zip(logits.tolist(), RANKS, strict=True):
        expected += sum(a * b for a, b in zip(importance, slow_answers(row, rank, False), strict=True)) / 5
    value = losses.build("or_cnn", labels=LABELS, importance=importance)(logits, torch.tensor(TARGETS))
    assert float(value) == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_are_a_distribution_whose_moments_are_expectation_and_spread(name):
    loss = losses.build(name, labels=LABELS)
    logits = make_logits(20, 4)
    p = loss.probabilities(logits)
    assert p.shape == (20, 5)
    assert (p >= 0).all()
    torch.testing.assert_close(p.sum(-1), torch.ones(20, dtype=torch.float64))
    for row, mean, variance in zip(p.tolist(), loss.expectation(logits), loss.spread(logits), strict=True):
        m = sum(a * b for a, b in zip(row, LABELS, strict=True))
        assert float(mean) == pytest.approx(m)
        assert float(variance) == pytest.approx(
            sum(a * (b - m) ** 2 for a, b in zip(row, LABELS, strict=True))
        )


def test_corn_multiplies_conditional_probabilities():
    p = losses.build("corn").probabilities(torch.tensor([[0.0, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(p, torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64))


def test_predictions_are_labels():
    logits = torch.tensor([[9.0, 9.0, -9.0, -9.0], [-9.0, -9.0, -9.0, -9.0], [9.0, 9.0, 9.0, 9.0]])
    for name in NAMES:
        assert losses.build(name, labels=LABELS).prediction(logits).tolist() == [35, 10, 60]


def test_settings_that_make_no_loss_are_refused():
    with pytest.raises(UserError, match="3 weights of importance for 5 labels"):
        losses.build("coral", labels=LABELS, importance=[1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match=r"\(5, 3\) for 5 labels"):
        losses.build("corn", labels=LABELS)(torch.zeros(5, 3), torch.tensor(TARGETS))
    with pytest.raises(ValueError, match=r"weight has shape \(1,\)"):
        losses.build("corn", labels=LABELS)(torch.zeros(5, 4), torch.tensor(TARGETS), torch.ones(1))
