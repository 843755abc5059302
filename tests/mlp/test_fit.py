import math

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.core.errors import UserError
from pipeline.training.mlp.fit import fit_stack
from pipeline.training.mlp.recipe import Recipe


def make_faces(count, seed, width=16):
    generator = torch.Generator().manual_seed(seed)
    x = nn.functional.normalize(torch.randn(count, width, generator=generator))
    return x, (10 + 15 * x[:, 0]).round().clamp(1, 18)


TRAIN, VALIDATION = make_faces(200, 1), make_faces(90, 2)


def fit(
    seeds=(1, 2, 3), rates=3e-3, on_epoch=None, stack_size=None, train_weight=None, device="cpu", **recipe
):
    return fit_stack(
        *TRAIN,
        *VALIDATION,
        seeds=seeds,
        learning_rates=rates,
        recipe=Recipe(**{"hidden": (16, 8), "epochs": 6, "batch_size": 32, **recipe}),
        on_epoch=on_epoch,
        stack_size=stack_size,
        train_weight=train_weight,
        device=device,
    )


@pytest.mark.parametrize("stack_size", [1, 3])
def test_a_diverged_member_is_marked_and_changes_nobody_else(stack_size):
    healthy = fit(seeds=[1, 3], rates=[1e-2, 1e-2], optimizer="sgd", stack_size=stack_size)
    mixed = fit(seeds=[1, 2, 3], rates=[1e-2, 1e6, 1e-2], optimizer="sgd", stack_size=stack_size)
    assert [score.diverged for score in mixed.scores] == [False, True, False]
    lost = mixed.scores[1]
    assert lost.epochs == 1
    assert lost.best_epoch == 0
    assert math.isnan(lost.val_loss)
    assert mixed.members.rows.isfinite().all(), "no NaN may reach a file"
    torch.testing.assert_close(mixed.members.rows[[0, 2]], healthy.members.rows)


def test_a_member_that_diverges_late_keeps_its_best_epoch():
    def poison(records):
        if records[0].epoch == 2:
            target[0] = math.inf

    x, target = TRAIN[0], TRAIN[1].clone()
    result = fit_stack(
        x,
        target,
        *VALIDATION,
        seeds=[1],
        learning_rates=1e-2,
        recipe=Recipe(hidden=(8,), epochs=5),
        on_epoch=poison,
    )
    (score,) = result.scores
    assert score.diverged
    assert score.epochs == 3
    assert 1 <= score.best_epoch <= 2
    assert math.isfinite(score.val_loss)


def test_the_weights_kept_are_those_of_the_best_validation_epoch():
    # targets that have nothing to do with the vectors: after the mean is learnt it only gets worse
    x, y = VALIDATION[0], VALIDATION[1].flip(0)
    recipe = Recipe(hidden=(16, 8), epochs=15, stop_patience=15)
    result = fit_stack(*TRAIN, x, y, seeds=[1, 2, 3], learning_rates=0.05, recipe=recipe)
    for score in result.scores:
        losses = [record.val_loss for record in result.history if record.member == score.member]
        assert score.val_loss == min(losses)
        assert score.best_epoch == 1 + losses.index(min(losses))
        assert score.best_epoch < len(losses), "the last epoch must not be the best in this case"
        predicted = result.members.predict(x)[score.member]
        assert float((predicted - y).square().mean()) == pytest.approx(score.val_loss, rel=1e-6)
        assert float((predicted - y).abs().mean()) == pytest.approx(score.val_mae, rel=1e-6)


@pytest.mark.parametrize("stack_size", [1, 3])
def test_members_named_by_the_callback_are_pruned_and_leave(stack_size):
    seen = []

    def prune(records):
        seen.append([record.member for record in records])
        return [1] if records[0].epoch == 2 else None

    result = fit(on_epoch=prune, epochs=4, stack_size=stack_size)
    assert seen == [[0, 1, 2], [0, 1, 2], [0, 2], [0, 2]]
    assert [score.outcome for score in result.scores] == ["all epochs", "pruned", "all epochs"]
    unpruned = fit(epochs=4, stack_size=stack_size)
    assert torch.equal(result.members.rows[2], unpruned.members.rows[2])


def test_an_exception_in_the_callback_ends_the_training():
    def fail(records):
        raise RuntimeError("stop here")

    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="stop here"):
        fit(on_epoch=fail)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("loss", "settings"),
    [
        ("l1", {}),
        ("log_cosh", {}),
        ("poisson", {}),
        ("softmax", {}),
        ("dldl_v2", {}),
        ("mean_variance", {}),
        ("unimodal_concentrated", {"unimodal_weight": 10.0}),
    ],
)
def test_any_loss_by_name_learns(loss, settings):
    result = fit(seeds=[4], rates=1e-2, loss=loss, loss_settings=settings, epochs=40)
    constant = float((VALIDATION[1] - VALIDATION[1].median()).abs().mean())
    assert result.scores[0].val_mae < 0.5 * constant, "must beat the median predictor clearly"


def test_labels_left_to_the_targets_are_whole_numbers_from_lowest_to_highest():
    result = fit(seeds=[4], loss="dldl_v2", epochs=1)
    targets = torch.cat([TRAIN[1], VALIDATION[1]])
    expected = list(range(int(targets.min()), int(targets.max()) + 1))
    assert result.members.loss_settings["labels"] == expected
    assert result.members.outputs(VALIDATION[0]).shape == (1, 90, len(expected))


def test_the_global_random_state_is_neither_used_nor_changed():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = fit(dropout=0.3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(fit(dropout=0.3).members.rows, first.members.rows)


def test_weights_move_the_prediction_to_the_weighted_mean():
    # vectors that say nothing leave a network nothing but the mean to learn
    x, y = torch.ones(64, 2), torch.tensor([0.0, 10.0] * 32)
    weight = torch.where(y > 5, 3.0, 1.0)
    recipe = Recipe(hidden=(8,), epochs=300, batch_size=64, lr_patience=300, stop_patience=300)
    means = [
        fit_stack(x, y, x, y, seeds=[1], learning_rates=0.05, recipe=recipe, train_weight=w)
        .history[-1]
        .train_loss
        for w in (None, torch.full((64,), 2.0), weight)
    ]
    assert means == pytest.approx([25.0, 25.0, 0.75 * 0.25 * 100], rel=0.01)


def test_only_the_ratios_of_weights_matter():
    weight = torch.linspace(0.5, 3.0, len(TRAIN[1]))
    recipe = Recipe(hidden=(16, 8), epochs=2, batch_size=32)
    rows = [
        fit_stack(
            *TRAIN, *VALIDATION, seeds=[1], learning_rates=3e-3, recipe=recipe, train_weight=scale * weight
        ).members.rows
        for scale in (1.0, 1024.0)
    ]
    assert torch.equal(*rows)


def test_standardisation_is_learnt_on_training_faces_and_kept_with_the_members():
    shift, scale = 50.0, 7.0
    result = fit_stack(
        TRAIN[0] * scale + shift,
        TRAIN[1],
        VALIDATION[0] * scale + shift,
        VALIDATION[1],
        seeds=[1],
        learning_rates=3e-3,
        recipe=Recipe(hidden=(16, 8), epochs=6, standardise=True),
    )
    plain = fit(seeds=[1], standardise=True, batch_size=64)
    learnt = result.members.standardisation
    torch.testing.assert_close(learnt.mean, (TRAIN[0] * scale + shift).mean(0))
    a = result.members.predict(VALIDATION[0] * scale + shift)
    torch.testing.assert_close(a, plain.members.predict(VALIDATION[0]), rtol=1e-3, atol=1e-3)


def test_a_coordinate_that_never_changes_survives_standardisation():
    x = torch.cat([TRAIN[0], torch.ones(200, 1)], 1)
    result = fit_stack(
        x,
        TRAIN[1],
        x,
        TRAIN[1],
        seeds=[1],
        learning_rates=1e-3,
        recipe=Recipe(hidden=(8,), epochs=2, standardise=True),
    )
    assert result.scores[0].outcome == "all epochs"


def test_bfloat16_ends_near_float32():
    exact, rough = fit(epochs=20), fit(epochs=20, precision="bfloat16")
    for a, b in zip(exact.scores, rough.scores, strict=True):
        assert b.val_mae == pytest.approx(a.val_mae, rel=0.1)
        assert b.val_mae != a.val_mae


def test_dropout_is_off_when_predicting():
    members = fit(seeds=[1], dropout=0.5).members
    assert torch.equal(members.predict(VALIDATION[0]), members.predict(VALIDATION[0]))


def test_arrays_and_tensors_give_the_same():
    arrays = fit_stack(
        TRAIN[0].numpy().astype(np.float64),
        TRAIN[1].numpy().astype(np.int64),
        *(part.numpy() for part in VALIDATION),
        seeds=[1],
        learning_rates=[3e-3],
        recipe=Recipe(hidden=(16, 8), epochs=6, batch_size=32),
    )
    assert torch.equal(arrays.members.rows, fit(seeds=[1]).members.rows)


def broken(x=None, y=None, row=None):
    vectors, targets = TRAIN[0].clone(), TRAIN[1].clone()
    if x is not None:
        vectors[row] = x
    if y is not None:
        targets[row] = y
    return vectors, targets


@pytest.mark.parametrize(
    ("train", "settings", "sentence"),
    [
        (broken(x=math.nan, row=7), {}, "training vector in row 7"),
        (broken(y=math.nan, row=9), {}, "target nan in row 9"),
        ((TRAIN[0], TRAIN[1][:-1]), {}, "200 vectors, but targets of shape"),
        ((TRAIN[0][:, :-1], TRAIN[1]), {}, "15 wide, validation vectors 16"),
        ((TRAIN[0][:0], TRAIN[1][:0]), {}, "not empty"),
        (TRAIN, {"seeds": []}, "no seeds"),
        (TRAIN, {"learning_rates": [1e-3]}, "2 seeds, but 1 learning rates"),
        (TRAIN, {"learning_rates": [1e-3, -1.0]}, r"learning rate -1\.0"),
        (TRAIN, {"train_weight": torch.zeros(200)}, "target 0 in row 0|weight"),
        (TRAIN, {"recipe": Recipe(loss="mape")}, "percentage"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_in_one_sentence(train, settings, sentence):
    zeroed = (train[0], train[1] * 0) if settings.get("recipe") else train
    arguments = {"seeds": [1, 2], "learning_rates": 1e-3, **settings}
    with pytest.raises(UserError, match=sentence):
        fit_stack(*zeroed, *VALIDATION, **arguments)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("batch_size", 0), ("dropout", 1.0), ("lr_factor", 1.0), ("hidden", (4, 0)), ("swa_lr", 0.0)],
)
def test_a_setting_out_of_range_is_named(setting, value):
    with pytest.raises(UserError, match=f"{setting} is"):
        Recipe(**{setting: value})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_an_accelerator_gives_the_numbers_of_the_cpu():
    here, there = fit(epochs=3), fit(epochs=3, device="cuda")
    torch.testing.assert_close(there.members.rows, here.members.rows, rtol=1e-3, atol=1e-4)
