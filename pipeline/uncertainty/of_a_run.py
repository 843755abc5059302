"""Every method of uncertainty on the models of one run: trained, asked, calibrated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import losses
from pipeline.core.errors import UserError
from pipeline.core.seeds import derive_seed
from pipeline.core.tables import vectors_of
from pipeline.losses.labels import LabelledLoss
from pipeline.training.mlp.fit import fit_stack
from pipeline.training.mlp.material import Material, targets_of
from pipeline.training.mlp.members import Members
from pipeline.training.mlp.recipe import Recipe
from pipeline.uncertainty.conformal import Calibration, Groups, calibrate
from pipeline.uncertainty.methods import Method, of_views, outputs_of, probabilities_for
from pipeline.uncertainty.raw import Predicted
from pipeline.uncertainty.stored_methods import calibration_table, prediction_tables
from pipeline.uncertainty.swag import swag

SINGLE, ENSEMBLE, SWAG, VIEWS = "single", "ensemble", "swag", "views"
QUANTILE, DISTRIBUTION = "quantile", "distribution"


@dataclass(frozen=True)
class CalibratedRun:
    """What the stage keeps.

    Attributes
    ----------
    methods
        Those that predict from vectors, by name, ready to be used again.
    calibrations
        Every method in every kind.
    tables
        `predictions`, `quantiles` (where a method has them) and `calibration`, by their files' names.
    left_out
        Methods that these data or models do not allow, with why.
    """

    methods: dict[str, Method]
    calibrations: list[Calibration]
    tables: dict[str, pa.Table]
    left_out: dict[str, str]


def chosen_members(members: Members, scores: pa.Table) -> tuple[list[int], int]:
    """The members that did not diverge, and of them the best on validation.

    Raises
    ------
    UserError
        All diverged.
    """
    rows = [row for row in scores.to_pylist() if not row["diverged"]]
    if not rows:
        raise UserError("every model of this run diverged: calibrate another one, or lower its learning rate")
    best = min(rows, key=lambda row: (row["val_mae"], row["member"]))
    return [row["member"] for row in rows], best["member"]


def subset(members: Members, which: Sequence[int]) -> Members:
    """Some of the members."""
    return replace(members, rows=members.rows[list(which)], seeds=tuple(members.seeds[k] for k in which))


def trained_methods(
    members: Members,
    scores: pa.Table,
    material: Material,
    recipe: Recipe,
    *,
    seed: int,
    levels: Sequence[float],
    swag_settings: Mapping[str, Any],
    quantile_settings: Mapping[str, Any],
    workers: int | None = None,
) -> tuple[dict[str, Method], dict[str, str]]:
    """The methods that predict from vectors, and those left out with why.

    Parameters
    ----------
    members, scores
        The run's models, and what became of each.
    material, recipe
        What they learnt from, and how.
    seed
        The root seed.
    levels
        Of the intervals.
    swag_settings
        `members` (how many of the best on validation it starts from) and the arguments of `swag`.
    quantile_settings
        `seeds` (how many networks; 0: none) and `lr` (of ADAM).
    """
    sound, best = chosen_members(members, scores)
    methods = {
        SINGLE: Method(SINGLE, subset(members, [best])),
        ENSEMBLE: Method(ENSEMBLE, subset(members, sound)),
    }
    left_out = {}
    loss = losses.build(members.loss, **members.loss_settings)
    if isinstance(loss, LabelledLoss):
        at = probabilities_for(levels)
        methods[DISTRIBUTION] = Method(DISTRIBUTION, subset(members, sound), True, at)
    given = dict(swag_settings)
    order = {row["member"]: row["val_mae"] for row in scores.to_pylist()}
    starts = sorted(sound, key=lambda member: (order[member], member))[: given.pop("members")]
    if not starts:
        left_out[SWAG] = "calibrate.swag.members is 0"
    else:
        try:
            drawn = swag(members, starts, material, recipe, seed=seed, workers=workers, **given)
            methods[SWAG] = Method(SWAG, drawn)
        except UserError as error:
            left_out[SWAG] = str(error)
    if quantile_settings["seeds"]:
        found = fit_quantiles(material, recipe, seed, levels, workers=workers, **quantile_settings)
        if found is None:
            left_out[QUANTILE] = "every quantile network diverged: lower calibrate.quantile.lr"
        else:
            methods[QUANTILE] = Method(QUANTILE, found)
    else:
        left_out[QUANTILE] = "calibrate.quantile.seeds is 0"
    return methods, left_out


def fit_quantiles(
    material: Material,
    recipe: Recipe,
    seed: int,
    levels: Sequence[float],
    *,
    seeds: int,
    lr: float,
    workers: int | None = None,
) -> Members | None:
    """Networks of the pinball loss, trained as the run's own; None if all of them diverged."""
    at = list(probabilities_for(levels))
    own = replace(recipe, loss="pinball", loss_settings={"quantiles": at}, optimizer="adam")
    result = fit_stack(
        material.train_x,
        material.train_y,
        material.val_x,
        material.val_y,
        seeds=[derive_seed(seed, "quantile member", number) for number in range(seeds)],
        learning_rates=lr,
        recipe=own,
        train_weight=material.train_weight,
        workers=workers,
    )
    sound = [score.member for score in result.scores if not score.diverged]
    return subset(result.members, sound) if sound else None


def views_said(members: Members, faces: pa.Table, views: pa.Table, workers: int | None = None) -> Predicted:
    """What members say over each face's own picture and its augmented views.

    Parameters
    ----------
    members
        Of the ensemble.
    faces
        face_id and vector of the faces asked about.
    views
        parent_id and vector, any number of rows for a face.
    """
    loss = losses.build(members.loss, **members.loss_settings)
    x = np.concatenate([vectors_of(faces), vectors_of(views)])
    values = loss.prediction(outputs_of(members, x, workers)).numpy()
    parents = pc.index_in(views["parent_id"], value_set=faces["face_id"].combine_chunks())
    owners = np.concatenate([np.arange(faces.num_rows), parents.to_numpy().astype(np.int64)])
    order = np.argsort(owners, kind="stable")
    starts = np.searchsorted(owners[order], np.arange(1, faces.num_rows))
    return of_views(np.split(values[:, order], starts, axis=1))


def calibrated_run(
    methods: dict[str, Method],
    faces: pa.Table,
    *,
    levels: Sequence[float],
    groups: Groups,
    min_faces: int = 1,
    views: pa.Table | None = None,
    more: Mapping[str, Predicted] | None = None,
    left_out: Mapping[str, str] | None = None,
    workers: int | None = None,
) -> CalibratedRun:
    """Ask every method about every face, and calibrate it on validation faces.

    Parameters
    ----------
    methods
        As `trained_methods` gives them.
    faces
        face_id, target, split, vector and groups of all faces. Noise and expected errors are learnt from
        training faces, everything else from validation faces; test faces are predicted and their targets
        are not looked at.
    levels, groups, min_faces
        See `calibrate`.
    views
        Augmented views of validation and test faces, or None.
    more
        What other methods, which must have quantiles, say of validation and test faces, in the order of
        `faces`.
    left_out
        Methods that there are not, with why.
    """
    parts = {name: faces.filter(pc.equal(faces["split"], name)) for name in ("train", "validation")}
    judged = faces.filter(pc.not_equal(faces["split"], "train"))
    is_validation = np.asarray(judged["split"].to_numpy() == "validation")
    target = targets_of(parts["validation"])
    trained = targets_of(parts["train"])
    said: dict[str, Predicted] = {}
    training: dict[str, Predicted] = {}
    for name, method in methods.items():
        training[name] = method(vectors_of(parts["train"]), workers)
        said[name] = method(vectors_of(judged), workers)
    if views is not None:
        # Augmenting the training faces again would cost more than it tells: the ensemble's error stands in.
        training[VIEWS] = training[ENSEMBLE]
        said[VIEWS] = views_said(methods[ENSEMBLE].members, judged, views, workers)
    said |= more or {}
    calibrations = []
    for name, one in said.items():
        validation = one.take(is_validation)
        calibrations += calibrate(
            name,
            (training[name], trained) if name in training else None,
            (validation, target),
            levels,
            groups=groups.of(validation, parts["validation"]),
            min_faces=min_faces,
        )
    tables = prediction_tables(said, judged["face_id"].combine_chunks())
    tables["calibration"] = calibration_table(calibrations)
    return CalibratedRun(methods, calibrations, tables, dict(left_out or {}))
