"""The loss around a network, against what can be computed otherwise."""

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.core.errors import UserError
from pipeline.explain import landscape
from pipeline.explain.landscape import (
    NoExtremesError,
    Objective,
    Plane,
    direction,
    hessian_extremes,
    hessian_operator,
    loss_plane,
    ratio_plane,
)
from pipeline.losses import build


def small(seed=0):
    """A network of 200 parameters, a loss that is not convex, and a batch."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(9, 12), nn.Tanh(), nn.Linear(12, 5), nn.ELU(), nn.Linear(5, 3, bias=False)
    )
    objective = Objective(network, build("mam_softmax")).double()
    batch = (torch.randn(30, 9, dtype=torch.float64), torch.randint(0, 3, (30,)))
    return objective, batch


def dense_hessian(objective, batch):
    names = [name for name, _ in objective.named_parameters()]
    shapes = [p.shape for p in objective.parameters()]
    sizes = [p.numel() for p in objective.parameters()]

    def value(flat):
        parts = [part.reshape(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
        return torch.func.functional_call(objective, dict(zip(names, parts, strict=True)), batch)

    flat = torch.cat([p.detach().reshape(-1) for p in objective.parameters()])
    return torch.autograd.functional.hessian(value, flat, vectorize=True).numpy()


@pytest.mark.parametrize("seed", range(3))
def test_extremes_agree_with_a_dense_eigendecomposition_of_200_parameters(seed):
    objective, batch = small(seed)
    assert sum(p.numel() for p in objective.parameters()) == 200
    values = np.linalg.eigvalsh(dense_hessian(objective, batch))
    lowest, highest = hessian_extremes(objective, batch)
    assert lowest == pytest.approx(values[0], abs=1e-3)
    assert highest == pytest.approx(values[-1], abs=1e-3)
    assert lowest < 0 < highest


def test_products_are_those_of_the_dense_matrix_and_of_other_weights_too():
    objective, batch = small()
    dense = dense_hessian(objective, batch)
    np.testing.assert_allclose(hessian_operator(objective, batch) @ np.eye(200), dense, atol=1e-12)
    elsewhere = {name: p.detach() * 1.5 for name, p in objective.named_parameters()}
    product = hessian_operator(objective, batch, elsewhere) @ np.eye(200)
    with torch.no_grad():
        for p in objective.parameters():
            p.mul_(1.5)
    np.testing.assert_allclose(product, dense_hessian(objective, batch), atol=1e-12)


def test_a_flat_loss_and_one_of_equal_curvature_have_their_extremes():
    network = nn.Linear(4, 1, bias=False).double()
    still = torch.zeros(3, 4, dtype=torch.float64)
    assert hessian_extremes(Objective(network, nn.MSELoss()), (still, still[:, :1])) == (0.0, 0.0)
    eye = torch.eye(4, dtype=torch.float64)
    found = hessian_extremes(Objective(network, nn.MSELoss()), (eye, eye[:, :1]))
    assert found == pytest.approx((0.5, 0.5))


def test_every_filter_of_a_direction_is_as_long_as_its_own():
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 4, 2), nn.Flatten(), nn.Linear(5, 6)
    )
    found = direction(network, seed=1)
    for name, axes in {"0.weight": (1, 2, 3), "2.weight": (0, 2, 3), "4.weight": (1,)}.items():
        own = network.get_parameter(name).detach()
        torch.testing.assert_close(
            torch.linalg.vector_norm(found[name], dim=axes), torch.linalg.vector_norm(own, dim=axes)
        )
        assert not torch.allclose(found[name], own)
    for name in ("0.bias", "1.weight", "1.bias", "4.bias"):
        assert not found[name].any(), "neither biases nor normalisation are moved"
    again = direction(network, seed=1)
    assert torch.equal(again["0.weight"], found["0.weight"])
    assert not torch.equal(direction(network, seed=2)["0.weight"], found["0.weight"])


def test_class_vectors_of_a_margin_loss_are_moved_by_the_class():
    loss = build("am_softmax", classes=3, features=5)
    found = direction(Objective(nn.Identity(), loss), seed=0)["loss.inner.W"]
    torch.testing.assert_close(found.norm(dim=0), loss.inner.W.detach().norm(dim=0))


def test_the_plane_of_a_quadratic_loss_is_its_formula():
    """Loss (w x - y)^2 for one weight w = 2, x = 1, y = 0, along directions 2 and -1: (2 + 2 a - b)^2."""
    line = nn.Linear(1, 1, bias=False).double()
    line.weight.data.fill_(2.0)
    x = torch.ones(1, 1, dtype=torch.float64)
    along = ({"network.weight": 2 * x}, {"network.weight": -x})
    plane = loss_plane(Objective(line, nn.MSELoss()), [(x, 0 * x)], along, radius=0.5, steps=5)
    a, b = np.meshgrid(plane.x, plane.y)
    np.testing.assert_allclose(plane.values, (2 + 2 * a - b) ** 2)
    assert plane.values[2, 2] == 4.0
    assert line.weight.item() == 2.0, "the network is not moved"


def test_batches_count_by_their_length_and_batch_normalisation_stays_as_learnt():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    objective = Objective(network, build("cross_entropy")).train()
    x, y = torch.randn(10, 3), torch.randint(0, 2, (10,))
    along = (direction(objective, 1), direction(objective, 2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    whole = loss_plane(objective, [(x, y)], along, steps=3)
    parts = loss_plane(objective, [(x[:7], y[:7]), (x[7:], y[7:])], along, steps=3)
    np.testing.assert_allclose(whole.values, parts.values, rtol=1e-5)
    network.eval()
    assert whole.values[1, 1] == pytest.approx(float(objective(x, y).detach()), rel=1e-6)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_ratio_is_0_where_the_loss_is_convex():
    objective, batch = small()
    along = (direction(objective, 1), direction(objective, 2))
    plane = ratio_plane(objective, batch, along, steps=3, radius=0.5)
    lowest, highest = hessian_extremes(objective, batch)
    assert plane.values.shape == (3, 3)
    assert plane.values[1, 1] == pytest.approx(abs(lowest / highest), rel=0.05)
    convex = Objective(nn.Linear(9, 3).double(), build("cross_entropy"))
    flat = (direction(convex, 1), direction(convex, 2))
    assert ratio_plane(convex, batch, flat, steps=3, tolerance=1e-6).values.max() < 1e-4


def test_points_without_extremes_have_no_ratio_and_cost_no_other_point(monkeypatch):
    objective, batch = small()
    along = (direction(objective, 1), direction(objective, 2))
    values = iter([(-1.0, 4.0)] * 4 + [None] + [(-1.0, 2.0)] * 4)

    def extremes(*args, **settings):
        found = next(values)
        if found is None:
            raise NoExtremesError("not found")
        return found

    monkeypatch.setattr(landscape, "hessian_extremes", extremes)
    plane = ratio_plane(objective, batch, along, steps=3)
    assert plane.failed == 1
    np.testing.assert_array_equal(plane.values.ravel(), [0.25] * 4 + [np.nan] + [0.5] * 4)


@pytest.mark.parametrize(
    "settings",
    [{"steps": 4}, {"steps": 1}, {"radius": 0.0}, {"radius": float("nan")}, {"radius": float("inf")}],
)
def test_planes_without_a_middle_are_refused(settings):
    objective, batch = small()
    along = (direction(objective, 1), direction(objective, 2))
    with pytest.raises(UserError, match="an odd number from 3 on"):
        loss_plane(objective, [batch], along, **settings)


@pytest.mark.parametrize("steps", [3, 7, 11, 21, 41])
def test_the_weights_are_in_the_middle_of_every_plane_and_two_planes_share_their_points(steps):
    for radius in np.arange(1, 301) / 100:
        axis = landscape.axis_of(radius, steps)
        assert axis[steps // 2] == 0.0
        assert (axis[0], axis[-1]) == (-radius, radius)
        np.testing.assert_allclose(axis, np.linspace(-radius, radius, steps), atol=1e-15)
        assert set(landscape.axis_of(radius, 3)) <= set(axis)


@pytest.mark.parametrize(
    ("points", "enough"), [([], False), ([4], False), ([3, 4, 5], False), ([1, 4, 7], False), ([0, 4], True)]
)
def test_a_plane_is_drawable_with_finite_values_on_two_rows_and_columns(points, enough):
    values = np.array([np.nan, np.inf, -np.inf] * 3)
    values[points] = 1.0
    axis = np.linspace(-1, 1, 3)
    assert Plane(axis, axis, values.reshape(3, 3)).drawable is enough


def test_a_loss_that_overflows_is_named():
    objective, (x, y) = small()
    with pytest.raises(NoExtremesError, match="not finite"):
        hessian_extremes(objective, (x * float("inf"), y))
