"""Stage evaluate: all models, baselines and ensembles on the faces that no model was trained on."""

from typing import Any

from pipeline.config import Params
from pipeline.core.tables import new_folder, sha256, vectors_of, write_table
from pipeline.evaluation import stated_uncertainty, summary, table
from pipeline.evaluation.networks import results as networks
from pipeline.evaluation.networks import summary as networks_summary
from pipeline.evaluation.numbers import evaluate
from pipeline.evaluation.results import read
from pipeline.report import augmentation_tables, classification_tables, paper_tables
from pipeline.report.networks import tables as networks_tables
from pipeline.report.uncertainty_tables import uncertainty_tables
from pipeline.stages import locations
from pipeline.stages.evaluation_settings import settings_of
from pipeline.stages.outputs import uncalibrated, write_json
from pipeline.stages.running import Summary
from pipeline.stages.uncertain import measured_uncertainty
from pipeline.training.mlp.baselines import fit_baselines


def run(params: Params, workers: int) -> Summary:
    """Fit the baselines, measure everything; write baselines, tables and metrics."""
    wanted = params.evaluate
    fitted: dict[str, Any] = {"names": wanted.baselines, "svr_rows": wanted.svr_rows, "seed": params.seed}
    faces = locations.read(locations.FACES)
    baselines = fit_baselines(
        faces["face_id"].to_pylist(),
        vectors_of(faces),
        faces["target"].to_numpy(),
        faces["split"].to_pylist(),
        **fitted,
    )
    with new_folder(locations.BASELINES) as drawn_up, new_folder(locations.TABLES) as new_tables:
        write_table(baselines.predictions, drawn_up / "predictions.parquet", "vec2age evaluate", fitted)
        recorded = fitted | measured_with(params)
        write_table(baselines.settings, drawn_up / "settings.parquet", "vec2age evaluate", recorded)
        results = read(
            locations.FACES, locations.MODELS, params.train.policies, params.train.optimizers, drawn_up
        )
        settings = settings_of(params)
        evaluation = evaluate(results, settings)
        augmented = augmentation_tables.tables(
            locations.read(locations.CALIBRATION).to_pandas(),
            locations.read(locations.BALANCE).to_pandas(),
            params.report.target,
        )
        whole = params.finetune
        runs = networks.read(locations.NETWORKS, whole.losses, whole.backbones, results.faces, settings)
        found = measured_uncertainty(params, settings)
        described = networks_tables.all_tables(runs, settings)
        intervals = [] if found is None else uncertainty_tables(found)
        classifiers = classification_tables.read_classifiers(locations.CLASSIFIERS, params.classify.losses)
        more = [*augmented, *intervals, *described, *classification_tables.all_tables(classifiers)]
        table.write([*paper_tables.all_tables(evaluation), *more], new_tables)
        numbers = summary.metrics(evaluation) | {"networks": networks_summary.metrics(runs)}
        if classifiers:
            numbers["classification"] = classification_tables.metrics(classifiers)
        if found is not None:
            numbers["uncertainty"] = stated_uncertainty.metrics(found)
        write_json(numbers, locations.METRICS)  # where that fails, the former tables stay, too
    why = uncalibrated() or "run vec2age calibrate"
    unmeasured = {} if found else {"uncertainty": f"not measured: {why}"}
    return {**summary.headlines(evaluation), **networks_summary.headlines(runs), **unmeasured}


def measured_with(params: Params) -> dict[str, Any]:
    """What the errors of calibrated models depend on: settings by their keys, and the calibration's hash."""
    calibrations = locations.CALIBRATED / "calibration.safetensors"
    return {
        "seed": params.seed,
        "evaluate": params.evaluate.model_dump(),
        "calibrate": params.calibrate.model_dump(),
        "report.target": params.report.target,
        "report.unit": params.report.unit,
        "calibrated": sha256(calibrations) if calibrations.is_file() else None,
    }
