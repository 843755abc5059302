from itertools import pairwise

import pytest
import torch

from pipeline.training.mlp.swa import SWA


def run(steps, **settings):
    """Weights after each step, under gradients that change from step to step."""
    weights = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = SWA(weights, **settings)
    path = []
    for step in range(steps):
        weights.grad = torch.tensor([1.0 + step, -0.5], dtype=torch.float64)
        optimizer.step()
        path.append(weights.detach().clone())
    return optimizer, path


def test_the_average_is_that_of_the_steps_after_the_start_that_the_frequency_divides():
    optimizer, path = run(23, lr=1e-3, swa_start=10, swa_freq=5, swa_lr=0.05)
    torch.testing.assert_close(optimizer.averaged, (path[14] + path[19]) / 2)


def test_the_start_itself_is_not_averaged_and_until_then_the_weights_stand():
    optimizer, path = run(10, lr=1e-3, swa_start=10, swa_freq=5)
    assert torch.equal(optimizer.averaged, path[-1])


def test_the_averaging_rate_takes_over_after_the_start():
    _, path = run(6, lr=1e-3, swa_start=4, swa_freq=2, swa_lr=0.05)
    moved = [float((b - a)[1].abs()) for a, b in pairwise(path)]
    assert moved == pytest.approx([0.5e-3] * 3 + [0.025] * 2)


def test_a_cycle_falls_to_its_lowest_rate_where_it_is_averaged():
    _, path = run(9, lr=1e-3, swa_start=0, swa_freq=3, swa_lr=0.4, swa_lr_min=0.1)
    start = torch.tensor([1.0, -2.0], dtype=torch.float64)
    rates = [float((b - a)[1] / 0.5) for a, b in zip([start, *path], path, strict=False)]
    assert rates == pytest.approx([0.3, 0.2, 0.1] * 3)


def test_without_an_averaging_rate_a_scheduler_steers_and_a_cycle_does_not_drift():
    optimizer, _ = run(7, lr=0.2, swa_start=0, swa_freq=3, swa_lr=None, swa_lr_min=0.05)
    assert optimizer.param_groups[0]["lr"] == 0.2
