"""Training a classifier, on pictures of two bars and with networks of a few hundred weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.backbones.emosynthnet import EmoSynthNet
from pipeline.core.errors import UserError
from pipeline.core.seeds import derive_seed
from pipeline.training.networks import lightning as training
from pipeline.training.networks.arrays import Batches, Distortion, as_tensor, class_weights
from pipeline.training.networks.classifier import Classifier, Design
from pipeline.training.networks.classifier_fit import Loaders, fit_classifier, quiet_trainer
from pipeline.training.networks.classifier_module import ClassificationRecipe, Module
from pipeline.training.networks.classifier_runs import judge
from pipeline.training.networks.lightning import DONE
from pipeline.training.networks.loading import EpochOrder

CLASSES = ("left", "right", "none")
TINY = ClassificationRecipe(
    architecture_settings={"width": 0.02, "drop_rate": 0.0},
    loss="cross_entropy",
    epochs=3,
    batch_size=16,
    lr=0.003,
    zoom=0.0,
    shear=0.0,
    flip=False,
    second_scale_from=None,
)


def bars(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """16 x 16 pictures with a bright bar on one side, or none."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    pictures = rng.integers(0, 60, (count, 16, 16), dtype=np.uint8)
    for picture, label in zip(pictures, labels, strict=True):
        if label < 2:
            column = rng.integers(1, 5) + 8 * label
            picture[:, column : column + 3] += 180
    return pictures, labels


TRAIN, VALIDATION, TEST = bars(96, 0), bars(48, 1), bars(48, 2)


def fit(recipe=TINY, seed=1, train=TRAIN, validation=VALIDATION, **how):
    return fit_classifier(train, validation, CLASSES, recipe, seed, accelerator="cpu", **how)


@pytest.fixture(scope="module")
def trained():
    return fit(replace(TINY, epochs=8))


def test_it_learns_and_keeps_the_epoch_with_the_lowest_validation_loss(trained):
    history = trained.history
    assert history["epoch"].tolist() == list(range(1, 9))
    assert trained.best_epoch == int(history.loc[history["val_loss"].idxmin(), "epoch"])
    predicted = trained.classifier.predict(VALIDATION[0])
    right = history.set_index("epoch").loc[trained.best_epoch, "val_accuracy"]
    assert (predicted == VALIDATION[1]).mean() == pytest.approx(right), "the weights are that epoch's"
    assert (trained.classifier.predict(TEST[0]) == TEST[1]).mean() > 0.9


def test_the_same_seed_gives_the_same_history_and_another_one_does_not():
    recipe = replace(
        TINY,
        epochs=2,
        zoom=0.1,
        shear=0.1,
        flip=True,
        architecture_settings={"width": 0.02, "drop_rate": 0.3},
    )
    first, second, other = fit(recipe), fit(recipe), fit(recipe, seed=2)
    assert first.history.equals(second.history)
    assert not first.history.equals(other.history)


def test_a_run_that_was_broken_off_goes_on_to_the_same_bytes_and_tells_its_epochs(tmp_path):
    recipe = replace(
        TINY,
        epochs=4,
        lr_patience=0,
        zoom=0.1,
        flip=True,
        architecture_settings={"width": 0.02, "drop_rate": 0.3},
    )
    checkpoints = tmp_path / "checkpoints"
    wrong = (VALIDATION[0], (VALIDATION[1] + 1) % 3)  # what is learnt makes this worse: the rate falls

    def train(**how):
        return fit(recipe, validation=wrong, **how)

    def fail(row):
        if row["epoch"] == 3:
            raise RuntimeError("the power went")

    with pytest.raises(RuntimeError, match="the power went"):
        train(checkpoints=checkpoints, on_epoch=fail)
    told = []
    resumed = train(checkpoints=checkpoints, on_epoch=lambda row: told.append(row["epoch"]))
    assert told == [3, 4]
    done = train(checkpoints=checkpoints, on_epoch=lambda row: told.append(row["epoch"]))
    assert told == [3, 4], "what is done is not trained again"
    whole = train()
    assert whole.history["lr"].nunique() > 1, "the schedule was part of it"
    for number, one in enumerate((resumed, done, whole)):
        assert one.history.equals(whole.history)
        one.classifier.save(tmp_path / f"{number}")
    assert len({(tmp_path / f"{number}").read_bytes() for number in range(3)}) == 1


def test_a_run_killed_after_its_last_epoch_of_patience_trains_no_more(tmp_path):
    recipe = replace(TINY, lr_patience=0, stop_patience=2, epochs=20)
    wrong = (VALIDATION[0], (VALIDATION[1] + 1) % 3)  # what is learnt makes this worse
    first = fit(recipe, validation=wrong, checkpoints=tmp_path)
    assert len(first.history) < 20, "it stopped early"
    (tmp_path / DONE).unlink()  # as if killed before it was written
    told = []
    again = fit(recipe, validation=wrong, checkpoints=tmp_path, on_epoch=told.append)
    assert told == []
    assert again.history.equals(first.history)
    assert again.best_epoch == first.best_epoch


def test_grey_pictures_come_to_the_network_with_the_channels_last(monkeypatch):
    # In the other layout, half of EmoSynthNet's maps would be, and an epoch would take twice as long.
    seen, forward = [], EmoSynthNet.forward

    def noted(network, images):
        seen.append(images.stride())
        return forward(network, images)

    monkeypatch.setattr(EmoSynthNet, "forward", noted)
    fit(replace(TINY, epochs=1)).classifier.predict(TEST[0])
    assert set(seen) == {(256, 1, 16, 1)}


def test_checkpoints_of_other_settings_are_not_gone_on_from(tmp_path):
    recipe = replace(TINY, epochs=1)
    fit(recipe, checkpoints=tmp_path)
    other = fit(recipe, seed=2, checkpoints=tmp_path)
    assert other.history.equals(fit(recipe, seed=2).history)


def test_checkpoints_of_other_code_are_not_gone_on_from(tmp_path, monkeypatch):
    recipe = replace(TINY, epochs=1)
    fit(recipe, checkpoints=tmp_path)
    told = []
    fit(recipe, checkpoints=tmp_path, on_epoch=lambda row: told.append(row["epoch"]))
    assert told == [], "the same code"
    monkeypatch.setattr(training, "source_of", lambda *places: b"edited", raising=False)
    fit(recipe, checkpoints=tmp_path, on_epoch=lambda row: told.append(row["epoch"]))
    assert told == [1]


def test_training_leaves_the_global_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    fit(replace(TINY, epochs=1))
    assert torch.rand(1) == expected


def test_scales_go_from_255_to_512_and_the_kept_epochs_scale_is_kept():
    trained = fit(replace(TINY, epochs=4, second_scale_from=0.5))
    assert (1 / trained.history["scale"]).round().tolist() == [255, 255, 512, 512]
    assert trained.classifier.scale == trained.history["scale"][trained.best_epoch - 1]
    assert float(trained.classifier.inputs(np.full((1, 16, 16), 255, np.uint8)).max()) == pytest.approx(
        255 * trained.classifier.scale
    )


@pytest.mark.parametrize(
    "loss", ["am_softmax", "mam_softmax", "symmetric_cross_entropy", "dwb", "one_hot_mse"]
)
def test_every_kind_of_loss_trains_and_predicts(loss):
    trained = fit(replace(TINY, loss=loss, epochs=4))
    probabilities = trained.classifier.probabilities(TEST[0])
    assert probabilities.shape == (48, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    # not the loss: a margin that grows with the lead makes it harder for itself
    assert trained.history["train_accuracy"].max() > 0.7, "chance is a third"


def test_a_loss_with_class_vectors_trains_them_and_the_network_ends_in_features():
    trained = fit(replace(TINY, loss="aam_softmax", epochs=1)).classifier
    assert trained.network.num_classes == 0
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(1, "weights"))
        _, fresh = trained.design.build()
    assert fresh.inner.W.shape == trained.loss.inner.W.shape == (64, 3)
    assert not torch.equal(fresh.inner.W, trained.loss.inner.W)


def test_sgd_and_bfloat16_train_too():
    trained = fit(replace(TINY, optimizer="sgd", precision="bfloat16", epochs=2))
    assert np.isfinite(trained.history["train_loss"]).all()
    assert next(trained.classifier.network.parameters()).dtype == torch.float32


def test_any_architecture_of_timm_can_be_trained():
    settings = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}
    trained = fit(replace(TINY, architecture="resnet18", architecture_settings=settings, epochs=1))
    assert trained.classifier.features(TEST[0]).shape == (48, 8)


def test_a_plateau_lowers_the_rate_and_ends_the_training():
    recipe = replace(TINY, lr_patience=0, stop_patience=2, epochs=20)
    wrong = (VALIDATION[0], (VALIDATION[1] + 1) % 3)  # what is learnt makes this worse
    history = fit(recipe, validation=wrong).history
    assert len(history) < 20
    assert history["lr"].iloc[-1] < history["lr"].iloc[0]


def test_saved_and_loaded_it_predicts_the_same(trained, tmp_path):
    path = tmp_path / "classifier.safetensors"
    trained.classifier.save(path)
    loaded = Classifier.load(path)
    np.testing.assert_array_equal(loaded.probabilities(TEST[0]), trained.classifier.probabilities(TEST[0]))
    assert loaded.design.classes == CLASSES
    assert loaded.meta["seed"] == 1
    before = path.read_bytes()
    loaded.save(path)
    assert path.read_bytes() == before


def test_files_that_hold_no_classifier_are_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    with pytest.raises(UserError, match="does not exist"):
        Classifier.load(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match="is damaged"):
        Classifier.load(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="not what belongs here: train the classifier again"):
        Classifier.load(path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"architecture": "emosynthnot"}, "no architecture 'emosynthnot'"),
        ({"loss": "l1"}, "'l1' cannot train a classifier: choose one of cross_entropy, one_hot_mse"),
        ({"loss": "nonsense"}, "unknown loss"),
        ({"loss_settings": {"margin": 1}}, "no setting 'margin'"),
        ({"lr": 1e30}, r"the loss cross_entropy is (nan|inf) in epoch \d"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        fit(replace(TINY, **changes))


def test_labels_that_are_no_class_are_named():
    pictures, labels = bars(6, 3)
    with pytest.raises(UserError, match="training label 3 in row 2: there are classes 0 to 2"):
        fit(train=(pictures, np.array([0, 1, 3, 0, 1, 2])))
    with pytest.raises(UserError, match="no validation picture"):
        fit(validation=(pictures[:0], labels[:0]))


def test_rare_classes_weigh_more_and_absent_ones_nothing():
    assert class_weights([0, 0, 0, 1], 3).tolist() == pytest.approx([2 / 3, 2.0, 0.0])
    even = class_weights([0, 1, 1, 1], 2)
    assert float(even[0] + 3 * even[1]) == pytest.approx(4), "the mean weight of a sample is 1"


@pytest.mark.parametrize(("loss", "same"), [("class_balanced", True), ("dwb", True), ("focal", False)])
def test_a_loss_that_weighs_classes_by_itself_is_not_balanced_again(loss, same):
    rare = (TRAIN[0][:40], np.where(np.arange(40) % 10, 1, 2 * (np.arange(40) % 20 > 0)))
    histories = [
        fit(replace(TINY, loss=loss, balance=balance, epochs=1), train=rare).history
        for balance in (True, False)
    ]
    assert histories[0].equals(histories[1]) == same


def test_rare_classes_weigh_more_in_training_and_validation_pictures_count_alike():
    rows = np.flatnonzero((TRAIN[1] < 2) | (np.arange(96) % 6 == 0))  # "none" is rare
    rare = (TRAIN[0][rows], TRAIN[1][rows])
    weighted, plain = (
        fit(replace(TINY, balance=balance, epochs=2), train=rare).history for balance in (True, False)
    )
    assert weighted["train_loss"][0] != plain["train_loss"][0]
    trained = fit(replace(TINY, epochs=2), train=rare)
    kept = weighted.loc[weighted["epoch"] == trained.best_epoch, "val_loss"].item()
    assert kept == pytest.approx(judge(trained.classifier, *VALIDATION)[0]["loss"], rel=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_validation_loss_does_not_depend_on_how_pictures_are_batched(precision):
    recipe = replace(TINY, loss="symmetric_cross_entropy", epochs=1, precision=precision)
    settings, counts = dict(recipe.architecture_settings), tuple(np.bincount(TRAIN[1]).tolist())
    design = Design(recipe.architecture, settings, recipe.loss, {}, CLASSES, (16, 16, 1), counts)

    def val_loss(size):
        torch.manual_seed(0)
        module = Module(design, recipe, None, 1)
        learnt, judged = (
            Batches(as_tensor(pictures), torch.as_tensor(labels), count, seed)
            for (pictures, labels), count, seed in ((TRAIN, 16, 1), (VALIDATION, size, None))
        )
        quiet_trainer(recipe, "cpu", []).fit(module, datamodule=Loaders(learnt, judged))
        return module.val_loss

    assert [val_loss(size) for size in (5, 16)] == pytest.approx([val_loss(48)] * 2, rel=1e-5)


def test_batches_go_through_every_picture_once_in_a_new_order_each_round():
    pictures, labels = as_tensor(np.zeros((10, 4, 4), np.uint8)), torch.arange(10)
    batches = Batches(pictures, labels, 4, seed=3)
    first, second = (torch.cat([y for _, y in batches]).tolist() for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    again = Batches(pictures, labels, 4, seed=3)
    assert torch.cat([y for _, y in again]).tolist() == first
    assert [len(y) for _, y in Batches(pictures, labels, 4)] == [4, 4, 2]
    assert len(batches) == 3


def test_a_last_batch_of_one_picture_is_left_out_of_training_as_in_finetune():
    pictures, labels = as_tensor(np.zeros((33, 4, 4), np.uint8)), torch.arange(33)
    training = Batches(pictures, labels, 16, seed=3)
    rounds = [frozenset(torch.cat([y for _, y in training]).tolist()) for _ in range(6)]
    assert {len(seen) for seen in rounds} == {32}
    assert len(set(rounds)) > 3, "another one each time"
    assert len(training) == 2
    assert [len(y) for _, y in Batches(pictures, labels, 16)] == [16, 16, 1], "all are validated on"
    assert len(EpochOrder(33, 3, 16)) == 32
    history = fit(replace(TINY, epochs=1), train=(TRAIN[0][:33], TRAIN[1][:33])).history
    assert np.isfinite(history["train_loss"]).all()


def test_distortion_zooms_shears_and_flips_each_picture_by_itself():
    ramp = torch.linspace(0, 1, 9).expand(200, 1, 9, 9)
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(Distortion()(ramp, generator), ramp)
    flipped = Distortion(flip=True)(ramp, generator)
    mirrored = (flipped[:, 0, 0, 0] > 0.5).sum()
    assert 60 < int(mirrored) < 140
    zoomed = Distortion(zoom=0.2)(ramp, generator)
    spread = zoomed[:, 0, 4, 7] - zoomed[:, 0, 4, 1]
    assert float(spread.min()) == pytest.approx(0.75 * 0.8, abs=0.02)
    assert float(spread.max()) == pytest.approx(0.75 * 1.2, abs=0.02)
    sheared = Distortion(shear=0.2)(ramp, generator)
    lean = sheared[:, 0, 8, 4] - sheared[:, 0, 0, 4]
    assert float(lean.abs().max()) == pytest.approx(0.2 * 8 / 8, abs=0.02)


def test_pictures_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        as_tensor(np.zeros((2, 4, 4), np.float32))
