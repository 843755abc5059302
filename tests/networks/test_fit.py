"""Training: it learns, resumes to the same bytes, and stops where a loss is no number."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline import losses
from pipeline.augmentation.transforms import Augmentation
from pipeline.backbones.trunks import Trunk
from pipeline.core.errors import UserError
from pipeline.losses.base import Loss
from pipeline.training.networks.criterion import Criterion
from pipeline.training.networks.fit import Fitted, Material, fit_network
from pipeline.training.networks.heads import ComboHead, DistributionHead, ValueHead
from pipeline.training.networks.lightning import DONE, LAST
from pipeline.training.networks.loading import Faces
from pipeline.training.networks.module import Row
from pipeline.training.networks.network import FaceNetwork, Head
from pipeline.training.networks.recipe import Machine, Recipe

SIZE = 12
ALONE = Machine(accelerator="cpu", threads=1, loaders=0)


class Tiny(Trunk):
    """Two convolutions with what can go wrong in a resumed run: batch normalisation and dropout."""

    width = 8

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3),
            nn.ReLU(),
            nn.Dropout(0.2),
        )

    def maps(self, pixels: Tensor) -> Tensor:
        maps: Tensor = self.layers(pixels.float() / 255)
        return maps

    def pool(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3))


def faces(count: int, seed: int) -> Faces:
    """Grey pictures whose brightness is their target."""
    rng = np.random.default_rng(seed)
    values = rng.integers(20, 80, count)
    pixels = np.clip(values[:, None, None, None] * 3 + rng.integers(0, 9, (count, SIZE, SIZE, 3)), 0, 255)
    targets = torch.tensor(values, dtype=torch.float32).unsqueeze(1)
    return Faces(pixels.astype(np.uint8), targets, torch.ones(count))


MATERIAL = Material(
    faces(70, 1), faces(20, 2), SIZE, Augmentation([("flip", {}), ("affine", {"degrees": 5.0})], SIZE)
)
RECIPE = Recipe(lr=0.01, batch_size=16, epochs=4)


def network(seed: int = 0) -> FaceNetwork:
    torch.manual_seed(seed)
    mean, spread = [50.0], [17.0]
    return FaceNetwork(Tiny(), ValueHead(8, centre=mean, spread=spread))


def trained(folder: Path, recipe: Recipe = RECIPE, **changes: Any) -> Fitted:
    settings: dict[str, Any] = {
        "network": network(),
        "criterion": Criterion(losses.build("mse")),
        "material": MATERIAL,
        "seed": 5,
        "checkpoints": folder / "checkpoints",
        "machine": ALONE,
        **changes,
    }
    return fit_network(recipe=recipe, **settings)


def weights(fitted: Fitted) -> dict[str, bytes]:
    return {name: t.numpy().tobytes() for name, t in fitted.network.state_dict().items()}


@torch.no_grad()
def validation_error(fitted: Fitted) -> float:
    output = fitted.network(torch.from_numpy(MATERIAL.validation.pixels).permute(0, 3, 1, 2))
    return float((output - MATERIAL.validation.targets[:, 0]).abs().mean())


class Killed(BaseException):
    """As sudden as a signal."""


def interrupted(folder: Path, after: int, recipe: Recipe, **changes: Any) -> None:
    """Train, and be killed in the step after some epochs."""

    def kill(row: Row) -> None:
        if row["epoch"] == after + 1:
            raise Killed

    with pytest.raises(Killed):
        trained(folder, recipe, on_epoch=kill, **changes)


def test_it_learns(tmp_path: Path) -> None:
    fitted = trained(tmp_path, replace(RECIPE, epochs=15))
    errors = [float(row["val_mae"]) for row in fitted.history]
    assert errors[0] > 6
    assert min(errors) < 4
    assert fitted.best_epoch == 1 + errors.index(min(errors))
    assert validation_error(fitted) == pytest.approx(min(errors), rel=1e-5), "the best weights were kept"


def test_the_last_weights_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    fitted = trained(tmp_path, replace(RECIPE, choose="last", lr=0.1))
    assert validation_error(fitted) == pytest.approx(float(fitted.history[-1]["val_mae"]), rel=1e-5)
    assert fitted.best_epoch == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "plateau", "schedule_settings": {"patience": 0, "factor": 0.5}, "lr": 0.05},
        {"schedule": "one_cycle", "frozen_epochs": 2},
        {
            "schedule": "step",
            "schedule_settings": {"epochs": 2},
            "optimizer": "sgd",
            "lr": 1e-4,
            "momentum": 0.9,
        },
        {"schedule": "halving", "schedule_settings": {"steps": 3}, "precision": "bfloat16", "clip": 1.0},
        {"stop_patience": 2, "lr": 0.2, "optimizer": "adam", "weight_decay": 0.01, "epochs": 8},
    ],
    ids=lambda changes: "-".join(map(str, changes.values()))[:24],
)
def test_a_killed_run_goes_on_to_the_same_weights_and_history(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    recipe = replace(RECIPE, **{"epochs": 5, **changes})
    beside = replace(ALONE, loaders=1)
    whole = trained(tmp_path / "a", recipe)
    interrupted(tmp_path / "b", 2, recipe, machine=beside)
    assert (tmp_path / "b" / "checkpoints" / LAST).exists()
    seen: list[Row] = []
    resumed = trained(tmp_path / "b", recipe, network=network(9), on_epoch=seen.append, machine=beside)
    assert seen[0]["epoch"] == 3, "the first two epochs are not trained again"
    assert resumed.history == whole.history
    assert resumed.best_epoch == whole.best_epoch
    assert weights(resumed) == weights(whole)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    recipe = replace(RECIPE, stop_patience=1, lr=0.2, epochs=20)
    first = trained(tmp_path, recipe)
    assert len(first.history) < 20, "it stopped early"
    seen: list[Row] = []
    again = trained(tmp_path, recipe, network=network(9), on_epoch=seen.append)
    assert not seen
    assert (again.history, weights(again)) == (first.history, weights(first))


def test_a_run_killed_after_its_last_epoch_of_patience_trains_no_more(tmp_path: Path) -> None:
    recipe = replace(RECIPE, stop_patience=1, lr=0.2, epochs=20)
    first = trained(tmp_path, recipe)
    assert len(first.history) < 20, "it stopped early"
    (tmp_path / "checkpoints" / DONE).unlink()  # as if killed before it was written
    seen: list[Row] = []
    again = trained(tmp_path, recipe, network=network(9), on_epoch=seen.append)
    assert not seen
    assert (again.history, weights(again)) == (first.history, weights(first))


def test_any_number_of_loading_processes_gives_the_same_weights(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=2)
    alone = trained(tmp_path / "a", recipe)
    beside = trained(tmp_path / "b", recipe, machine=replace(ALONE, loaders=2))
    assert weights(beside) == weights(alone)
    assert weights(trained(tmp_path / "c", recipe, seed=6)) != weights(alone)


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_not_used(tmp_path: Path) -> None:
    expected = trained(tmp_path / "a", replace(RECIPE, epochs=3))
    folder = tmp_path / "b"
    interrupted(folder, 2, replace(RECIPE, lr=0.5), identity="another rate")
    assert weights(trained(folder, replace(RECIPE, epochs=3), identity="this one")) == weights(expected)
    interrupted(folder, 2, RECIPE)
    last = folder / "checkpoints" / LAST
    last.write_bytes(last.read_bytes()[:1000])
    assert weights(trained(folder, replace(RECIPE, epochs=3))) == weights(expected)


class Breaking(Loss):
    """A squared error that is no number from its fifth batch on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        self.calls += self.training
        return (output - target).square() * (float("nan") if self.calls >= 7 else 1.0)


def test_a_loss_that_is_no_number_ends_the_run_in_a_sentence_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^Breaking became nan in epoch 2, step 7: lower the learning rate$"):
        trained(tmp_path, criterion=Criterion(Breaking()))


def test_weights_that_became_no_numbers_in_the_last_step_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"MSELoss became .* in epoch 1, on validation faces"):
        trained(tmp_path, replace(RECIPE, lr=1e38, epochs=1, batch_size=70, optimizer="sgd"))


def test_a_frozen_backbone_stays_as_it_is_to_the_last_bit(tmp_path: Path) -> None:
    before = {name: t.clone() for name, t in network().trunk.state_dict().items()}
    recipe = replace(RECIPE, epochs=2, frozen_epochs=2, weight_decay=0.1)
    fitted = trained(tmp_path / "a", recipe)
    for name, tensor in fitted.network.trunk.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert [row["phase"] for row in fitted.history] == ["head", "head"]
    thawed = trained(tmp_path / "b", replace(recipe, frozen_epochs=1, choose="last"))
    assert [row["phase"] for row in thawed.history] == ["head", "all"]
    assert not torch.equal(thawed.network.trunk.state_dict()["layers.0.weight"], before["layers.0.weight"])


def test_the_backbone_learns_at_a_rate_of_its_own(tmp_path: Path) -> None:
    before = network().trunk.state_dict()["layers.0.weight"].clone()
    recipe = replace(RECIPE, epochs=1, optimizer="sgd", lr=1e-4, choose="last")

    def moved(factor: float, folder: str) -> float:
        fitted = trained(tmp_path / folder, replace(recipe, backbone_factor=factor))
        return float((fitted.network.trunk.state_dict()["layers.0.weight"] - before).norm())

    assert moved(0.0, "a") == 0
    assert 0 < moved(0.01, "b") < moved(1.0, "c") / 20


def test_weighted_faces_count_by_their_weight(tmp_path: Path) -> None:
    # Half of the faces are labelled 30 too high; with hardly any weight they hardly matter.
    wrong = torch.arange(70) % 2 == 0
    targets = MATERIAL.train.targets + 30 * wrong.unsqueeze(1)

    def error(weight: float, folder: str) -> float:
        weighing = torch.where(wrong, weight, 1.0)
        material = replace(MATERIAL, train=replace(MATERIAL.train, targets=targets, weights=weighing))
        return validation_error(trained(tmp_path / folder, replace(RECIPE, epochs=15), material=material))

    assert error(1e-3, "a") < 6
    assert error(1.0, "b") > 9


@pytest.mark.parametrize(
    ("loss", "head"),
    [
        ("corn", DistributionHead(8, 99)),
        ("symmetric_cross_entropy", DistributionHead(8, 100)),
        ("combo", ComboHead(8, 100)),
    ],
    ids=["corn", "symmetric_cross_entropy", "combo"],
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_validation_loss_does_not_depend_on_the_batch_size(
    tmp_path: Path, loss: str, head: Head, precision: str
) -> None:
    settings = {"labels": 100} if loss in ("corn", "combo") else {}
    criterion = Criterion(losses.build(loss, **settings))
    torch.manual_seed(0)
    start = FaceNetwork(Tiny(), head)
    recipe = replace(RECIPE, epochs=1, frozen_epochs=1, lr=1e-12, precision=precision)

    def measured(size: int, devices: int = 1) -> tuple[float, float]:
        fitted = trained(
            tmp_path / f"{size}-{devices}",
            replace(recipe, batch_size=size),
            network=deepcopy(start),
            criterion=criterion,
            machine=replace(ALONE, devices=devices),
            material=replace(MATERIAL, validation=faces(21, 2)),
        )
        return float(fitted.history[0]["val_loss"]), float(fitted.history[0]["val_mae"])

    expected = measured(5)
    for size in (8, 70):
        assert measured(size) == pytest.approx(expected, rel=1e-5)
    if loss == "corn" and precision == "float32":
        assert measured(10, devices=2) == pytest.approx(expected, rel=1e-5), "one device has one face less"


def test_two_devices_share_the_work(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=3, frozen_epochs=1)
    fitted = trained(tmp_path, recipe, machine=replace(ALONE, devices=2))
    assert len(fitted.history) == 3
    assert validation_error(fitted) == pytest.approx(
        min(float(row["val_mae"]) for row in fitted.history), rel=1e-4
    )
