from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.core.tables import write_table
from pipeline.evaluation.table import Table
from pipeline.report import page
from pipeline.report.classification_section import sections
from pipeline.report.classification_tables import all_tables, metrics, read_classifiers
from pipeline.report.page import Page, Picture

LOSSES = ["cross_entropy", "mam_softmax"]
SETTINGS = {"classes": ["cat", "dog"], "architecture": "emosynthnet", "optimizer": "adam"}


def put(folder: Path, loss: str, accuracies: list[float]) -> None:
    seeds = range(len(accuracies))
    rng = np.random.default_rng(0)
    scores = pd.DataFrame(
        {"seed": seeds, "loss": 0.5, "accuracy": accuracies, "precision": 0.8, "recall": 0.7, "f1": 0.75}
    )
    history = pd.DataFrame(
        [
            {"seed": seed, "epoch": epoch, "train_accuracy": 0.5, "val_accuracy": 0.5 + 0.1 * epoch}
            for seed in seeds
            for epoch in (1, 2, 3)
        ]
    )
    target = np.tile([0, 1], 5 * len(accuracies))
    predictions = pd.DataFrame({"seed": np.repeat(list(seeds), 10), "target": target, "predicted": 0})
    predictions.loc[target == 1, "predicted"] = rng.integers(0, 2, (target == 1).sum())
    for name, frame in {"scores": scores, "history": history, "predictions": predictions}.items():
        table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
        write_table(table, folder / loss / f"{name}.parquet", "vec2age classify", SETTINGS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path, "cross_entropy", [0.9, 0.8])
    put(tmp_path, "mam_softmax", [0.95, 0.93])
    return tmp_path


def test_one_row_a_loss_in_the_thesiss_columns(folder: Path) -> None:
    (section,) = sections(read_classifiers(folder, LOSSES))
    table = section.blocks[0]
    assert isinstance(table, Table)
    assert [column.label for column in table.columns][:9] == [
        "method",
        "optimiser",
        "loss",
        "accuracy (%)",
        "± over seeds",
        "error",
        "precision (%)",
        "recall (%)",
        "F1",
    ]
    assert table.frame["loss_name"].tolist() == ["CE", "MAM-SoftMax"]
    assert table.frame["accuracy"].tolist() == pytest.approx([85.0, 94.0])
    assert table.frame["spread"].iloc[0] == pytest.approx(np.std([90, 80], ddof=1))
    assert "judged on 10 test pictures" in section.intro


def test_confusion_classes_and_costs_are_on_the_page(folder: Path) -> None:
    costs = pd.DataFrame([{"method": "A", "parameters": 1.0, "flops": 2.0, "size_mb": 4.0, "depth": 3}])
    (section,) = sections(read_classifiers(folder, LOSSES), costs)
    pictures = [block for block in section.blocks if isinstance(block, Picture)]
    assert [picture.name for picture in pictures] == ["confusion_cross_entropy", "confusion_mam_softmax"]
    assert "of dog is taken for cat" in pictures[0].caption
    tables = [block.name for block in section.blocks if isinstance(block, Table)]
    assert tables == ["classification_scores", "classes_cross_entropy", "classes_mam_softmax", "model_costs"]
    assert "Confusion with MAM-SoftMax" in page.render(Page("title", sections=[section]))


def test_tables_and_metrics_are_of_the_losses_that_are_asked_for(folder: Path) -> None:
    put(folder, "focal", [0.1, 0.1])
    runs = read_classifiers(folder, LOSSES)
    assert metrics(runs)["mam_softmax"]["accuracy"] == pytest.approx(0.94)
    assert set(metrics(runs)) == set(LOSSES)
    names = [table.name for table in all_tables(runs)]
    assert names == ["classification_scores", "classes_cross_entropy", "classes_mam_softmax"]


def test_nothing_trained_is_no_section(tmp_path: Path) -> None:
    assert read_classifiers(tmp_path, LOSSES) == []
    assert sections([]) == []
