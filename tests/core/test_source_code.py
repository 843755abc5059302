"""What a kept result was made by."""

from pathlib import Path

import pytest

from pipeline.core.source_code import source_of


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "nets" / "deep").mkdir(parents=True)
    for name in ("seeds", "nets/b", "nets/a", "nets/deep/c"):
        (tmp_path / f"{name}.py").write_text(f"{name}\n")
    (tmp_path / "nets" / "notes.txt").write_text("not code")
    return tmp_path


def test_a_package_is_all_of_its_modules_in_the_order_of_their_names(package: Path) -> None:
    assert source_of("nets", "seeds", package=package) == b"nets/a\nnets/b\nnets/deep/c\nseeds\n"
    assert source_of("nets/a", package=package) == b"nets/a\n"


def test_what_is_edited_later_in_a_process_is_not_what_it_runs(package: Path) -> None:
    before = source_of("seeds", package=package)
    (package / "seeds.py").write_text("edited")
    assert source_of("seeds", package=package) == before


def test_a_module_that_is_not_there_is_named(package: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no module or package net$"):
        source_of("seeds", "net", package=package)
