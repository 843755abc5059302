"""Member k of a stack is the same seed trained alone by a plain PyTorch program, which this file holds."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pipeline.training.mlp.fit import fit_stack
from pipeline.training.mlp.recipe import Recipe

SEEDS = [11, 12, 13, 14]
RATES = {
    "adam": [1e-3, 3e-3, 1e-4, 2e-3],
    "adagrad": [1e-2, 3e-2, 1e-3, 2e-2],
    "sgd": [1e-2, 3e-3, 1e-3, 5e-3],
    "swa": [1e-2, 3e-3, 1e-3, 5e-3],
}


def make_faces(count, seed, width=32):
    generator = torch.Generator().manual_seed(seed)
    x = nn.functional.normalize(torch.randn(count, width, generator=generator))
    y = 9 + 20 * x[:, 0] + 10 * x[:, 1].abs() + torch.randn(count, generator=generator)
    return x, y


TRAIN, VALIDATION = make_faces(150, 1), make_faces(80, 2)


class TrainedAlone:
    """The obvious program: nn.Sequential, DataLoader, torch.optim, a scheduler, an early stop."""

    def __init__(
        self, seed, rate, optimizer, epochs, hidden=(32, 16), lr_patience=5, stop_patience=10, **more
    ):
        torch.manual_seed(seed)
        widths = [TRAIN[0].shape[1], *hidden]
        layers = []
        for i in range(len(hidden)):
            layers += [nn.Linear(widths[i], widths[i + 1]), nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.Linear(widths[-1], 1))
        self.optimizer_name = optimizer
        self.more = more
        self.make_optimizer(rate)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer, patience=lr_patience, factor=0.1
        )
        loader = DataLoader(
            TensorDataset(*TRAIN), batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(seed)
        )
        self.steps, self.snapshots, self.val_losses, self.rates = 0, [], [], []
        best, waited = math.inf, 0
        for _ in range(epochs):
            for x, y in loader:
                self.train_batch(x, y)
            self.rates.append(self.optimizer.param_groups[0]["lr"])
            val_loss = self.validate()
            self.val_losses.append(val_loss)
            scheduler.step(val_loss)
            if val_loss < best:
                best, waited, self.best = val_loss, 0, copy.deepcopy(self.final_model())
            else:
                waited += 1
            if waited >= stop_patience:
                break

    def make_optimizer(self, rate):
        parameters = self.model.parameters()
        if self.optimizer_name == "adam":
            self.optimizer = torch.optim.Adam(
                parameters, lr=rate, weight_decay=self.more.get("weight_decay", 0)
            )
        elif self.optimizer_name == "adagrad":
            self.optimizer = torch.optim.Adagrad(parameters, lr=rate)
        else:
            self.optimizer = torch.optim.SGD(parameters, lr=rate, momentum=self.more.get("momentum", 0))

    def train_batch(self, x, y):
        if self.optimizer_name == "swa" and self.steps >= 10 and self.more["swa_lr"]:
            self.optimizer.param_groups[0]["lr"] = self.more["swa_lr"]
        self.optimizer.zero_grad()
        nn.functional.mse_loss(self.model(x)[:, 0], y).backward()
        self.optimizer.step()
        self.steps += 1
        if self.optimizer_name == "swa" and self.steps > 10 and self.steps % 5 == 0:
            self.snapshots.append([p.detach().double() for p in copy.deepcopy(self.model).parameters()])

    def final_model(self):
        if not self.snapshots:
            return self.model
        model = copy.deepcopy(self.model)
        with torch.no_grad():
            for i, parameter in enumerate(model.parameters()):
                parameter.copy_(torch.stack([snapshot[i] for snapshot in self.snapshots]).mean(0))
        return model

    @torch.no_grad()
    def validate(self):
        x, y = VALIDATION
        return float(((self.final_model()(x)[:, 0] - y) ** 2).mean())

    @torch.no_grad()
    def predict(self, x):
        return self.best(x)[:, 0]


def fit(seeds, rates, **recipe):
    recipe = {"hidden": (32, 16), "batch_size": 32, **recipe}
    recipe.setdefault("swa_lr", 0.01)
    more = {key: recipe.pop(key) for key in ("stack_size", "workers") if key in recipe}
    return fit_stack(*TRAIN, *VALIDATION, seeds=seeds, learning_rates=rates, recipe=Recipe(**recipe), **more)


def assert_same(result, alone):
    predicted = result.members.predict(VALIDATION[0])
    for k, single in enumerate(alone):
        history = [record for record in result.history if record.member == k]
        assert [record.learning_rate for record in history] == pytest.approx(single.rates, rel=1e-12)
        assert [record.val_loss for record in history] == pytest.approx(single.val_losses, rel=1e-5)
        assert result.scores[k].epochs == len(single.rates)
        torch.testing.assert_close(predicted[k], single.predict(VALIDATION[0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stack_size", [1, 4])
@pytest.mark.parametrize("optimizer", RATES)
def test_a_member_equals_the_same_seed_trained_alone_after_five_epochs(optimizer, stack_size):
    result = fit(SEEDS, RATES[optimizer], optimizer=optimizer, epochs=5, stack_size=stack_size)
    alone = [
        TrainedAlone(seed, rate, optimizer, 5, swa_lr=0.01)
        for seed, rate in zip(SEEDS, RATES[optimizer], strict=True)
    ]
    assert_same(result, alone)


@pytest.mark.parametrize("stack_size", [1, 4])
@pytest.mark.parametrize("optimizer", RATES)
def test_equality_holds_through_plateaus_and_early_stops(optimizer, stack_size):
    # SWA's own rate would hide plateaus and averages hardly ever get worse: None lets the schedule act
    patience = {"lr_patience": 0, "stop_patience": 2}
    rates = [10 * rate for rate in RATES[optimizer]]
    more = {"swa_lr": None}
    result = fit(SEEDS, rates, optimizer=optimizer, epochs=40, stack_size=stack_size, **patience, **more)
    alone = [
        TrainedAlone(seed, rate, optimizer, 40, **patience, **more)
        for seed, rate in zip(SEEDS, rates, strict=True)
    ]
    assert any(single.rates[-1] < single.rates[0] for single in alone), "the case must contain a plateau"
    stops = {len(single.rates) for single in alone}
    assert min(stops) < 40, "the case must contain an early stop"
    assert len(stops) > 1, "members must stop at different epochs"
    assert_same(result, alone)


def test_equality_holds_at_the_full_size_of_the_network():
    hidden = (512, 256, 128)
    result = fit([5], [1e-4], epochs=5, hidden=hidden)
    assert_same(result, [TrainedAlone(5, 1e-4, "adam", 5, hidden=hidden)])


@pytest.mark.parametrize(
    ("optimizer", "more"), [("adam", {"weight_decay": 0.01}), ("sgd", {"momentum": 0.9})]
)
def test_equality_holds_with_weight_decay_and_momentum(optimizer, more):
    result = fit(SEEDS[:1], RATES[optimizer][:1], optimizer=optimizer, epochs=5, **more)
    assert_same(result, [TrainedAlone(SEEDS[0], RATES[optimizer][0], optimizer, 5, **more)])


@pytest.mark.parametrize("optimizer", RATES)
def test_a_member_is_bit_for_bit_the_same_in_any_company_and_on_any_number_of_workers(optimizer):
    recipe = {"optimizer": optimizer, "epochs": 4, "hidden": (70, 33), "dropout": 0.2}
    rates = RATES[optimizer]
    together = fit(SEEDS, rates, workers=3, **recipe)
    backwards = fit(SEEDS[::-1], rates[::-1], workers=1, **recipe)
    for k, (seed, rate) in enumerate(zip(SEEDS, rates, strict=True)):
        alone = fit([seed], [rate], **recipe)
        assert torch.equal(together.members.rows[k], alone.members.rows[0])
        assert torch.equal(together.members.rows[k], backwards.members.rows[len(SEEDS) - 1 - k])


def test_a_batched_stack_gives_the_numbers_of_single_members():
    recipe = {"epochs": 5, "dropout": 0.3, "stop_patience": 1}
    single = fit(SEEDS, RATES["adam"], stack_size=1, **recipe)
    batched = fit(SEEDS, RATES["adam"], stack_size=3, **recipe)
    torch.testing.assert_close(batched.members.rows, single.members.rows, rtol=1e-5, atol=1e-6)
    assert [score.epochs for score in batched.scores] == [score.epochs for score in single.scores]
