"""Tables of earlier stages, as later ones ask for them."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from pipeline.errors import UserError
from pipeline.reports.uncertainty_names import title_of
from pipeline.stages import exporting, files
from pipeline.tables import write_table


@pytest.mark.parametrize("path", files.NEEDED, ids=str)
def test_another_table_in_a_tables_place_is_named_with_what_to_do(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^{path} does not exist: run the stage that writes it"):
        files.read(path)
    *others, last = files.NEEDED[path]
    table = pa.table({name: ["x"] for name in (*others, "something_else")})
    write_table(table, path, "test")
    sentence = rf"^{path} has no column '{last}', it is another table: run the stage that writes it again"
    with pytest.raises(UserError, match=sentence):
        files.read(path)
    write_table(table.append_column(last, [["x"]]), path, "test")
    assert files.read(path).num_rows == 1


def test_a_level_of_more_digits_than_a_csv_has_finds_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files.TABLES.mkdir(parents=True)
    files.METRICS.write_text("{}")
    rows = pd.DataFrame({"title": title_of("ensemble", "split"), "level": [2 / 3, 0.9], "group": ["f", "m"]})
    rows.to_csv(files.TABLES / "uncertainty_groups.csv", index=False, float_format="%.6g")
    _, found = exporting.on_test_faces("ensemble", "split", 2 / 3)
    assert [row["group"] for row in found] == ["f"]
