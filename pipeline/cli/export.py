"""`vec2age export`: one calibrated model and all that its predictions depend on, as a bundle."""

import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline import __version__
from pipeline.cli.exportable import made_with
from pipeline.config import Params
from pipeline.core.artifacts import read_tree
from pipeline.core.errors import UserError, writing
from pipeline.core.places import alone, resolved
from pipeline.core.tables import only, read_folder, vectors_of
from pipeline.encoders import View
from pipeline.evaluation.method_names import title_of
from pipeline.faces.shards import MEASURES
from pipeline.report.provenance import revision
from pipeline.serving import packing
from pipeline.serving.card import model_card
from pipeline.serving.onnx_export import write_onnx
from pipeline.serving.rebuilt_encoders import EncoderSettings, matching_encoders
from pipeline.serving.reference import Reference, chosen
from pipeline.stages import locations
from pipeline.stages.apart import check_destination
from pipeline.stages.chosen_encoders import own_settings
from pipeline.stages.origin import ORIGIN
from pipeline.stages.outputs import uncalibrated
from pipeline.stages.running import Summary
from pipeline.training.mlp.members import Members
from pipeline.uncertainty.conformal import Calibration
from pipeline.uncertainty.methods import probabilities_for
from pipeline.uncertainty.stored_methods import load_calibrations

ONNX = "regressor.onnx"


def export(params: Params, folder: Path, *, onnx: bool = True) -> Summary:
    """Write the bundle; says its id.

    Raises
    ------
    UserError
        Something was not trained, calibrated or evaluated yet, the wish cannot be granted, or vectors,
        crops, encoders or settings are others by now than those that the model was made with.
    """
    check_destination(folder, params)
    packing.check_replaceable(folder)
    wanted = params.export
    calibration = find_calibration(wanted.method, wanted.kind)
    if wanted.level not in calibration.levels:
        known = ", ".join(f"{level:g}" for level in calibration.levels)
        raise UserError(f"export.level is {wanted.level:g}, which was not calibrated: choose one of {known}")
    made = made_with(params)
    members = Members.load(locations.CALIBRATED / f"{wanted.method}.safetensors")
    faces = locations.read(locations.FACES)
    reference = reference_of(params, faces)
    encoders, weights = encoder_settings(params, made[ORIGIN]).packed()
    described = description(params, faces, made, encoders)
    fingerprints = made[ORIGIN]["encoders"]
    if fingerprints:
        matching_encoders(EncoderSettings.of(encoders.described(), weights), fingerprints)
    measured, groups = on_test_faces(wanted.method, wanted.kind, wanted.level)
    differences: list[float] = []

    def write_regressor(path: Path) -> None:
        differences.append(write_onnx(members, path))

    extra: dict[str, Callable[[Path], object]] = {
        name: partial(shutil.copyfile, path) for name, path in weights.items()
    }
    if onnx:
        extra[ONNX] = write_regressor
    place = resolved(folder)
    taken = f"another vec2age export is writing {folder}: wait until it has ended, or name another folder"
    with writing(folder), alone(place.with_name(f".{place.name}.lock"), taken):
        identity = packing.write(
            folder,
            members=members,
            distribution=wanted.method == "distribution",
            calibration=calibration,
            reference=reference,
            described=described,
            texts={
                "params.json": as_json(portable(params.model_dump())),
                "metrics.json": locations.METRICS.read_text(encoding="utf-8")
                if locations.METRICS.is_file()
                else "{}\n",
                "MODEL_CARD.md": model_card(described, reference, measured, groups),
            },
            extra=extra,
        )
    checked = {"ONNX differs from torch by at most": f"{differences[0]:.1e}"} if differences else {}
    return {
        "bundle": str(folder),
        "id": identity,
        "method": f"{wanted.method}, {wanted.kind}",
        "models": len(members),
        **checked,
    }


def find_calibration(method: str, kind: str) -> Calibration:
    """The calibration that is asked for.

    Raises
    ------
    UserError
        The stage calibrate made no such.
    """
    why = uncalibrated()
    if why is not None:
        raise UserError(f"nothing is calibrated that could be exported: {why}")
    made = load_calibrations(locations.CALIBRATED / "calibration.safetensors")
    for one in made:
        if (one.method, one.kind) == (method, kind):
            return one
    known = ", ".join(f"{one.method} {one.kind}" for one in made)
    raise UserError(f"export asks for {method} {kind}, which was not calibrated: choose one of {known}")


def reference_of(params: Params, faces: pa.Table) -> Reference:
    """What the training faces were like: some vectors, the targets' range, the crops' quality."""
    train = faces.filter(pc.equal(faces["split"], "train"))
    validation = faces.filter(pc.equal(faces["split"], "validation"))
    rows = chosen(train["face_id"].to_pylist(), params.export.reference, params.seed)
    measures: dict[str, NDArray[np.float64]] = {}
    crops = read_folder(locations.CROPS, ["face_id", *MEASURES]) if locations.CROPS.is_dir() else None
    if crops is not None and crops.num_rows:
        trained = only(crops, train["face_id"])
        measures = {name: trained[name].to_numpy().astype(np.float64) for name in MEASURES}
    target = train["target"].to_numpy().astype(np.float64)
    return Reference.learn(vectors_of(train.take(rows)), vectors_of(validation), target, measures)


def encoder_settings(params: Params, origin: Mapping[str, Any]) -> EncoderSettings:
    """What encoders are built from: of ready-made vectors nobody knows, and nothing of them goes along."""
    encoder = params.encoder
    return EncoderSettings(
        names=tuple(encoder.names),
        views=tuple(View(**view.model_dump()) for view in encoder.views),
        margin=params.crop.margin,
        combine=origin["combine"] or encoder.combine,
        precision=encoder.precision,
        compile=encoder.compile,
        settings={name: own_settings(encoder, name) for name in encoder.names} if origin["encoders"] else {},
    )


def description(
    params: Params, faces: pa.Table, made: Mapping[str, Any], encoders: EncoderSettings
) -> dict[str, Any]:
    """What bundle.json says.

    Parameters
    ----------
    params, faces
        Of the project.
    made
        As `made_with` gives it.
    encoders
        As `EncoderSettings.packed` gives them.
    """
    wanted, origin = params.export, made[ORIGIN]
    splits = faces["split"].to_pylist()
    return {
        "version": __version__,
        "revision": revision().get("revision", "unknown"),
        "method": wanted.method,
        "kind": wanted.kind,
        "level": wanted.level,
        "probabilities": list(probabilities_for(made["levels"])),
        "groups": {"by": made["groups"], "bands": made["bands"]},
        "threshold": params.evaluate.threshold,
        "target": {"name": params.report.target, "unit": params.report.unit},
        "encoder": {**encoders.described(), "fingerprints": origin["encoders"]},
        "crop": origin["crop"] or params.crop.model_dump(),
        "data": {
            "name": params.data.name,
            "faces": {split: splits.count(split) for split in ("train", "validation", "test")},
            "sha256": origin["sha256"],
        },
    }


def on_test_faces(method: str, kind: str, level: float) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """What evaluate measured of one method and kind: its numbers, and its coverage by group."""
    if not locations.METRICS.is_file():
        return {}, []
    tree = read_tree(locations.METRICS)
    measured: dict[str, float] = tree.get("uncertainty", {}).get(method, {}).get(kind, {})
    path = locations.TABLES / "uncertainty_groups.csv"
    if not path.is_file():
        return measured, []
    table = pd.read_csv(path)
    # a CSV has six digits
    rows = table[(table["title"] == title_of(method, kind)) & np.isclose(table["level"], level, rtol=1e-5)]
    return measured, [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def portable(value: Any) -> Any:
    """Parameters without the places of this machine: of an absolute path only the last name.

    Examples
    --------
    >>> portable({"root": "/home/me/utkface", "seeds": [1, 2]})
    {'root': 'utkface', 'seeds': [1, 2]}
    """
    if isinstance(value, dict):
        return {key: portable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [portable(one) for one in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def as_json(tree: dict[str, Any]) -> str:
    """Parameters as JSON text."""
    return json.dumps(tree, indent=2, sort_keys=True, allow_nan=False) + "\n"
