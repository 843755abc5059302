"""Tables of earlier stages, as later ones ask for them."""

import math
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from pipeline.cli import export
from pipeline.config import Params
from pipeline.core.errors import UserError
from pipeline.core.tables import write_table
from pipeline.evaluation.method_names import title_of
from pipeline.stages import locations, tracked, train
from pipeline.training.mlp.rates import RATES


@pytest.mark.parametrize("path", locations.NEEDED, ids=str)
def test_another_table_in_a_tables_place_is_named_with_what_to_do(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^{path} does not exist: run the stage that writes it"):
        locations.read(path)
    *others, last = locations.NEEDED[path]
    table = pa.table({name: ["train"] for name in (*others, "something_else")})
    write_table(table, path, "test")
    sentence = rf"^{path} has no column '{last}', it is another table: run the stage that writes it again"
    with pytest.raises(UserError, match=sentence):
        locations.read(path)
    write_table(table.append_column(last, [["train"]]), path, "test")
    assert locations.read(path).num_rows == 1


def test_a_split_that_nobody_knows_is_named_with_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for other in ("dev", None):
        write_table(pa.table({"face_id": ["a", "b"], "split": ["train", other]}), locations.SPLITS, "test")
        with pytest.raises(UserError, match=f"splits.parquet, row 1: split {other!r} is none of train, val"):
            locations.read(locations.SPLITS)


@pytest.mark.parametrize("text", ["[]", '{"a": NaN}', '{"a": 1, "a": 2}', "[" * 10**5, "", "\xff"], ids=repr)
def test_metrics_that_no_evaluation_writes_are_refused(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    locations.METRICS.parent.mkdir()
    locations.METRICS.write_text(text, encoding="latin-1")
    for read in (lambda: export.on_test_faces("ensemble", "split", 0.9), lambda: tracked.of_evaluate({})):
        with pytest.raises(UserError, match=r"^reports/metrics\.json cannot be read as JSON \([^\n]+\): run"):
            read()


@pytest.mark.parametrize(
    ("column", "value"), [("lr", math.nan), ("lr", -0.1), ("lr", math.inf), ("lr", None), ("seed", None)]
)
def test_a_rate_that_nothing_can_be_trained_with_is_named(
    column: str, value: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"member": 0, "seed": 1, "lr": 0.1, "origin": "fixed", "lrs": [], "losses": [], column: value}
    path = locations.rates("adam", "fixed")
    write_table(pa.Table.from_pylist([row], schema=RATES), path, "test")
    with pytest.raises(
        UserError, match=rf"^{path}, row 0: seed .* cannot be trained with: run vec2age find_"
    ):
        train.given_rates(Params.model_construct(), "adam", "fixed")


def test_rates_of_another_type_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = locations.rates("adam", "fixed")
    write_table(pa.table({name: ["x"] for name in RATES.names}), path, "test")
    with pytest.raises(UserError, match=rf"^{path}, column 'member': "):
        train.given_rates(Params.model_construct(), "adam", "fixed")


def test_a_level_of_more_digits_than_a_csv_has_finds_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    locations.TABLES.mkdir(parents=True)
    locations.METRICS.write_text("{}")
    rows = pd.DataFrame({"title": title_of("ensemble", "split"), "level": [2 / 3, 0.9], "group": ["f", "m"]})
    rows.to_csv(locations.TABLES / "uncertainty_groups.csv", index=False, float_format="%.6g")
    _, found = export.on_test_faces("ensemble", "split", 2 / 3)
    assert [row["group"] for row in found] == ["f"]
