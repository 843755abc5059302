"""What goes into a bundle, held against params.yaml: everything was made with the settings that stand there.

DVC runs stages again when a setting changes; whoever calls `export` after changing one by hand is told to.
"""

from typing import Any

from pipeline.config import Params
from pipeline.core.errors import UserError
from pipeline.core.tables import producer_of, read_as, sha256
from pipeline.faces import shards
from pipeline.stages import locations
from pipeline.stages.evaluate import measured_with
from pipeline.stages.origin import ORIGIN, check_unchanged, settings_made_with
from pipeline.stages.recipes import recipe_settings, under_keys
from pipeline.stages.train import check_members, given_rates
from pipeline.training.mlp.runs import SCORES

CALIBRATE = "vec2age calibrate"


def made_with(params: Params) -> dict[str, Any]:
    """The settings and vectors that models and calibration were made with, proven to be those of now.

    Raises
    ------
    UserError
        Vectors, crops, models or a setting that the bundle follows from have changed since.
    """
    made = settings_made_with(locations.CALIBRATED / "calibration.parquet", CALIBRATE)
    wanted = {f"calibrate.{name}": value for name, value in params.calibrate.model_dump().items()}
    known = {f"calibrate.{name}": value for name, value in made.items()}
    check_unchanged(known, wanted, locations.CALIBRATED, CALIBRATE)
    check_faces(params, made[ORIGIN])
    check_run(params)
    check_calibrated(params, made)
    check_measured(params)
    return made


def check_faces(params: Params, origin: dict[str, Any]) -> None:
    """Refuse faces, crops, splits, vectors or augmented vectors that were made with other settings."""
    data = {"data": params.data.model_dump(), "ingest": params.ingest.model_dump()}
    split = {"seed": params.seed, "split": params.split.model_dump()}
    for path, stage, now in ((locations.MANIFEST, "ingest", data), (locations.SPLITS, "split", split)):
        check_unchanged(producer_of(path)["settings"], now, path, follows(stage))
        if origin["sha256"].get(path.as_posix(), "") not in ("", sha256(path)):
            raise UserError(
                f"{path} is another than when the faces were embedded: "
                f"run {follows('embed')} again (dvc repro)"
            )
    crops = shards.paths(locations.CROPS) if locations.CROPS.is_dir() else []
    cut = origin["crop"]
    if crops and cut is not None and producer_of(crops[0])["settings"] != cut:
        raise UserError(
            f"{locations.CROPS} was cut with other settings than the faces that the model was trained on: "
            f"run {follows('embed')} again (dvc repro)"
        )
    if cut is not None:
        known = {f"crop.{name}": value for name, value in cut.items()}
        wanted = {f"crop.{name}": value for name, value in params.crop.model_dump().items()}
        check_unchanged(known, wanted, locations.CROPS, follows("crop"))
    if origin["combine"] is not None:
        known, wanted = {"encoder.combine": origin["combine"]}, {"encoder.combine": params.encoder.combine}
        check_unchanged(known, wanted, locations.FACES, follows("embed"))
    drawn = {"seed": params.seed, "augment": params.augment.model_dump(exclude={"pictures"})}
    check_unchanged(
        producer_of(locations.AUGMENTED)["settings"], drawn, locations.AUGMENTED, follows("augment")
    )


def check_run(params: Params) -> None:
    """Refuse models whose seeds, rates or recipe are not those of params.yaml."""
    optimizer, policy = params.calibrate.optimizer, params.calibrate.policy
    folder = locations.run_folder(optimizer, policy)
    again = f"vec2age train --optimizer {optimizer} --policy {policy}"
    rates = given_rates(params, optimizer, policy)
    scores = read_as(folder / "scores.parquet", SCORES)
    check_members(scores, params, optimizer, folder, again)
    if scores["lr"].to_pylist() != rates["lr"].to_pylist():
        place = locations.rates(optimizer, policy)
        raise UserError(
            f"{folder} was trained at other rates than those of {place}: run {again} again (dvc repro)"
        )
    made = under_keys(producer_of(folder / "scores.parquet")["settings"], optimizer, policy)
    check_unchanged(made, under_keys(recipe_of(params), optimizer, policy), folder, again)


def recipe_of(params: Params) -> dict[str, Any]:
    """How the calibrated models are trained."""
    settings = recipe_settings(params.train, params.calibrate.optimizer, params.calibrate.policy)
    return settings | {"balance": params.train.balance.model_dump()}


def check_calibrated(params: Params, made: dict[str, Any]) -> None:
    """Refuse a calibration of other models than there are now, or trained on with another recipe."""
    optimizer, policy = params.calibrate.optimizer, params.calibrate.policy
    known = made | under_keys(made.get("recipe", {}), optimizer, policy)
    wanted = {"seed": params.seed, **under_keys(recipe_of(params), optimizer, policy)}
    check_unchanged(known, wanted, locations.CALIBRATED, CALIBRATE)
    folder = locations.run_folder(optimizer, policy)
    if made.get("members") != sha256(folder / "members.safetensors"):
        raise UserError(
            f"{folder} holds other models than {locations.CALIBRATED} was made from: "
            f"run {CALIBRATE} again (dvc repro)"
        )


def check_measured(params: Params) -> None:
    """Refuse errors on test faces that were measured of another calibration, or with other settings."""
    if not locations.METRICS.is_file():
        return  # the card then says nothing of errors
    made = producer_of(locations.BASELINES / "settings.parquet")["settings"]
    now = measured_with(params)
    calibrated = now.pop("calibrated")
    check_unchanged(made, now, locations.METRICS, "vec2age evaluate")
    if made.get("calibrated") != calibrated:
        raise UserError(
            f"{locations.METRICS} was measured of another {locations.CALIBRATED} than there is now: "
            "run vec2age evaluate again (dvc repro)"
        )


def follows(stage: str) -> str:
    """A stage and all that takes what it makes, in words."""
    return f"vec2age {stage} and what follows it"
