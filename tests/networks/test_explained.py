"""`vec2age explain` of whole networks, on forty made faces and networks of a few thousand weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from typer.testing import CliRunner

from pipeline import config, losses
from pipeline.cli.app import app
from pipeline.cli.explaining import end_to_end
from pipeline.config import Params
from pipeline.core.errors import UserError
from pipeline.core.tables import read_table, write_table
from pipeline.report.explained import read_explained
from pipeline.stages import finetune, locations
from pipeline.training.networks.criterion import Criterion

PROJECT = Path(__file__).resolve().parents[2]
BACKBONE = "test_resnet"


def settings(**recipe: Any) -> Params:
    tree: dict[str, Any] = config.plain(config.read_yaml(PROJECT / "params.yaml"))
    wanted = tree["finetune"]
    wanted |= {"losses": ["mse", "dldl_v2", "coral"], "backbones": [BACKBONE], "seeds": [11, 12]}
    wanted["pictures"]["size"] = 24
    wanted["recipe"] |= {"epochs": 1, "batch_size": 8, **recipe}
    wanted["machine"]["threads"] = 1
    return config.check(tree, Path("params.yaml"))


def train(loss: str) -> None:
    finetune.run(settings(), 1, loss=loss, backbone=BACKBONE)


def explained(kind: str) -> dict[str, Any]:
    return {table.name: table for table in read_explained(locations.EXPLAINED)[kind]}


def predictions(loss: str) -> Any:
    """Of the better network: target, prediction and error by face, of test faces."""
    folder = locations.network_folder(loss, BACKBONE)
    scores = read_table(folder / "scores.parquet").to_pandas()
    best = scores.loc[scores["val_mae"].idxmin(), "member"]
    frame = read_table(folder / "predictions.parquet").to_pandas()
    mine = frame[(frame["member"] == best) & (frame["split"] == "test")].set_index("face_id")
    return mine.assign(error=(mine["prediction"] - mine["target"]).abs())


@pytest.mark.parametrize("loss", ["dldl_v2", "coral"])
def test_faces_show_what_the_best_networks_number_rests_on(loss: str, project: Any) -> None:
    train(loss)
    end_to_end.faces(settings(), loss, BACKBONE, 3, None, None)
    table = explained("heat")[f"faces_network_{loss}_{BACKBONE}"]
    known = predictions(loss)
    said = {f"{row.target:g} → {row.prediction:.1f}" for row in known.itertuples()}
    assert len(table.frame) == 3
    assert set(table.frame["text"]) <= said
    assert (table.frame["overlay"] != table.frame["picture"]).all()
    assert table.frame["guided"].nunique() == 3, "gradients reach the pixels"
    end_to_end.faces(settings(), loss, BACKBONE, 3, "trunk.network.layer1", "target")
    table = explained("heat")[f"faces_network_{loss}_{BACKBONE}_target"]
    assert "Layer trunk.network.layer1." in str(table.settings["caption"])
    with pytest.raises(UserError, match="does not predict 'yaw': it predicts target"):
        end_to_end.faces(settings(), loss, BACKBONE, 3, None, "yaw")


def test_features_are_coloured_by_target_error_and_group(project: Any) -> None:
    train("mse")
    for colour in ("target", "error", "gender"):
        end_to_end.features(settings(), ["mse"], BACKBONE, "tsne", colour, 100)
    tables = explained("projection")
    known = predictions("mse").sort_index()
    prefix = f"features_network_mse_{BACKBONE}_tsne"
    assert tables[f"{prefix}_target"].frame["value"].tolist() == known["target"].tolist()
    np.testing.assert_allclose(tables[f"{prefix}_error"].frame["value"], known["error"], rtol=1e-5)
    assert set(tables[f"{prefix}_gender"].frame["label"]) <= {"f", "m"}
    with pytest.raises(UserError, match="cannot be coloured by 'mood': choose target, error, subject"):
        end_to_end.features(settings(), ["mse"], BACKBONE, "tsne", "mood", 100)


def test_the_loss_of_training_faces_is_in_the_middle_of_the_landscape(project: Any) -> None:
    train("mse")
    end_to_end.landscape(settings(), ["mse"], BACKBONE, 10, 0.5, 3, 0)
    frame = explained("plane")[f"plane_network_mse_{BACKBONE}"].frame
    found = end_to_end.trained("mse", BACKBONE)
    seen = end_to_end.pictures_of(settings(), found, *end_to_end.some_faces(settings(), found, "train", 10))
    with torch.no_grad():
        expected = float(found.criterion(found.network(seen.inputs), seen.targets))
    middle = frame[(frame["x"] == 0) & (frame["y"] == 0)]["loss"].iloc[0]
    assert middle == pytest.approx(expected, rel=1e-4)
    assert len(frame) == 9


def test_faces_that_a_network_may_have_learnt_are_not_shown_as_test_faces(project: Any) -> None:
    train("mse")
    splits = read_table(locations.SPLITS)
    other = {"train": "test", "test": "train", "validation": "validation"}
    moved = pa.array([other[name] for name in splits["split"].to_pylist()])
    write_table(
        splits.set_column(splits.column_names.index("split"), "split", moved), locations.SPLITS, "test"
    )
    found = end_to_end.trained("mse", BACKBONE)
    for split in ("test", "train"):
        with pytest.raises(UserError, match=r"was trained and judged on other faces than .*splits.parquet"):
            end_to_end.some_faces(settings(), found, split, 5)


def test_what_was_not_trained_is_named(project: Any) -> None:
    with pytest.raises(UserError, match="loss 'mse' and backbone 'vgg16': none was trained yet"):
        end_to_end.trained("mse", "vgg16")
    Path("params.yaml").write_bytes((PROJECT / "params.yaml").read_bytes())
    for options in (["--loss", "mse"], ["--backbone", "vgg16"], ["--column", "yaw"]):
        found = CliRunner().invoke(app, ["explain", "faces", *options]).exception
        assert isinstance(found, UserError)
        assert "named by --loss and --backbone together" in str(found)


def test_where_every_network_diverged_their_sentence_is_said(project: Any) -> None:
    diverging = settings(optimizer="sgd", lr=1e30, schedule={"name": "constant", "settings": {}})
    finetune.run(diverging, 1, loss="mse", backbone=BACKBONE)
    with pytest.raises(UserError) as raised:
        end_to_end.faces(settings(), "mse", BACKBONE, 3, None, None)
    said = str(raised.value)
    assert said.startswith(f"every network of models/cnn/mse/{BACKBONE} diverged, none can be explained: ")
    assert "seed 11: MSELoss became" in said
    assert said.endswith("lower the learning rate")


def test_ordinal_predictions_that_gradients_flow_from_are_expectations() -> None:
    criterion = Criterion(losses.build("or_cnn", labels=[20.0, 30.0, 40.0]))
    output = torch.zeros(1, 2, requires_grad=True)
    value = criterion.smooth_prediction(output)
    assert value.tolist() == [[30.0]], "20, 30, 40 at 1/2, 0, 1/2"
    value.sum().backward()
    assert output.grad is not None
    assert output.grad.abs().sum() > 0
    plain = Criterion(losses.build("mse"), span=(0.0, 100.0))
    assert plain.smooth_prediction(torch.tensor([0.25])).tolist() == [[25.0]]
