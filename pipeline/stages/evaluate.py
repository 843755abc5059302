"""Stage evaluate: all models, baselines and ensembles on the faces that no model was trained on."""

from typing import Any

from pipeline.params import Params
from pipeline.regression.baselines import fit_baselines
from pipeline.reports import augmentation, summary, table, tables, uncertainty
from pipeline.reports import classification_tables as classification
from pipeline.reports.evaluation import evaluate
from pipeline.reports.networks import results as networks
from pipeline.reports.networks import summary as networks_summary
from pipeline.reports.networks import tables as networks_tables
from pipeline.reports.results import read
from pipeline.reports.uncertainty_tables import uncertainty_tables
from pipeline.stages import files
from pipeline.stages.outputs import kept_if_refused, uncalibrated, write_json
from pipeline.stages.running import Summary
from pipeline.stages.settings import settings_of
from pipeline.stages.uncertain import measured_uncertainty
from pipeline.tables import new_folder, sha256, vectors_of, write_table


def run(params: Params, workers: int) -> Summary:
    """Fit the baselines, measure everything; write baselines, tables and metrics."""
    wanted = params.evaluate
    fitted: dict[str, Any] = {"names": wanted.baselines, "svr_rows": wanted.svr_rows, "seed": params.seed}
    faces = files.read(files.FACES)
    baselines = fit_baselines(
        faces["face_id"].to_pylist(),
        vectors_of(faces),
        faces["target"].to_numpy(),
        faces["split"].to_pylist(),
        **fitted,
    )
    with (
        kept_if_refused(files.METRICS),
        new_folder(files.BASELINES) as drawn_up,
        new_folder(files.TABLES) as new_tables,
    ):
        write_table(baselines.predictions, drawn_up / "predictions.parquet", "vec2age evaluate", fitted)
        recorded = fitted | measured_with(params)
        write_table(baselines.settings, drawn_up / "settings.parquet", "vec2age evaluate", recorded)
        results = read(files.FACES, files.MODELS, params.train.policies, params.train.optimizers, drawn_up)
        settings = settings_of(params)
        evaluation = evaluate(results, settings)
        augmented = augmentation.tables(
            files.read(files.CALIBRATION).to_pandas(),
            files.read(files.BALANCE).to_pandas(),
            params.report.target,
        )
        whole = params.finetune
        runs = networks.read(files.NETWORKS, whole.losses, whole.backbones, results.faces, settings)
        found = measured_uncertainty(params, settings)
        described = networks_tables.all_tables(runs, settings)
        intervals = [] if found is None else uncertainty_tables(found)
        classifiers = classification.read_classifiers(files.CLASSIFIERS, params.classify.losses)
        more = [*augmented, *intervals, *described, *classification.all_tables(classifiers)]
        table.write([*tables.all_tables(evaluation), *more], new_tables)
        numbers = summary.metrics(evaluation) | {"networks": networks_summary.metrics(runs)}
        if classifiers:
            numbers["classification"] = classification.metrics(classifiers)
        if found is not None:
            numbers["uncertainty"] = uncertainty.metrics(found)
        write_json(numbers, files.METRICS)  # where that fails, the former tables stay, too
    why = uncalibrated() or "run vec2age calibrate"
    unmeasured = {} if found else {"uncertainty": f"not measured: {why}"}
    return {**summary.headlines(evaluation), **networks_summary.headlines(runs), **unmeasured}


def measured_with(params: Params) -> dict[str, Any]:
    """What the errors of calibrated models depend on: settings by their keys, and the calibration's hash."""
    calibrations = files.CALIBRATED / "calibration.safetensors"
    return {
        "seed": params.seed,
        "evaluate": params.evaluate.model_dump(),
        "calibrate": params.calibrate.model_dump(),
        "report.target": params.report.target,
        "report.unit": params.report.unit,
        "calibrated": sha256(calibrations) if calibrations.is_file() else None,
    }
