"""Recipes and schedules: rates as the papers write them, mistakes in one sentence."""

import pytest
import torch
from torch import nn

from pipeline.core.errors import UserError
from pipeline.training.networks.recipe import HeadRecipe, Recipe
from pipeline.training.networks.schedules import build_optimizer, build_schedule


def rates(recipe: Recipe, epochs: int, steps: int, losses: list[float] | None = None) -> list[float]:
    """The rate of every step, as training moves it."""
    optimizer = build_optimizer([{"params": [nn.Parameter(torch.zeros(1))], "lr": recipe.lr}], recipe)
    schedule = build_schedule(optimizer, recipe, epochs * steps)
    found = []
    for epoch in range(epochs):
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if schedule:
                schedule.after_step()
        if schedule:
            schedule.after_epoch(losses[epoch] if losses else 0.0)
    return found


def test_comboloss_divides_by_ten_after_every_fifty_epochs() -> None:
    recipe = Recipe(
        optimizer="sgd", lr=0.01, schedule="step", schedule_settings={"epochs": 50, "factor": 0.1}
    )
    expected = [0.01 * 0.1 ** (epoch // 50) for epoch in range(120) for _ in range(2)]
    assert rates(recipe, 120, 2) == pytest.approx(expected)


def test_unimodal_concentrated_halves_after_every_ten_thousand_steps() -> None:
    recipe = Recipe(optimizer="sgd", lr=0.01, schedule="halving", schedule_settings={"steps": 7})
    expected = [0.01 * 0.5 ** (step // 7) for step in range(20)]
    assert rates(recipe, 4, 5) == pytest.approx(expected)


def test_a_plateau_lowers_the_rate() -> None:
    recipe = Recipe(lr=1.0, schedule="plateau", schedule_settings={"patience": 1, "factor": 0.5})
    assert rates(recipe, 5, 1, [3.0, 2.0, 2.0, 2.0, 2.0]) == [1.0, 1.0, 1.0, 1.0, 0.5]


def test_one_cycle_rises_to_the_rate_and_falls_to_nearly_nothing() -> None:
    found = rates(Recipe(lr=0.1, schedule="one_cycle"), 10, 10)
    assert max(found) == pytest.approx(0.1, rel=0.01)
    assert found.index(max(found)) == pytest.approx(29, abs=2)
    assert found[-1] < 1e-4


def test_a_constant_rate_stays() -> None:
    assert rates(Recipe(lr=0.1), 2, 2) == [0.1] * 4


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="optimizer is 'lion': it must be one of sgd"):
        Recipe(optimizer="lion")
    with pytest.raises(UserError, match="frozen_epochs is 11: it must be at most epochs"):
        Recipe(frozen_epochs=11)
    with pytest.raises(UserError, match="schedule 'step' does not take the settings patience"):
        rates(Recipe(schedule="step", schedule_settings={"patience": 3}), 1, 1)
    with pytest.raises(UserError, match="activation 'sigmoid' needs a span"):
        HeadRecipe(activation="sigmoid")
    with pytest.raises(UserError, match=r"span is \[5, 5\]"):
        HeadRecipe(span=(5, 5))
