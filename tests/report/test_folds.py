"""Runs of several folds joined: means and spreads by plain arithmetic; folds that do not belong together."""

from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.core.errors import UserError
from pipeline.core.tables import write_table
from pipeline.evaluation.folds_joined import as_text, join
from pipeline.evaluation.table import write
from pipeline.training.networks.run_tables import SCORES


def networks(fold: Path, errors: list[float | None], run: str = "cnn/mse/vgg16") -> None:
    """A run of whole networks; None diverged."""
    rows = [
        {"member": k, "seed": k, "diverged": "it became nan"}
        if error is None
        else {"member": k, "seed": k, "val_mae": error + 1, "test_mae": error}
        for k, error in enumerate(errors)
    ]
    write_table(pa.Table.from_pylist(rows, SCORES), fold / run / "scores.parquet", "vec2age finetune")


def vectors(fold: Path, errors: list[float], diverged: list[bool]) -> None:
    """A run of models on vectors."""
    table = pa.table({"seed": [1, 2], "val_mae": errors, "test_mae": errors, "diverged": diverged})
    write_table(table, fold / "fixed/adam/scores.parquet", "vec2age train")


@pytest.fixture
def folds(tmp_path: Path) -> list[Path]:
    found = [tmp_path / name for name in "01"]
    networks(found[0], [2.0, 2.4])
    networks(found[1], [3.0, None])
    vectors(found[0], [5.0, 99.0], [False, True])
    vectors(found[1], [6.0, 8.0], [False, False])
    other = pa.table({"seed": [1], "test_accuracy": [0.5]})
    write_table(other, found[0] / "classifiers/focal/scores.parquet", "vec2age classify")
    return found


def test_every_run_gets_its_mean_and_both_spreads(folds: list[Path], tmp_path: Path) -> None:
    table = join(folds)
    rows = table.frame.set_index("run")
    assert rows.index.tolist() == ["cnn/mse/vgg16", "fixed/adam"]
    nets, models = rows.loc["cnn/mse/vgg16"], rows.loc["fixed/adam"]
    assert nets["test_mae"] == pytest.approx((2.2 + 3.0) / 2)
    assert nets["test_mae_fold_std"] == pytest.approx(0.8 / 2**0.5)
    assert nets["test_mae_seed_std"] == pytest.approx(0.4 / 2**0.5)
    assert (nets["folds"], nets["seeds"], nets["diverged"]) == (2, 2, 1)
    assert models["test_mae"] == pytest.approx((5 + 7) / 2), "what a diverged model scored is no error"
    write([table], tmp_path / "reports")
    assert (tmp_path / "reports/folds.csv").read_text().startswith("run,folds,seeds,diverged,test_mae,")
    assert "2.600" in as_text(table)


def test_folds_that_do_not_belong_together_are_named(folds: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1 fold has no spread over folds"):
        join(folds[:1])
    for wrong in ([tmp_path / "nowhere"], [folds[0], tmp_path / "nowhere"]):
        with pytest.raises(UserError, match="nowhere does not exist: name a copy of the folder models"):
            join(wrong)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty holds no scores\.parquet with a test_mae"):
        join([tmp_path / "empty"])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is not a folder"):
        join([folds[0], tmp_path / "file"])
    with pytest.raises(UserError, match=r"0 and \S+0 have the same errors in every run: they are one fold"):
        join([folds[0], folds[0]])
    networks(folds[1], [1.0])
    with pytest.raises(UserError, match=r"run 'cnn/mse/vgg16' has 1 seeds in \S+1 and 2 in \S+0"):
        join(folds)
    (folds[1] / "fixed/adam/scores.parquet").unlink()
    networks(folds[1], [1.0, 1.5])
    with pytest.raises(UserError, match="1 lacks the run 'fixed/adam' that another fold has") as refused:
        join(folds)
    assert str(refused.value).endswith(f"or delete {folds[0]}/fixed/adam if other settings left it behind")


def test_what_earlier_settings_left_in_every_copy_is_named(folds: list[Path]) -> None:
    for fold in folds:
        for loss in ("dldl_v2", "l1"):
            networks(fold, [4.0, 4.5], f"cnn/{loss}/resnet10t")
    with pytest.raises(UserError, match="have the same errors in the runs ") as refused:
        join(folds)
    assert str(refused.value).endswith(
        "in the runs cnn/dldl_v2/resnet10t, cnn/l1/resnet10t: other settings left them behind, delete those "
        "folders in both"
    )


def test_the_command_prints_and_writes_the_table(folds: list[Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["folds", *map(str, folds), "--output", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "cnn/mse/vgg16" in done.output
    assert "2.600" in done.output
    rows = (tmp_path / "out/folds.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["run", "cnn/mse/vgg16", "fixed/adam"]
