"""The pinball loss against a plain loop, its gradient, and what it converges to."""

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_pinball_loss

from pipeline import losses
from pipeline.core.errors import UserError
from pipeline.losses import PinballLoss
from pipeline.training.mlp.fit import fit_stack
from pipeline.training.mlp.recipe import Recipe

PROBABILITIES = (0.1, 0.5, 0.75)


def slow(output: torch.Tensor, target: torch.Tensor) -> float:
    total = 0.0
    for row, y in zip(output.tolist(), target.tolist(), strict=True):
        for p, q in zip(PROBABILITIES, row, strict=True):
            total += p * (y - q) if y > q else (1 - p) * (q - y)
    return total / output.numel()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_is_what_a_plain_loop_and_scikit_learn_compute(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    output = (10 * torch.randn(40, 3, generator=generator)).to(dtype)
    target = 10 * torch.randn(40, generator=generator)
    found = PinballLoss(PROBABILITIES)(output, target)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    assert float(found) == pytest.approx(slow(output.double(), target.double()), rel=tolerance)
    each = [
        mean_pinball_loss(target.double(), output[:, k].double(), alpha=p)
        for k, p in enumerate(PROBABILITIES)
    ]
    assert float(found) == pytest.approx(np.mean(each), rel=1e-5)


def test_gradient_and_weights() -> None:
    generator = torch.Generator().manual_seed(2)
    output = torch.randn(6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randn(6, generator=generator, dtype=torch.float64)
    weight = torch.rand(6, generator=generator, dtype=torch.float64) + 0.1
    loss = PinballLoss(PROBABILITIES)
    assert torch.autograd.gradcheck(lambda out: loss(out, target, weight), (output,))
    each = loss.per_sample(output, target)
    torch.testing.assert_close(loss(output, target, weight), (each * weight).sum() / 6)


def test_leading_dimensions_are_the_members() -> None:
    output, target = torch.randn(4, 5, 3), torch.randn(4, 5)
    loss = PinballLoss(PROBABILITIES)
    together = loss(output, target)
    alone = torch.stack([loss(one, y) for one, y in zip(output, target, strict=True)])
    torch.testing.assert_close(together, alone)


def test_crossing_quantiles_are_sorted_which_never_costs() -> None:
    loss = PinballLoss(PROBABILITIES)
    output, target = torch.randn(200, 3), torch.randn(200)
    ordered = loss.quantiles(output)
    assert (ordered.diff() >= 0).all()
    assert (loss.per_sample(ordered, target) <= loss.per_sample(output, target) + 1e-6).all()
    torch.testing.assert_close(loss.prediction(output), ordered[:, 1])


@pytest.mark.parametrize(
    "quantiles", [(), (0.1, 0.9), (0.5, 0.1), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5), (float("nan"), 0.5)]
)
def test_refuses_probabilities_that_are_none(quantiles: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="of the pinball loss: give ascending numbers between 0 and 1"):
        losses.build("pinball", quantiles=quantiles)


def test_outputs_of_another_width_are_refused_with_both_widths() -> None:
    with pytest.raises(ValueError, match=r"output has shape \(5, 2\) for 3 quantiles"):
        PinballLoss(PROBABILITIES)(torch.zeros(5, 2), torch.zeros(5))


def test_a_stack_trained_with_it_puts_out_the_quantiles_of_noise() -> None:
    rng = np.random.default_rng(3)
    x = rng.uniform(-1, 1, (2400, 1)).astype(np.float32)
    y = 30 + 4 * x[:, 0] + (2 + x[:, 0]) * rng.normal(size=2400)
    recipe = Recipe(loss="pinball", loss_settings={"quantiles": [0.1, 0.5, 0.9]}, hidden=(16,), epochs=20)
    half = len(x) // 2
    result = fit_stack(x[:half], y[:half], x[half:], y[half:], seeds=[1], learning_rates=0.02, recipe=recipe)
    outputs = result.members.outputs(x[half:])[0]
    below = (torch.from_numpy(y[half:])[:, None] < outputs).float().mean(0)
    np.testing.assert_allclose(below.numpy(), [0.1, 0.5, 0.9], atol=0.04)
    narrow, wide = (outputs[:, 2] - outputs[:, 0])[torch.from_numpy(x[half:, 0]).argsort()][[0, -1]].tolist()
    assert wide > 2 * narrow
