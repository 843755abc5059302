import logging
import math
import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pipeline.core.errors import UserError
from pipeline.training.mlp.lr_finder import RangeTest, find_lr
from pipeline.training.mlp.rates import steepest
from pipeline.training.mlp.recipe import Recipe

GENERATOR = torch.Generator().manual_seed(0)
X = nn.functional.normalize(torch.randn(700, 24, generator=GENERATOR))
Y = 10 + 20 * X[:, 0] + torch.randn(700, generator=GENERATOR)
SEEDS = [21, 22, 23]


def lightning_s_test(seed, optimizer, steps, folder):
    """The same range test by Lightning's own tuner, on a model and loader that know nothing of the stack."""
    import pytorch_lightning as pl
    from pytorch_lightning.tuner import Tuner

    class Model(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.lr = 1e-3
            self.layers = nn.Sequential(
                nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1)
            )

        def training_step(self, batch, index):
            x, y = batch
            return nn.functional.mse_loss(self.layers(x)[:, 0], y)

        def configure_optimizers(self):
            kind = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad}.get(optimizer, torch.optim.SGD)
            return kind(self.parameters(), lr=self.lr)

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.manual_seed(seed)
    model = Model()
    loader = DataLoader(
        TensorDataset(X, Y), batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(seed)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            max_epochs=100,
        )
        finder = Tuner(trainer).lr_find(
            model, train_dataloaders=loader, num_training=steps, update_attr=False
        )
    return finder.results["lr"], finder.results["loss"], finder.suggestion()


@pytest.mark.parametrize("stack_size", [1, 3])
@pytest.mark.parametrize(("optimizer", "steps"), [("adam", 100), ("sgd", 100), ("adagrad", 60)])
def test_every_member_gets_lightning_s_own_curve_and_suggestion(optimizer, steps, stack_size, tmp_path):
    recipe = Recipe(optimizer=optimizer, hidden=(32, 16))
    found = find_lr(X, Y, seeds=SEEDS, recipe=recipe, steps=steps, stack_size=stack_size)
    for test in found[:2]:
        rates, losses, suggestion = lightning_s_test(test.seed, optimizer, steps, tmp_path)
        assert test.rates == pytest.approx(rates, rel=1e-9)
        assert test.losses == pytest.approx(losses, rel=1e-4)
        assert test.suggestion == pytest.approx(suggestion, rel=1e-9)


def test_a_member_s_curve_does_not_depend_on_the_others():
    together = find_lr(X, Y, seeds=SEEDS, recipe=Recipe(hidden=(32, 16)))
    (alone,) = find_lr(X, Y, seeds=[22], recipe=Recipe(hidden=(32, 16)))
    assert together[1].losses == alone.losses


def test_under_swa_the_curve_is_that_of_plain_sgd():
    swa, sgd = (
        find_lr(X, Y, seeds=[22], recipe=Recipe(optimizer=name, hidden=(16,))) for name in ("swa", "sgd")
    )
    assert swa[0].losses == sgd[0].losses


def test_a_loss_far_above_the_best_ends_the_test():
    (found,) = find_lr(X, Y, seeds=[21], recipe=Recipe(optimizer="sgd", hidden=(32, 16)), max_lr=1e4)
    assert found.stopped
    assert len(found.rates) < 100


def test_points_that_are_not_finite_are_passed_over():
    losses = [5.0 - 0.1 * k for k in range(20)]
    losses[15] = math.inf
    assert RangeTest(1, [0.01 * (k + 1) for k in range(20)], losses).suggestion is not None
    assert RangeTest(1, [0.01] * 20, [math.nan] * 20).suggestion is None


@pytest.mark.parametrize(
    ("settings", "sentence"), [({"min_lr": 1.0, "max_lr": 0.1}, "rise"), ({"steps": 12}, "12 steps")]
)
def test_a_range_that_cannot_be_tested_is_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        find_lr(X, Y, seeds=[1], **settings)


def test_the_number_of_workers_changes_no_bit_of_any_curve():
    alone, together = (find_lr(X, Y, seeds=range(30), workers=workers) for workers in (1, 4))
    assert [test.losses for test in alone] == [test.losses for test in together]


@pytest.mark.parametrize("per", ["step", "rate"])
@pytest.mark.parametrize(
    "losses",
    [
        [1.0] * 30,
        [1.0 + k for k in range(30)],
        [9.0] * 10 + [1.0, 2.0, 3.0],
        [5.0] * 12 + [math.nan] * 18,
        [math.inf] * 30,
        [],
    ],
)
def test_a_curve_that_never_falls_suggests_no_rate(losses, per):
    rates = [10.0 ** (k / 4 - 8) for k in range(len(losses))]
    assert steepest(RangeTest(seed=1, rates=rates, losses=losses), per) is None
