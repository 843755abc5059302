import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from pipeline import losses
from pipeline.core.errors import UserError
from pipeline.losses.regression import L1Loss, LogCoshLoss, MAPELoss, MSELoss, PoissonLoss
from pipeline.metrics import balancing_weights


def slow_huber(e, delta):
    return 0.5 * e * e if abs(e) < delta else delta * (abs(e) - 0.5 * delta)


def slow_smooth_l1(e, beta):
    return 0.5 * e * e / beta if abs(e) < beta else abs(e) - 0.5 * beta


SLOW = {
    "mse": ({}, lambda o, t: (o - t) ** 2),
    "l1": ({}, lambda o, t: abs(o - t)),
    "smooth_l1": ({"beta": 0.7}, lambda o, t: slow_smooth_l1(o - t, 0.7)),
    "huber": ({"delta": 1.5}, lambda o, t: slow_huber(o - t, 1.5)),
    "smooth_huber": ({}, lambda o, t: math.log(math.cosh(o - t)) if abs(o - t) < 0.8 else abs(o - t)),
    "log_cosh": ({}, lambda o, t: math.log(math.cosh(o - t))),
    "poisson": ({}, lambda o, t: math.exp(o) - t * o),
    "msle": ({}, lambda o, t: (math.log(1 + max(o, 0)) - math.log(1 + t)) ** 2),
    "mape": ({}, lambda o, t: 100 * abs(o - t) / abs(t)),
    "mspe": ({}, lambda o, t: 100 * (o - t) ** 2 / t**2),
}
OUTPUT = np.array([-0.3, 0.2, 1.7, 2.1, 4.9, 3.05])
TARGET = np.array([1.0, 0.5, 1.4, 2.0, 2.5, 3.0])
WEIGHT = np.array([1.0, 0.5, 2.0, 0.0, 3.0, 1.0])


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_loss_equals_a_plain_loop_over_its_formula(name, dtype, weighted):
    settings, formula = SLOW[name]
    output, target = torch.tensor(OUTPUT, dtype=dtype), torch.tensor(TARGET, dtype=dtype)
    total = 0.0
    for k in range(len(output)):
        w = WEIGHT[k] if weighted else 1.0
        total += w * formula(float(output[k]), float(target[k]))
    weight = torch.tensor(WEIGHT) if weighted else None
    value = losses.build(name, **settings)(output, target, weight)
    assert value.shape == ()
    assert float(value) == pytest.approx(total / len(output), rel=1e-5)


def test_rates_under_a_positive_head_are_compared_by_their_logarithm():
    value = PoissonLoss(log_input=False)(torch.tensor([2.0]), torch.tensor([3.0]))
    assert float(value) == pytest.approx(2 - 3 * math.log(2))


def test_poisson_predicts_the_rate():
    outputs = torch.tensor([0.0, 1.0])
    assert PoissonLoss().prediction(outputs).tolist() == pytest.approx([1, math.e])
    assert torch.equal(PoissonLoss(log_input=False).prediction(outputs), outputs)


@pytest.mark.parametrize("name", SLOW)
def test_every_gradient_is_that_of_finite_differences(name):
    settings, _ = SLOW[name]
    # clear of the kinks at 0, delta and 1, where there is no derivative to compare
    output = torch.tensor([0.3, 2.4, 5.0, 1.25], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0.5, 2.1, 2.0, 2.5], dtype=torch.float64)
    weight = torch.tensor([1.0, 2.0, 0.5, 1.0], dtype=torch.float64)
    loss = losses.build(name, **settings)
    assert gradcheck(lambda o: loss(o, target, weight), output)


def test_log_cosh_and_its_gradient_survive_errors_whose_cosh_overflows():
    output = torch.tensor([-1e5, 0.0, 1e5], requires_grad=True)
    value = LogCoshLoss()(output, torch.zeros(3))
    value.backward()
    assert value.item() == pytest.approx(2 / 3 * (1e5 - math.log(2)))
    assert (3 * output.grad).tolist() == pytest.approx([-1, 0, 1])


def test_leading_dimensions_are_reduced_one_by_one():
    output, target = torch.randn(4, 9), torch.randn(4, 9)
    weight = torch.rand(4, 9)
    loss = MSELoss()
    each = torch.stack([loss(*row) for row in zip(output, target, weight, strict=True)])
    torch.testing.assert_close(loss(output, target, weight), each)


@pytest.mark.parametrize("size", [1, 7, 32, 1000])
def test_weights_of_one_do_not_change_a_bit(size):
    output, target = torch.randn(3, size), torch.randn(3, size)
    assert torch.equal(MSELoss()(output, target, torch.ones(3, size)), MSELoss()(output, target))


def test_a_rare_group_keeps_its_share_in_small_batches():
    rare = torch.arange(3200) % 40 == 0
    group = torch.where(rare, 3, torch.arange(3200) % 3)
    weight = torch.from_numpy(balancing_weights(group.tolist())).float()
    pull = torch.zeros(4)
    for rows in torch.randperm(3200, generator=torch.Generator().manual_seed(0)).split(32):
        output = torch.zeros(32, requires_grad=True)
        (gradient,) = torch.autograd.grad(L1Loss()(output, torch.ones(32), weight[rows]), output)
        pull.index_add_(0, group[rows], gradient.abs())
    torch.testing.assert_close(pull / pull.sum(), torch.full((4,), 0.25))


def test_shapes_that_would_broadcast_are_refused_by_name():
    with pytest.raises(ValueError, match=r"\(5, 1\) and target \(5,\)"):
        MSELoss()(torch.zeros(5, 1), torch.zeros(5))
    with pytest.raises(ValueError, match=r"weight has shape \(1,\)"):
        MSELoss()(torch.zeros(5), torch.zeros(5), torch.ones(1))


@pytest.mark.parametrize(
    ("name", "bad", "value"),
    [("mape", 0.0, "0"), ("mspe", 0.0, "0"), ("msle", -2.0, "-2"), ("poisson", -1.0, "-1")],
)
def test_targets_outside_a_loss_are_refused_with_their_row(name, bad, value):
    with pytest.raises(UserError, match=f"target {value} in row 2"):
        losses.build(name).check_targets(torch.tensor([3.0, 4.0, bad]))


def test_a_target_that_is_not_a_number_is_refused():
    with pytest.raises(UserError, match="target nan in row 1"):
        MAPELoss().check_targets(torch.tensor([1.0, math.nan]))


def test_classes_are_found_by_their_names_in_the_package():
    assert losses.MSELoss is MSELoss
    with pytest.raises(AttributeError, match="NoSuchLoss"):
        _ = losses.NoSuchLoss


def test_an_unknown_name_or_setting_is_refused_with_what_there_is():
    with pytest.raises(UserError, match=r"unknown loss 'msee': choose one of mse, l1"):
        losses.build("msee")
    with pytest.raises(UserError, match=r"'huber' has no setting 'beta': it takes delta"):
        losses.build("huber", beta=1)
