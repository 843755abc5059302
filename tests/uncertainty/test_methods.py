"""Ensembles, SWAG, quantile networks and views: what they say, and that nothing else decides it."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.core.errors import UserError
from pipeline.core.tables import vector_type, vectors_of
from pipeline.training.mlp.fit import fit_stack
from pipeline.training.mlp.material import material_of
from pipeline.training.mlp.members import Members
from pipeline.training.mlp.recipe import Recipe
from pipeline.training.mlp.runs import score_table
from pipeline.uncertainty.conformal import Groups
from pipeline.uncertainty.methods import (
    Method,
    of_members,
    of_quantiles,
    of_views,
    outputs_of,
    predicted,
    probabilities_for,
)
from pipeline.uncertainty.of_a_run import calibrated_run, chosen_members, trained_methods, views_said
from pipeline.uncertainty.swag import Trajectory, swag

WIDTH = 5
RECIPE = Recipe(hidden=(8,), epochs=6, batch_size=16)
SWAG = {"members": 1, "lr": 1e-3, "momentum": 0.9, "epochs": 5, "rank": 3, "samples": 6}
QUANTILE = {"seeds": 2, "lr": 0.02}


def face_table(count: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    target = rng.integers(5, 40, count).astype(float)
    x = rng.normal(size=(count, WIDTH)).astype(np.float32)
    x[:, 0] += (target - 20) / 6
    return pa.table(
        {
            "face_id": [f"{seed}-{number:04d}" for number in range(count)],
            "target": target,
            "split": [("train", "train", "validation", "test")[number % 4] for number in range(count)],
            "gender": [("f", "m")[number // 4 % 2] for number in range(count)],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), type=vector_type(WIDTH)),
        }
    )


FACES = face_table(240, 1)
MATERIAL = material_of(FACES, FACES.slice(0, 0).append_column("parent_id", FACES.slice(0, 0)["face_id"]))


def run(recipe: Recipe = RECIPE, seeds: tuple[int, ...] = (1, 2, 3)) -> tuple[Members, pa.Table]:
    m = MATERIAL
    result = fit_stack(
        m.train_x, m.train_y, m.val_x, m.val_y, seeds=seeds, learning_rates=0.02, recipe=recipe, workers=1
    )
    rates = pa.table({"origin": ["fixed"] * len(seeds)})
    return result.members, score_table(
        result, rates, result.members.predict(vectors_of(FACES)).numpy(), FACES
    )


@pytest.fixture(scope="module")
def trained() -> tuple[Members, pa.Table]:
    return run()


def test_an_ensemble_is_the_mean_and_the_sample_deviation_of_its_members(
    trained: tuple[Members, pa.Table],
) -> None:
    members, _ = trained
    x = vectors_of(FACES)
    said = predicted(members, x)
    plain = members.predict(x).double().numpy()
    np.testing.assert_allclose(said.mean, plain.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(said.spread, plain.std(axis=0, ddof=1), rtol=1e-3)
    alone = replace(members, rows=members.rows[[1]], seeds=(2,))
    assert (predicted(alone, x).spread == 0).all()


def test_a_faces_numbers_depend_on_no_other_face_and_on_no_thread(trained: tuple[Members, pa.Table]) -> None:
    members, _ = trained
    x = np.tile(vectors_of(FACES), (6, 1))
    everything = outputs_of(members, x, workers=2)
    for rows in (slice(0, 1), slice(3, 40), slice(1100, 1400)):
        part = outputs_of(members, x[rows], workers=1)
        assert torch.equal(part, everything[:, rows])
    with pytest.raises(UserError, match="there is no vector"):
        outputs_of(members, x[:0])
    with pytest.raises(UserError, match="vectors are 4 wide, the model takes 5"):
        outputs_of(members, x[:, :4])


def test_quantile_networks_are_averaged_by_quantile() -> None:
    recipe = replace(RECIPE, loss="pinball", loss_settings={"quantiles": [0.1, 0.5, 0.9]})
    members, _ = run(recipe)
    x = vectors_of(FACES)
    said = predicted(members, x)
    each = [member.sort(-1).values.double().numpy() for member in members.outputs(x)]
    np.testing.assert_allclose(said.quantiles, np.mean(each, axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(said.mean, said.quantiles[:, 1])  # type: ignore[index]
    assert said.probabilities == (0.1, 0.5, 0.9)
    assert (said.spread >= 0).all()


def test_the_spread_of_normal_quantiles_is_their_deviation() -> None:
    from scipy import stats

    at = np.linspace(0.01, 0.99, 99)
    said = of_quantiles(np.stack([5 + 3 * stats.norm.ppf(at)]), at)
    assert said.spread[0] == pytest.approx(3, rel=0.01)
    assert said.mean[0] == pytest.approx(5)


def test_every_level_has_its_bounds_among_the_quantiles() -> None:
    at = probabilities_for([0.5, 0.8, 0.9, 0.95, 0.99])
    assert {0.005, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.995} <= set(at)
    assert list(at) == sorted(set(at))


def test_label_distributions_are_mixed_over_members_and_refused_where_there_are_none(
    trained: tuple[Members, pa.Table],
) -> None:
    members, _ = run(replace(RECIPE, loss="dldl_v2"))
    x = vectors_of(FACES)
    said = predicted(members, x, distribution=True, probabilities=(0.1, 0.5, 0.9))
    p = members.outputs(x).double().softmax(-1).mean(0).numpy()
    labels = np.array(members.loss_settings["labels"], dtype=float)
    np.testing.assert_allclose(said.mean, p @ labels, rtol=1e-5)
    np.testing.assert_allclose(said.spread**2, p @ labels**2 - (p @ labels) ** 2, rtol=1e-3)
    # each quantile leaves its share of the mass below it, to within the mass of one label
    for place, at in enumerate(said.probabilities):
        below = [(row * (labels < q)).sum() for row, q in zip(p, said.quantiles[:, place], strict=True)]  # type: ignore[index]
        assert np.abs(np.array(below) - at).max() <= p.max() + 1e-6
    with pytest.raises(UserError, match="models of the loss 'mse' predict no label distribution"):
        predicted(trained[0], x, distribution=True)


def test_swags_moments_are_those_of_algorithm_1_written_plainly() -> None:
    weights = torch.randn(7, 4, generator=torch.Generator().manual_seed(1))
    found = Trajectory.of(list(weights), rank=3)
    mean, square, columns = torch.zeros(4), torch.zeros(4), []
    for n, w in enumerate(weights):
        mean = (n * mean + w) / (n + 1)
        square = (n * square + w**2) / (n + 1)
        columns.append(w - mean)
    torch.testing.assert_close(found.mean, mean)
    torch.testing.assert_close(found.variance, square - mean**2, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.deviations, torch.stack(columns[-3:]))


def test_swags_samples_have_the_mean_and_the_covariance_of_equation_1() -> None:
    weights = torch.randn(6, 3, generator=torch.Generator().manual_seed(2)) * torch.tensor([1.0, 2.0, 0.5])
    found = Trajectory.of(list(weights), rank=4)
    samples = found.sample(5000, torch.Generator().manual_seed(3)).double()
    d = found.deviations.T
    expected = torch.diag(found.variance) / 2 + d @ d.T / (2 * 3)
    torch.testing.assert_close(samples.mean(0).float(), found.mean, atol=0.06, rtol=0)
    torch.testing.assert_close(samples.T.cov().float(), expected, atol=0.1, rtol=0.1)


def test_swag_stays_near_its_start_and_depends_on_seed_and_not_on_workers(
    trained: tuple[Members, pa.Table],
) -> None:
    members, _ = trained
    settings = {"seed": 5, "lr": 1e-3, "epochs": 4, "rank": 2, "samples": 5}
    one = swag(members, [0, 2], MATERIAL, RECIPE, workers=1, **settings)  # type: ignore[arg-type]
    two = swag(members, [0, 2], MATERIAL, RECIPE, workers=2, **settings)  # type: ignore[arg-type]
    other = swag(members, [0, 2], MATERIAL, RECIPE, workers=2, **(settings | {"seed": 6}))  # type: ignore[arg-type]
    assert torch.equal(one.rows, two.rows)
    assert not torch.equal(one.rows, other.rows)
    assert len(one) == 5
    assert len(set(one.seeds)) == 5
    still = swag(members, [0, 2], MATERIAL, RECIPE, **(settings | {"lr": 1e-12}))  # type: ignore[arg-type]
    torch.testing.assert_close(still.rows[0], members.rows[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(still.rows[4], members.rows[2], atol=1e-5, rtol=1e-5)


def test_swag_that_diverges_says_at_which_rate(trained: tuple[Members, pa.Table]) -> None:
    with pytest.raises(UserError, match=r"infinite at the rate 1e\+06: lower calibrate.swag.lr"):
        swag(trained[0], [0], MATERIAL, RECIPE, seed=1, lr=1e6, epochs=3)


def test_views_are_pooled_with_the_members_face_by_face(trained: tuple[Members, pa.Table]) -> None:
    members, _ = trained
    judged = FACES.slice(0, 3)
    extra = FACES.slice(10, 4).drop_columns(["face_id"])
    ids = judged["face_id"].to_pylist()
    views = extra.append_column("parent_id", pa.array([ids[2], ids[0], ids[2], ids[0]]))
    said = views_said(members, judged, views)
    own, added = members.predict(vectors_of(judged)).numpy(), members.predict(vectors_of(extra)).numpy()
    for row, columns in ((0, [1, 3]), (1, []), (2, [0, 2])):
        pool = np.concatenate([own[:, row], added[:, columns].ravel()]).astype(float)
        assert said.mean[row] == pytest.approx(pool.mean(), rel=1e-5)
        assert said.spread[row] == pytest.approx(pool.std(ddof=1), rel=1e-3)
    assert of_views([[[1.0]], [[2.0, 4.0]]]).mean.tolist() == [1.0, 3.0]


def test_only_members_that_did_not_diverge_take_part_and_the_best_is_that_of_validation() -> None:
    members, scores = run(seeds=(1, 2, 3))
    rows = scores.to_pylist()
    rows[0] |= {"diverged": True, "val_mae": None}
    rows[1]["val_mae"], rows[2]["val_mae"] = 4.0, 3.0
    table = pa.Table.from_pylist(rows, schema=scores.schema)
    assert chosen_members(members, table) == ([1, 2], 2)
    for row in rows:
        row["diverged"] = True
    with pytest.raises(UserError, match="every model of this run diverged"):
        chosen_members(members, pa.Table.from_pylist(rows, schema=scores.schema))


def methods_of(trained: tuple[Members, pa.Table], **more: object) -> tuple[dict[str, Method], dict[str, str]]:
    settings = {"swag_settings": SWAG, "quantile_settings": QUANTILE, **more}
    return trained_methods(*trained, MATERIAL, RECIPE, seed=3, levels=[0.5, 0.9], **settings)  # type: ignore[arg-type]


def test_all_methods_are_calibrated_in_every_kind_and_tests_targets_play_no_part(
    trained: tuple[Members, pa.Table],
) -> None:
    methods, left_out = methods_of(trained)
    assert list(methods) == ["single", "ensemble", "swag", "quantile"]
    assert left_out == {}
    views = FACES.slice(0, 40).drop_columns(["target", "split"])
    views = views.filter(pa.array([FACES["split"][k].as_py() != "train" for k in range(40)]))
    views = views.append_column("parent_id", views["face_id"])

    def calibrated(faces: pa.Table, workers: int) -> dict[str, pa.Table]:
        found = calibrated_run(
            methods,
            faces,
            levels=[0.5, 0.9],
            groups=Groups("gender"),
            views=views,
            workers=workers,
        )
        kinds = {(one.method, one.kind) for one in found.calibrations}
        assert len(kinds) == 5 * 3
        assert ("quantile", "cqr") in kinds
        assert ("views", "local") in kinds
        return found.tables

    tables = calibrated(FACES, 1)
    assert set(tables) == {"predictions", "quantiles", "calibration"}
    assert tables["predictions"].num_rows == 5 * 120
    assert set(tables["calibration"]["group"].to_pylist()) == {"all", "f", "m"}
    wrong = [
        999.0 if split == "test" else target
        for target, split in zip(FACES["target"].to_pylist(), FACES["split"].to_pylist(), strict=True)
    ]
    other = calibrated(FACES.set_column(1, "target", pa.array(wrong)), 2)
    assert {name: table.equals(other[name]) for name, table in tables.items()} == dict.fromkeys(tables, True)


def test_methods_that_cannot_be_had_are_left_out_with_the_reason(trained: tuple[Members, pa.Table]) -> None:
    methods, left_out = methods_of(
        trained, swag_settings={**SWAG, "lr": 1e6}, quantile_settings={"seeds": 0, "lr": 0.1}
    )
    assert list(methods) == ["single", "ensemble"]
    assert "lower calibrate.swag.lr" in left_out["swag"]
    assert left_out["quantile"] == "calibrate.quantile.seeds is 0"
    _, left_out = methods_of(
        trained, swag_settings={**SWAG, "members": 0}, quantile_settings={"seeds": 1, "lr": 1e30}
    )
    assert left_out == {
        "swag": "calibrate.swag.members is 0",
        "quantile": "every quantile network diverged: lower calibrate.quantile.lr",
    }


def test_models_of_a_label_distribution_have_a_method_more() -> None:
    recipe = replace(RECIPE, loss="mean_variance")
    members, scores = run(recipe, (1, 2))
    methods, _ = trained_methods(
        members,
        scores,
        MATERIAL,
        recipe,
        seed=1,
        levels=[0.9],
        swag_settings={**SWAG, "samples": 2, "epochs": 2},
        quantile_settings=QUANTILE,
    )
    assert list(methods) == ["single", "ensemble", "distribution", "swag", "quantile"]
    said = methods["distribution"](vectors_of(FACES))
    assert said.quantiles is not None
    np.testing.assert_allclose(
        said.mean, of_members(members.predict(vectors_of(FACES)).numpy()).mean, rtol=1e-4
    )


def test_weights_of_training_faces_reach_swag_and_the_quantile_networks(
    trained: tuple[Members, pa.Table],
) -> None:
    plain, _ = methods_of(trained)
    weight = np.where(MATERIAL.train_y < 20, 10.0, 1.0)
    weighed, _ = trained_methods(
        *trained,
        replace(MATERIAL, train_weight=weight),
        RECIPE,
        seed=3,
        levels=[0.5, 0.9],
        swag_settings=SWAG,
        quantile_settings=QUANTILE,
    )
    for name in ("swag", "quantile"):
        assert not torch.equal(plain[name].members.rows, weighed[name].members.rows)
    assert torch.equal(plain["ensemble"].members.rows, weighed["ensemble"].members.rows)
