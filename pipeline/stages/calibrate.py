"""Stage calibrate: one run's models say how sure they are, and validation faces say how far to believe it."""

from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.augmentation.augmenting import Tally
from pipeline.augmentation.filling import FILTER, fill
from pipeline.augmentation.operations import built
from pipeline.config import Params
from pipeline.core.errors import UserError
from pipeline.core.processes import SPAWN
from pipeline.core.progress import track
from pipeline.core.tables import (
    atomic_file,
    new_folder,
    producer_of,
    read_as,
    read_table,
    sha256,
    write_table,
)
from pipeline.encoders.face_table import with_vectors
from pipeline.encoders.stored import StoredEncoders
from pipeline.metrics.calibration import faces_needed
from pipeline.stages import locations
from pipeline.stages.chosen_encoders import settled_encoders
from pipeline.stages.origin import ORIGIN, origin, settings_made_with
from pipeline.stages.recipes import recipe_settings
from pipeline.stages.running import Summary
from pipeline.training.mlp.material import material_of
from pipeline.training.mlp.members import Members
from pipeline.training.mlp.recipe import Recipe
from pipeline.training.mlp.runs import SCORES
from pipeline.uncertainty.conformal import Groups
from pipeline.uncertainty.label_distributions import NETWORK, networks_said, read_networks
from pipeline.uncertainty.methods import probabilities_for
from pipeline.uncertainty.of_a_run import VIEWS, calibrated_run, trained_methods
from pipeline.uncertainty.raw import Predicted
from pipeline.uncertainty.stored_methods import save_calibrations

PRODUCER = "vec2age calibrate"
NO_PICTURES = "the data set holds no pictures to train whole networks on"


def run(params: Params, workers: int) -> Summary:
    """Train what is lacking, ask every method about every face, calibrate; write models and tables."""
    wanted, balance = params.calibrate, params.train.balance
    check_run(params)
    folder = locations.run_folder(wanted.optimizer, wanted.policy)
    settings_made_with(folder / "scores.parquet", "vec2age train")
    faces = locations.read(locations.FACES)
    judged, needed = pc.sum(pc.equal(faces["split"], "validation")).as_py(), faces_needed(max(wanted.levels))
    if judged < needed:
        why = (
            f"{judged} validation faces are too few to calibrate intervals of {100 * max(wanted.levels):g}%: "
            f"it takes {needed}; enlarge the validation split or lower calibrate.levels"
        )
        with (
            new_folder(locations.CALIBRATED) as fresh,
            atomic_file(fresh / locations.UNCALIBRATED.name) as file,
        ):
            file.write(f"{why}\n".encode())
        return {"methods": 0, "why": why}
    settings = recipe_settings(params.train, wanted.optimizer, wanted.policy)
    methods, left_out = trained_methods(
        Members.load(folder / "members.safetensors"),
        read_as(folder / "scores.parquet", SCORES),
        material_of(faces, locations.read(locations.AUGMENTED), balance.column, balance.edges),
        Recipe(**settings),
        seed=params.seed,
        levels=wanted.levels,
        swag_settings=wanted.swag.model_dump(),
        quantile_settings=wanted.quantile.model_dump(),
        workers=workers,
    )
    views, why = augmented_views(params, faces, workers)
    networks, unsaid = asked_networks(params, faces)
    found = calibrated_run(
        methods,
        faces,
        levels=wanted.levels,
        groups=Groups(wanted.groups, tuple(wanted.bands)),
        min_faces=wanted.min_faces,
        views=views,
        more=networks,
        left_out=left_out | unsaid | ({VIEWS: why} if views is None else {}),
        workers=workers,
    )
    recorded = {
        **wanted.model_dump(),
        "seed": params.seed,
        "recipe": settings | {"balance": balance.model_dump()},
        "members": sha256(folder / "members.safetensors"),
        ORIGIN: origin(),
    }
    with new_folder(locations.CALIBRATED) as fresh:
        for name, method in found.methods.items():
            method.members.save(fresh / f"{name}.safetensors")
        save_calibrations(found.calibrations, fresh / "calibration.safetensors")
        for name, table in found.tables.items():
            write_table(table, fresh / f"{name}.parquet", PRODUCER, recorded)
    left = {f"left out: {name}": reason for name, reason in found.left_out.items()}
    methods_said = ", ".join([*found.methods, *networks])
    return {"models of": str(folder), "methods": methods_said, "views": why, **left}


def check_run(params: Params) -> None:
    """Refuse a run that is not trained."""
    wanted, trained, whole = params.calibrate, params.train, params.finetune
    networks = [f"{loss}/{backbone}" for loss in whole.losses for backbone in whole.backbones]
    for name, one, stage, known in (
        ("optimizer", wanted.optimizer, "train", trained.optimizers),
        ("policy", wanted.policy, "train", trained.policies),
        ("network", wanted.network, "finetune", networks),
    ):
        if one is not None and one not in known:
            raise UserError(
                f"calibrate.{name} is {one!r}, which {stage} does not train: choose one of {', '.join(known)}"
            )


def asked_networks(params: Params, faces: pa.Table) -> tuple[dict[str, Predicted], dict[str, str]]:
    """What the whole networks that are asked for say of validation and test faces, or why they do not."""
    wanted = params.calibrate
    if wanted.network is None:
        return {}, {NETWORK: "calibrate.network is null"}
    path = locations.NETWORKS / wanted.network / "predictions.parquet"
    predictions = read_networks(path)
    if not predictions.num_rows:
        lost = read_table(path.with_name("scores.parquet"), ["diverged"])["diverged"].to_pylist()
        why = f"every network of {path.parent} diverged: {lost[0]}" if lost else NO_PICTURES
        return {}, {NETWORK: why}
    labels = producer_of(path)["settings"].get("labels")
    judged = faces.filter(pc.not_equal(faces["split"], "train"))
    said = networks_said(predictions, labels, judged, probabilities_for(wanted.levels), str(path.parent))
    return {NETWORK: said}, {}


def augmented_views(params: Params, faces: pa.Table, workers: int) -> tuple[pa.Table | None, str]:
    """Augmented views (parent_id, vector) of validation and test faces, or None; and what was done."""
    if not params.calibrate.views:
        return None, "calibrate.views is 0"
    if locations.ready_vectors() is not None:
        return None, "the data set holds no pictures to augment"
    judged = faces.filter(pc.not_equal(faces["split"], "train"))["face_id"].to_pylist()
    encoders, _ = settled_encoders(params)
    vectors = StoredEncoders(encoders, locations.STORE, params.encoder.combine)
    tally = Tally()
    with ProcessPoolExecutor(workers, SPAWN) as pool:
        kept = fill(
            locations.CROPS,
            dict.fromkeys(judged, params.calibrate.views),
            built(one.model_dump() for one in params.augment.operations),
            vectors,
            pool,
            tally,
            seed=params.seed,
            **params.augment.model_dump(include=FILTER),
        )
        pairs = [(one.parent_id, one.vector) for face in track(kept, "views", len(judged)) for one in face]
    vectors.compact()
    parents = pa.table({"parent_id": pa.array([parent for parent, _ in pairs], pa.string())})
    width = faces.schema.field("vector").type.list_size
    stacked = np.array([vector for _, vector in pairs], dtype=np.float32).reshape(-1, width)
    unfilled = sum(tally.unfilled.values())
    return with_vectors(parents, stacked), f"{len(pairs)} drawn, {unfilled} not to be had"
