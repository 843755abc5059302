"""What must hold for every loss of the registry."""

import math

import pytest
import torch

from pipeline import losses
from pipeline.core.errors import UserError
from pipeline.losses.base import DivergedError, stop_unless_finite
from pipeline.losses.combo import ComboOutput
from pipeline.training.mlp import fit_stack
from pipeline.training.mlp.recipe import Recipe
from pipeline.training.networks.criterion import build_criterion

COMBINED = {"label_distribution": {"softmax": 1.0, "unimodal": 1000.0, "mean": 0.2, "variance": 0.05}}
NAMES = losses.REGISTRY.names()
# Those of other kinds, such as margins between classes, have the rest of their tests beside their modules.
LABELLED = [name for name in NAMES if "labels" in losses.REGISTRY.settings(name)]
PLAIN = [name for name in NAMES if losses.REGISTRY.places[name].startswith("pipeline.losses.regression:")]


def make(name, **settings):
    return losses.build(name, **COMBINED.get(name, {}), **settings)


def backward(loss, output, target):
    """The loss of one sample, a batch of one, and its gradient."""
    z = output[None].clone().requires_grad_()
    value = loss(z, torch.tensor([target]))
    value.backward()
    return value.detach(), z.grad


def corners(width):
    """Outputs at the ends of [-50, 50]: certain of one class, of alternating signs, all alike, anything."""
    generator = torch.Generator().manual_seed(0)
    certain = torch.full((width, width), -50.0).fill_diagonal_(50.0)[[0, width // 2, -1]]
    signs = 50.0 * torch.randn(8, width, generator=generator).sign()
    spread = 100.0 * torch.rand(8, width, generator=generator) - 50.0
    return torch.cat([certain, signs, spread, torch.zeros(1, width), torch.full((1, width), 50.0)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("classes", [2, 200])
@pytest.mark.parametrize("name", LABELLED)
def test_loss_and_gradient_are_finite_for_extreme_logits_and_targets_at_both_ends(name, classes, dtype):
    loss = make(name, labels=classes)
    for row in corners(loss.outputs).to(dtype):
        for target in (0.0, classes - 1.0):
            value, gradient = backward(loss, row, target)
            assert value.isfinite(), f"loss {value} at target {target}"
            assert gradient.isfinite().all(), f"gradient at target {target}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LABELLED)
def test_loss_and_gradient_are_finite_on_the_way_to_certainty(name, dtype):
    # Where a distribution is nearly certain and wrong, the variance is small and the error is not.
    loss = make(name, labels=200)
    for height in (2.0, 5.0, 8.0, 10.0, 12.0, 14.0, 16.0, 20.0):
        row = torch.zeros(loss.outputs, dtype=dtype)
        row[0] = height
        value, gradient = backward(loss, row, 199.0)
        assert value.isfinite()
        assert gradient.isfinite().all(), height


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", PLAIN)
def test_loss_and_gradient_of_one_number_are_finite_for_outputs_from_minus_to_plus_50(name, dtype):
    # exp(11) is the last gradient of the Poisson loss that float16 holds
    highest = 11 if name == "poisson" and dtype is torch.float16 else 50
    for output in torch.linspace(-50, highest, 102).to(dtype):
        for target in (1.0, 100.0):
            value, gradient = backward(losses.build(name), output, target)
            assert value.isfinite()
            assert gradient.isfinite().all(), (output, target)


@pytest.mark.parametrize("name", LABELLED)
def test_predictions_of_half_precision_are_computed_in_single(name):
    loss = make(name, labels=101)
    outputs = torch.randn(4, loss.outputs).bfloat16()
    for made in (loss.prediction(outputs), loss.expectation(outputs), loss.spread(outputs)):
        assert made.dtype is torch.float32
    torch.testing.assert_close(loss.expectation(outputs), loss.expectation(outputs.float()))


# Li et al.'s Tables 4 and 6: auxiliary and primary term
ROWS = {
    "softmax + concentrated": ("softmax_concentrated", {"softmax": 1, "concentrated": 1}),
    "unimodal + concentrated": ("unimodal_concentrated", {"unimodal": 1000, "concentrated": 1}),
    "softmax + mean & variance": ("mean_variance", {"softmax": 1, "mean": 0.2, "variance": 0.05}),
    "unimodal + mean & variance": (
        "unimodal_mean_variance",
        {"unimodal": 1000, "mean": 0.2, "variance": 0.05},
    ),
    "unimodal": ("unimodal", {"unimodal": 1}),
    "concentrated": ("concentrated", {"concentrated": 1}),
}


@pytest.mark.parametrize("row", ROWS)
def test_every_combination_of_tables_4_and_6_has_a_name_and_is_a_sum_of_terms(row):
    name, terms = ROWS[row]
    logits, target = torch.randn(16, 9), torch.arange(16.0) % 9
    loss, combined = (
        losses.build(name, labels=9),
        losses.build("label_distribution", labels=9, **{k: float(v) for k, v in terms.items()}),
    )
    torch.testing.assert_close(loss(logits, target), combined(logits, target))
    each = {k: losses.build("label_distribution", labels=9, **{k: 1.0}) for k in terms}
    total = sum(weight * each[term](logits, target) for term, weight in terms.items())
    torch.testing.assert_close(loss(logits, target), total)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in losses.NOT_IN_A_STACK])
def test_every_loss_but_those_named_trains_a_seed_stack(name):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(60, 4, generator=generator)
    y = (10 + 2 * x[:, 0]).round().clamp(6, 14)
    recipe = Recipe(
        loss=name, loss_settings=COMBINED.get(name, {}), hidden=(8,), batch_size=20, epochs=4, stop_patience=9
    )
    both = fit_stack(
        x[:40],
        y[:40],
        x[40:],
        y[40:],
        seeds=[1, 2],
        learning_rates=1e-3,
        recipe=recipe,
        stack_size=2,
        workers=1,
    )
    alone = fit_stack(
        x[:40], y[:40], x[40:], y[40:], seeds=[2], learning_rates=1e-3, recipe=recipe, workers=1
    )
    assert all(score.outcome == "all epochs" for score in both.scores)
    assert both.members.predict(x).shape == (2, 60)
    assert both.history[0].train_loss > both.history[3].train_loss
    torch.testing.assert_close(both.members.rows[1], alone.members.rows[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", losses.NOT_IN_A_STACK)
def test_a_loss_that_cannot_train_a_stack_is_refused_with_the_reason(name):
    x, y = torch.randn(30, 4), torch.arange(30.0) % 5
    with pytest.raises(UserError, match=f"loss '{name}' cannot train a stack: "):
        fit_stack(x, y, x, y, seeds=[1], learning_rates=1e-3, recipe=Recipe(loss=name, hidden=()))


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_but_those_named_is_a_criterion_of_networks(name):
    years = torch.tensor([[20.0], [21.0], [24.0]])
    settings = COMBINED.get(name, {})
    if name in losses.NOT_IN_A_NETWORK:
        with pytest.raises(UserError, match=f"loss '{name}' cannot train a network on faces: "):
            build_criterion(name, settings, years, years)
        return
    criterion, complete = build_criterion(name, settings, years, years)
    width = criterion.loss.outputs
    single = width == 1 and not criterion.loss.output_dims
    output = torch.zeros((3,) if single else (3, width)) if name != "combo" else None
    if output is None:
        output = ComboOutput(torch.zeros(3), torch.zeros(3, len(complete["labels"])))
    assert criterion(output, years).isfinite()
    assert criterion.prediction(output).shape == (3, 1)
    start = criterion.starting_point(years)
    assert start is None or [len(part) for part in start] == [1, 1]


def test_a_stack_learns_class_weights_from_training_targets_alone():
    x = torch.randn(30, 4)
    y = torch.tensor([1.0] * 20 + [2.0] * 10)
    result = fit_stack(
        x, y, x, y + 1, seeds=[1], learning_rates=1e-3, recipe=Recipe(loss="combo", hidden=(), epochs=1)
    )
    assert result.members.loss_settings == {"labels": [1, 2, 3], "class_weights": [1.0, 2.0, 20.0]}


def test_an_ordinal_loss_with_two_labels_is_refused_in_a_stack():
    x, y = torch.randn(30, 4), torch.arange(30.0) % 2
    with pytest.raises(UserError, match="with two labels is one output"):
        fit_stack(x, y, x, y, seeds=[1], learning_rates=1e-3, recipe=Recipe(loss="corn", hidden=()))


def descend(loss, rate, steps=200):
    """Train a linear model by plain gradient descent, as a training loop would."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 6, generator=generator)
    target = (50 + 20 * x[:, 0]).clamp(0, 100).round()
    weight = torch.zeros(6, 101, requires_grad=True)
    for step in range(steps):
        value = loss(x @ weight, target)
        stop_unless_finite(value, loss, f"step {step}")
        (gradient,) = torch.autograd.grad(value, weight)
        weight.data -= rate * gradient
    return value.item()


def test_unimodal_concentrated_at_lambda_one_tenth_stops_with_a_sentence():
    # min_variance 0 is the paper's own formula, which divides by a variance that has vanished
    loss = losses.build("unimodal_concentrated", labels=101, unimodal_weight=0.1, min_variance=0.0)
    with pytest.raises(DivergedError) as raised:
        descend(loss, rate=10.0)
    message = str(raised.value)
    assert message.startswith("UnimodalConcentratedLoss became ")
    assert "in step " in message
    assert "lower the learning rate, or weigh the unimodal term by 10 or more, not by 0.1" in message
    assert isinstance(raised.value, UserError)


def test_with_the_floor_of_the_variance_the_same_training_ends_in_a_number():
    assert math.isfinite(
        descend(losses.build("unimodal_concentrated", labels=101, unimodal_weight=0.1), 10.0)
    )


def test_finite_losses_pass_and_any_member_that_is_not_stops_the_training():
    loss = losses.build("mse")
    stop_unless_finite(torch.tensor([1.0, 2.0]), loss, "epoch 1")
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(DivergedError, match=f"MSELoss became {bad} in epoch 1: lower the learning rate"):
            stop_unless_finite(torch.tensor([1.0, bad]), loss, "epoch 1")


def test_only_a_concentrated_term_without_a_companion_asks_for_a_unimodal_one():
    assert "unimodal" in losses.build("concentrated").remedy
    for name in ("unimodal_concentrated", "softmax_concentrated", "mean_variance"):
        assert losses.build(name).remedy == "lower the learning rate"
