"""Files that must be there are opened, and errors told of the file that they befell."""

from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.core.files import opened


def test_errors_over_another_file_are_not_told_of_the_one_that_is_open(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("text")
    with pytest.raises(FileNotFoundError, match="elsewhere"), opened(tmp_path / "here"):
        (tmp_path / "elsewhere").open()


def test_a_file_that_is_missing_or_none_is_named(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "gone", "does not exist"), (tmp_path, "not a file")):
        with pytest.raises(UserError, match=rf"{path}.*{why}"), opened(path):
            pass
