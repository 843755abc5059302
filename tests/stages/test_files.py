"""Tables of earlier stages, as later ones ask for them."""

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.errors import UserError
from pipeline.stages import files
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
