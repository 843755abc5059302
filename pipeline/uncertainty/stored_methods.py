"""Calibrations and what methods say, as files: safetensors with JSON, and Parquet."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, model_validator
from safetensors.numpy import save as to_bytes

from pipeline.core.artifacts import Described, described_as, read_arrays_of
from pipeline.core.errors import UserError
from pipeline.core.files import AGAIN
from pipeline.core.tables import atomic_file, first_line, read_as, rows_of, vector_type, vectors_of
from pipeline.uncertainty.conformal import ALL, Calibration
from pipeline.uncertainty.raw import Difficulty, Predicted
from pipeline.uncertainty.shapes import Normal, Scored, Shape, Shifted

KEY = "vec2age"
Arrays = dict[str, NDArray[np.float64]]

PREDICTIONS = pa.schema(
    [
        ("method", pa.string()),
        ("face_id", pa.string()),
        ("prediction", pa.float64()),
        ("spread", pa.float64()),
    ]
)
SAID = pa.schema([field.with_nullable(False) for field in PREDICTIONS])
TABLE = pa.schema(
    [
        ("method", pa.string()),
        ("kind", pa.string()),
        ("group", pa.string()),
        ("faces", pa.int64()),
        ("level", pa.float64()),
        ("half_width", pa.float64()),
        ("margin", pa.float64()),
    ]
)


def write_arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], described: Mapping[str, Any], *, private: bool = False
) -> None:
    """Write arrays and a JSON description into one safetensors file, atomically, always the same bytes."""
    metadata = {KEY: json.dumps(described, sort_keys=True)}
    with atomic_file(path, private=private) as file:
        file.write(to_bytes({name: np.ascontiguousarray(value) for name, value in arrays.items()}, metadata))


def save_calibrations(calibrations: Sequence[Calibration], path: Path) -> None:
    """Write calibrations into one file."""
    arrays: Arrays = {}
    described = []
    for number, one in enumerate(calibrations):
        groups = []
        for place, (name, shape) in enumerate(one.shapes.items()):
            kind, fields = packed(shape)
            arrays |= {f"{number}.{place}.{field}": value for field, value in fields.items()}
            groups.append({"name": name, "faces": one.faces[name], "shape": kind, "fields": sorted(fields)})
        described.append(
            {"method": one.method, "kind": one.kind, "levels": list(one.levels), "groups": groups}
        )
    write_arrays(path, arrays, {"calibrations": described})


class Group(Described):
    """One group's shape, as a file of calibrations describes it."""

    name: str
    faces: Annotated[int, Field(gt=0)]
    shape: str
    fields: tuple[str, ...]


class One(Described):
    """One calibration, as a file describes it."""

    method: str
    kind: Literal["raw", "split", "local", "cqr"]
    levels: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1)]
    groups: tuple[Group, ...]

    @model_validator(mode="after")
    def _each_once(self) -> "One":
        names = [group.name for group in self.groups]
        if ALL not in names or len(set(names)) < len(names):
            raise ValueError(f"the groups are {', '.join(names)[:80] or 'none'}: each once, {ALL} among them")
        if any(low >= high for low, high in pairwise(self.levels)):
            raise ValueError("the levels are not in ascending order")
        return self


class Told(Described):
    """What a file of calibrations says beside its arrays."""

    calibrations: Annotated[tuple[One, ...], Field(min_length=1)]


def load_calibrations(path: Path, again: str = AGAIN) -> list[Calibration]:
    """Read what `save_calibrations` wrote; `again` is what messages advise.

    Raises
    ------
    UserError
        If the file is missing, damaged, not one of these, or a number in it is none that calibrating gives.
    """
    arrays, text = read_arrays_of(path, KEY, types=("F64",), again=again)
    told = described_as(Told, text, path, again)
    found = []
    try:
        for number, one in enumerate(told.calibrations):
            shapes = {}
            for place, group in enumerate(one.groups):
                fields = {field: arrays.pop(f"{number}.{place}.{field}") for field in group.fields}
                shapes[group.name] = unpacked(group.shape, fields, one.levels)
                shape = shapes[group.name]
                if isinstance(shape, Scored) and shape.scores.size != group.faces:
                    raise ValueError(f"{shape.scores.size} scores for {group.faces} faces")
            faces = {group.name: group.faces for group in one.groups}
            found.append(Calibration(one.method, one.kind, one.levels, shapes, faces))
        if arrays:
            raise ValueError(f"{min(arrays)[:80]!r} is unknown")
    except KeyError as error:
        raise UserError(
            f"{path} holds no calibration that can be read: {error} is missing: {again}"
        ) from None
    except ValueError as error:
        raise UserError(
            f"{path} holds no calibration that can be read: {first_line(error)}: {again}"
        ) from None
    return found


def packed(shape: Shape) -> tuple[str, Arrays]:
    """A shape as its name and arrays."""
    match shape:
        case Normal():
            return "normal", {"noise": np.array([shape.noise])}
        case Scored(difficulty=None):
            return "scored", {"scores": shape.scores}
        case Scored(difficulty=Difficulty() as learnt):
            fields = {"knots": learnt.knots, "heights": learnt.heights, "weights": learnt.weights}
            return "weighted", {"scores": shape.scores, **fields, "floor": np.array([learnt.floor])}
        case Shifted():
            return "shifted", {"margins": shape.margins, "shifts": shape.shifts}
    raise TypeError(f"no way to keep {type(shape).__name__}")


FIELDS: dict[str, tuple[str, ...]] = {
    "normal": ("noise",),
    "scored": ("scores",),
    "weighted": ("floor", "heights", "knots", "scores", "weights"),
    "shifted": ("margins", "shifts"),
}
"""What each shape is kept as."""


def unpacked(name: str, fields: Arrays, levels: tuple[float, ...]) -> Shape:
    """A shape from its name and arrays; `ValueError` where no calibration has such."""
    if name not in FIELDS or tuple(sorted(fields)) != FIELDS[name]:
        raise ValueError(f"no shape {name[:80]!r} with {', '.join(sorted(fields))[:80]}")
    sizes = {field: array.size for field, array in fields.items()}
    if name == "weighted":
        sizes |= {"floor": 1, "weights": 3, "heights": sizes["knots"]}
    sizes |= {"normal": {"noise": 1}, "shifted": {"margins": len(levels)}}.get(name, {})
    for field, array in fields.items():
        if array.shape != (sizes[field],):
            raise ValueError(f"{field} has the shape {array.shape}, not {(sizes[field],)}")
        if field in ("scores", "knots") and (np.diff(array) < 0).any():
            raise ValueError(f"{field} are not in ascending order")
        if field in ("noise", "floor", "weights", "heights") and array.min() < 0:
            raise ValueError(f"{field} holds {array.min():g}, which is below 0")
    if name == "normal":
        return Normal(float(fields["noise"][0]))
    if name == "shifted":
        return Shifted(levels, fields["margins"], fields["shifts"])
    if name == "scored":
        return Scored(fields["scores"])
    floor = float(fields["floor"][0])
    if not floor > 0:
        raise ValueError(f"floor is {floor:g}, which is not above 0")
    return Scored(fields["scores"], Difficulty(fields["knots"], fields["heights"], fields["weights"], floor))


def calibration_table(calibrations: Iterable[Calibration]) -> pa.Table:
    """What was learnt, for people: one row for each method, kind, group and level.

    `half_width` is that of intervals, for kind `local` as a multiple of a face's expected error; `margin`
    is what quantiles are moved out by.
    """
    rows = []
    for one in calibrations:
        for group, shape in one.shapes.items():
            for place, level in enumerate(one.levels):
                row = {"method": one.method, "kind": one.kind, "group": group, "faces": one.faces[group]}
                if isinstance(shape, Shifted):
                    row["margin"] = float(shape.margins[place])
                elif isinstance(shape, Scored):
                    unit = Scored(shape.scores)
                    zero = Predicted(np.zeros(1), np.zeros(1))
                    row["half_width"] = float(unit.bounds(zero, [level])[1][0, 0])
                rows.append({**row, "level": level})
    return pa.Table.from_pylist(rows, schema=TABLE)


def prediction_tables(said: Mapping[str, Predicted], face_ids: pa.Array) -> dict[str, pa.Table]:
    """What methods say of the same faces, as the tables `predictions` and `quantiles`."""
    points, quantiles = [PREDICTIONS.empty_table()], []
    for method, one in said.items():
        names = {"method": pa.array([method] * len(one), pa.string()), "face_id": face_ids}
        points.append(pa.table({**names, "prediction": one.mean, "spread": one.spread}, schema=PREDICTIONS))
        if one.quantiles is not None:
            width = one.quantiles.shape[1]
            flat = pa.array(one.quantiles.astype(np.float32).ravel())
            column = pa.FixedSizeListArray.from_arrays(flat, type=vector_type(width))
            at = json.dumps({"probabilities": list(one.probabilities)}).encode()
            field = pa.field("quantiles", vector_type(width), nullable=False, metadata={KEY: at})
            schema = pa.schema([("method", pa.string()), ("face_id", pa.string()), field])
            quantiles.append(pa.table([*names.values(), column], schema=schema))
    tables = {"predictions": pa.concat_tables(points)}
    if quantiles:
        tables["quantiles"] = pa.concat_tables(quantiles)
    return tables


def read_prediction_tables(folder: Path) -> tuple[pa.Table, pa.Table | None]:
    """The tables of `prediction_tables` from a folder; no quantiles where no method had any.

    Raises
    ------
    UserError
        A file is missing or damaged, lacks a column or a value, or has one of another type.
    """
    predictions = read_as(folder / "predictions.parquet", SAID)
    path = folder / "quantiles.parquet"
    if not path.exists():
        return predictions, None
    quantiles = read_as(path, pa.schema([SAID.field("method"), SAID.field("face_id")]), ["quantiles"])
    vectors_of(quantiles, "quantiles", path)
    return predictions, quantiles


def said_of(
    predictions: pa.Table, quantiles: pa.Table | None, face_ids: pa.ChunkedArray
) -> dict[str, Predicted]:
    """What each method says of these faces, in their order, from the tables of `prediction_tables`.

    Raises
    ------
    UserError
        A face is not among them, a number is not finite, or quantiles do not say which they are.
    """
    found = {}
    for method in dict.fromkeys(predictions["method"].to_pylist()):
        rows = rows_of(predictions.filter(pa.compute.equal(predictions["method"], method)), face_ids)
        own = None if quantiles is None else quantiles.filter(pa.compute.equal(quantiles["method"], method))
        more: dict[str, Any] = {}
        if own is not None and own.num_rows:
            field = own.schema.field("quantiles")
            flat = rows_of(own, face_ids)["quantiles"].combine_chunks().flatten().to_numpy()
            values = flat.astype(np.float64).reshape(-1, field.type.list_size)
            try:
                at = tuple(map(float, json.loads(field.metadata[KEY.encode()])["probabilities"]))
                if len(at) != values.shape[1]:
                    raise ValueError(f"{len(at)} names of {values.shape[1]} quantiles")
            except (ValueError, LookupError, TypeError, RecursionError):
                raise UserError(
                    f"the quantiles of {method!r} do not say which they are: run calibrate again (dvc repro)"
                ) from None
            more = {"quantiles": values, "probabilities": at}
        one = Predicted(rows["prediction"].to_numpy(), rows["spread"].to_numpy(), **more)
        parts = [one.mean[:, None], one.spread[:, None], *([] if one.quantiles is None else [one.quantiles])]
        finite = np.isfinite(np.concatenate(parts, axis=1)).all(axis=1)
        if not finite.all():
            face = rows["face_id"][int(np.argmin(finite))]
            raise UserError(
                f"what {method!r} predicts of face {face} is not finite: run calibrate again (dvc repro)"
            )
        found[method] = one
    return found
