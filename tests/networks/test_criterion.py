"""A loss over one target or several, on their scale or between 0 and 1."""

import numpy as np
import pytest
import torch

from pipeline import losses
from pipeline.backbones.input_transforms import Look
from pipeline.core.errors import UserError
from pipeline.training.networks.criterion import Criterion, build_criterion, whole_numbers
from pipeline.training.networks.heads import ComboHead, CoralHead, DistributionHead, ValueHead
from pipeline.training.networks.recipe import HeadRecipe
from pipeline.training.networks.saved import Architecture

AGES = torch.tensor([[20.0], [30.0], [41.5], [60.0]])


def head_of(loss: str, targets: torch.Tensor = AGES, **head: object) -> tuple[object, Criterion]:
    recipe = HeadRecipe(**head)  # type: ignore[arg-type]
    criterion, settings = build_criterion(loss, {}, targets, targets, span=recipe.span)
    columns = tuple("abc"[: targets.shape[1]])
    built = Architecture("x", {}, Look("crop", 16), columns, loss, settings, recipe)
    return built.build_head(8, criterion, targets), criterion


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        ("mse", ValueHead),
        ("poisson", ValueHead),
        ("dldl_v2", DistributionHead),
        ("unimodal_concentrated", DistributionHead),
        ("corn", DistributionHead),
        ("coral", CoralHead),
        ("combo", ComboHead),
    ],
)
def test_every_family_of_losses_gets_its_head_and_can_learn(loss: str, kind: type) -> None:
    head, criterion = head_of(loss)
    assert isinstance(head, kind)
    features = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    output = head(features)
    value = criterion(output, AGES, torch.ones(4))
    value.backward()
    assert value.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    assert criterion.prediction(output).shape == (4, 1)
    shapes = criterion.probabilities(output)
    if kind is ValueHead:
        assert shapes is None
    else:
        assert shapes is not None
        assert shapes.shape == (4, 1, 41)
        torch.testing.assert_close(shapes.sum(-1), torch.ones(4, 1))


@pytest.mark.parametrize("loss", ["mse", "l1", "poisson", "combo"])
def test_training_starts_near_the_mean_of_the_targets(loss: str) -> None:
    torch.manual_seed(0)
    head, criterion = head_of(loss)
    predicted = criterion.prediction(head(torch.randn(2, 8)))
    torch.testing.assert_close(predicted, torch.full((2, 1), float(AGES.mean())))


def test_a_sigmoid_holds_the_target_between_the_ends_of_its_span() -> None:
    head, criterion = head_of("mse", hidden=(4, 4), activation="sigmoid", span=(0.0, 100.0))
    features = torch.randn(50, 8) * 100
    output = head(features)
    assert ((output >= 0) & (output <= 1)).all()
    predicted = criterion.prediction(output)
    torch.testing.assert_close(predicted, output.unsqueeze(1) * 100)
    wanted = torch.full((50, 1), 25.0)
    torch.testing.assert_close(criterion(output, wanted), (output - 0.25).square().mean())


def test_the_heads_of_the_bias_reports_first_table() -> None:
    for hidden, activation in [
        ((), "none"),
        ((6, 5), "sigmoid"),
        ((6, 5), "tanh"),
        ((6, 5, 4), "sigmoid"),
        ((6,), "sigmoid"),
        ((), "sigmoid"),
    ]:
        head, _ = head_of("mse", hidden=hidden, activation=activation, span=(0.0, 100.0))
        kinds = [type(layer).__name__ for layer in head.layers if not isinstance(layer, torch.nn.Dropout)]
        assert kinds == ["Linear", "ReLU"] * len(hidden) + ["Linear"]
        assert (
            type(head.activation).__name__
            == {"none": "Identity", "sigmoid": "Sigmoid", "tanh": "Tanh"}[activation]
        )


def test_the_losses_of_three_angles_are_summed() -> None:
    labels = np.linspace(-99, 99, 200)
    angles = torch.tensor([[10.0, -20.0, 30.0], [0.0, 99.0, -99.0]])
    criterion, settings = build_criterion("softmax", {}, angles, angles, labels=labels.tolist())
    assert settings["labels"] == labels.tolist()
    logits = torch.randn(2, 3, 200)
    loss = losses.build("softmax", labels=labels.tolist())
    each = [loss(logits[:, k], angles[:, k]) for k in range(3)]
    torch.testing.assert_close(criterion(logits, angles), sum(each))
    expected = (logits.softmax(-1) * torch.tensor(labels, dtype=torch.float32)).sum(-1)
    torch.testing.assert_close(criterion.prediction(logits), expected)


def test_labels_are_the_whole_numbers_that_occur_unless_they_are_given() -> None:
    assert whole_numbers(torch.tensor([3.2]), torch.tensor([5.0, 4.0])) == [3.0, 4.0, 5.0]
    assert whole_numbers(torch.tensor([3.0])) == [3.0, 4.0]
    criterion, _ = build_criterion("dldl", {"labels": [10.0, 70.0]}, AGES, AGES, labels=[1.0, 2.0])
    assert criterion.labels == [10.0, 70.0]


def test_what_a_loss_learns_from_training_targets_is_recorded() -> None:
    train = torch.tensor([[1.0], [2.0], [2.0], [2.0]])
    criterion, settings = build_criterion("combo", {}, train, torch.tensor([[3.0]]))
    assert settings == {"labels": [1.0, 2.0, 3.0], "class_weights": [3.0, 1.0, 3.0]}
    again = Criterion(losses.build("combo", **settings))
    output = torch.randn(4, 4)
    torch.testing.assert_close(again(output, train), criterion(output, train))


def test_targets_that_a_loss_is_not_defined_for_are_refused() -> None:
    zero = torch.tensor([[0.0], [3.0]])
    with pytest.raises(UserError, match="target 0 in row 0: a percentage error divides by it"):
        build_criterion("mape", {}, zero, zero)
    with pytest.raises(UserError, match="loss 'combo' has two branches for one target"):
        build_criterion("combo", {}, torch.zeros(2, 3), torch.zeros(2, 3))


def test_a_refused_target_is_named_by_its_own_value_and_face_whatever_the_span() -> None:
    train, validation = torch.tensor([[30.0], [40.0]]), torch.tensor([[50.0], [1.0]])
    why = "a percentage error divides by it"
    with pytest.raises(
        UserError, match=rf"^target 1 of face d, which is 0 in the span \[1\.0, 101\.0\]: {why}"
    ):
        build_criterion("mape", {}, train, validation, span=(1.0, 101.0), face_ids=list("abcd"))


def test_between_the_ends_of_a_span_the_poisson_loss_takes_rates() -> None:
    targets = torch.rand(32, 1, generator=torch.Generator().manual_seed(0)) * 80
    criterion, settings = build_criterion("poisson", {}, targets, targets, span=(0.0, 100.0))
    assert settings == {"log_input": False}
    output = torch.tensor([0.0, 0.25, 1.0])
    assert criterion.prediction(output)[:, 0].tolist() == [0.0, 25.0, 100.0]
    grid = torch.linspace(0.01, 1, 100)
    values = torch.stack([criterion(one.expand(32), targets) for one in grid])
    assert 100 * grid[values.argmin()] == pytest.approx(float(targets.mean()), abs=1)
    with pytest.raises(
        UserError, match=r"between the ends of a span outputs are rates.*: set log_input: false"
    ):
        build_criterion("poisson", {"log_input": True}, targets, targets, span=(0.0, 100.0))
    _, plain = build_criterion("poisson", {}, targets, targets)
    assert plain == {}


@pytest.mark.parametrize("loss", ["mse", "dldl_v2", "combo"])
def test_normalised_features_make_the_head_blind_to_their_offset_and_scale(loss: str) -> None:
    head, criterion = head_of(loss, normalise=True)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    features = torch.randn(64, 8)
    expected = criterion.prediction(head(features))
    torch.testing.assert_close(
        criterion.prediction(head(100 + 0.5 * features)), expected, rtol=1e-2, atol=0.1
    )
