"""The stage finetune: from crops to networks, tables, and vectors of the network that it trained."""

import re
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from ruamel.yaml import YAML

from pipeline import config as params
from pipeline.config import Params
from pipeline.core.errors import UserError
from pipeline.core.tables import producer_of, read_table, vector_type, write_table
from pipeline.evaluation.networks import results
from pipeline.losses.base import DivergedError
from pipeline.stages import embed, finetune
from pipeline.stages import locations as files
from pipeline.training.networks import fit, runs
from pipeline.training.networks import lightning as training
from pipeline.training.networks.pixels import Pixels
from pipeline.training.networks.saved import read_network
from pipeline.uncertainty.label_distributions import networks_said

PROJECT = Path(__file__).resolve().parents[2]
SIZE = 24


def tree(**changes: Any) -> dict[str, Any]:
    """params.yaml with a small network and small pictures; a change's double underscores are dots."""
    whole: dict[str, Any] = params.plain(params.read_yaml(PROJECT / "params.yaml"))
    small = {
        "finetune__losses": ["mse", "dldl_v2"],
        "finetune__backbones": ["test_resnet"],
        "finetune__seeds": [11, 12],
        "finetune__pictures__size": SIZE,
        "finetune__recipe__epochs": 2,
        "finetune__recipe__batch_size": 8,
        "finetune__machine__threads": 1,
    }
    for key, value in (small | changes).items():
        *path, last = key.split("__")
        place = whole
        for part in path:
            place = place[part]
        place[last] = value
    return whole


def settings(**changes: Any) -> Params:
    return params.check(tree(**changes), Path("params.yaml"))


def run(loss: str = "dldl_v2", workers: int = 1, **changes: Any) -> dict[str, Any]:
    return dict(finetune.run(settings(**changes), workers, loss=loss, backbone="test_resnet"))


def folder(loss: str = "dldl_v2") -> Path:
    return files.network_folder(loss, "test_resnet")


def hashes(loss: str = "dldl_v2") -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder(loss).iterdir())}


def test_networks_and_tables_are_written_and_agree(project: Any) -> None:
    summary = run()
    assert summary["networks"] == 2
    names = ["history", "predictions", "rejects", "scores"]
    assert [path.name for path in sorted(folder().iterdir())] == sorted(
        [*(f"{name}.parquet" for name in names), "member0.safetensors", "member1.safetensors"]
    )
    scores = read_table(folder() / "scores.parquet").to_pylist()
    assert [(row["member"], row["seed"]) for row in scores] == [(0, 11), (1, 12)]
    assert scores[0]["test_mae"] != scores[1]["test_mae"], "other seeds, other networks"
    predictions = read_table(folder() / "predictions.parquet")
    labels = producer_of(folder() / "predictions.parquet")["settings"]["labels"]
    for row in scores:
        for column, split in (("val_mae", "validation"), ("test_mae", "test")):
            mine = predictions.filter(
                pc.and_(pc.equal(predictions["member"], row["member"]), pc.equal(predictions["split"], split))
            )
            error = np.abs(mine["prediction"].to_numpy() - mine["target"].to_numpy()).mean()
            assert row[column] == pytest.approx(error, rel=1e-6)
            shapes = np.array(mine["distribution"].to_pylist())
            np.testing.assert_allclose(shapes @ np.array(labels), mine["prediction"].to_numpy(), rtol=1e-4)
            spread = np.sqrt((shapes * (np.array(labels) - (shapes @ labels)[:, None]) ** 2).sum(1))
            np.testing.assert_allclose(mine["spread"].to_numpy(), spread, rtol=1e-3)
    faces = predictions.filter(pc.equal(predictions["member"], 0)).select(["face_id", "target", "split"])
    said = networks_said(predictions, labels, faces, [0.1, 0.5, 0.9], "these")
    both = predictions["prediction"].to_numpy().reshape(2, -1)
    np.testing.assert_allclose(said.mean, both.mean(0), rtol=1e-4)
    history = read_table(folder() / "history.parquet").to_pylist()
    best = min((row for row in history if row["member"] == 1), key=lambda row: row["val_mae"])
    assert scores[1]["best_epoch"] == best["epoch"]
    assert scores[1]["val_mae"] == pytest.approx(best["val_mae"], rel=1e-5)
    assert not files.checkpoint_folder("dldl_v2", "test_resnet").exists()


@torch.no_grad()
def test_the_weights_that_were_written_predict_what_was_written(project: Any) -> None:
    run("mse", finetune__seeds=1)
    network, architecture = read_network(folder("mse") / "member0.safetensors")
    (cache,) = files.PIXELS.iterdir()
    pixels = Pixels(cache)[np.arange(len(project.ids))]
    output = network(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    expected = dict(zip(project.ids, architecture.criterion().prediction(output)[:, 0].tolist(), strict=True))
    predictions = read_table(folder("mse") / "predictions.parquet")
    assert "distribution" not in predictions.column_names
    for row in predictions.to_pylist():
        assert row["prediction"] == pytest.approx(expected[row["face_id"]], rel=1e-4)


def test_a_second_run_gives_the_same_bytes_with_any_number_of_workers(project: Any) -> None:
    run()
    first = hashes()
    shutil.rmtree(files.PIXELS)
    run(workers=2)
    assert hashes() == first


def test_a_killed_run_goes_on_to_the_same_bytes(project: Any, killed: Callable[..., None]) -> None:
    changes = {"finetune__recipe__epochs": 12, "finetune__seeds": 1}
    run(**changes)
    expected = hashes()
    shutil.rmtree(folder())
    with open("params.yaml", "w") as file:
        YAML().dump(tree(**changes), file)
    words = ["finetune", "--loss", "dldl_v2", "--backbone", "test_resnet", "--workers", "1"]
    killed("from pipeline.__main__ import main; main()", words, "*/member0/last.ckpt", finished=3)
    assert not (folder() / "scores.parquet").exists()
    run(**changes)
    assert hashes() == expected


@pytest.mark.parametrize(("edited", "trained"), [(False, 1), (True, 2)], ids=["same code", "other code"])
def test_a_network_that_was_done_before_an_interruption_is_kept_unless_code_was_edited(
    project: Any, monkeypatch: pytest.MonkeyPatch, edited: bool, trained: int
) -> None:
    changes = {"finetune__recipe__epochs": 1}
    with monkeypatch.context() as patched:
        patched.setattr(runs, "predict", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(**changes)
    if edited:
        monkeypatch.setattr(training, "source_of", lambda *places: b"edited", raising=False)
    trainings, train = [], fit.train

    def counted(*arguments: Any) -> None:
        trainings.append(arguments)
        train(*arguments)

    monkeypatch.setattr(fit, "train", counted)
    run(**changes)
    assert len(trainings) == trained


def stopped(*arguments: Any) -> None:
    raise KeyboardInterrupt


def test_the_code_that_a_run_belongs_to_is_all_that_it_trains_with() -> None:
    import grimp

    graph = grimp.build_graph("pipeline", cache_dir=None)
    for after in ("pipeline.training.networks.predicting", "pipeline.training.networks.run_tables"):
        graph.remove_module(after)
    told = ("credentials", "errors", "processes", "progress", "registry", "shield", "source_code")
    words = {f"pipeline.core.{name}" for name in told}
    used = set[str]()
    for module in ("pipeline.training.networks.runs", "pipeline.training.networks.classifier_fit"):
        used |= {module, *graph.find_upstream_modules(module)} - words
    places = {f"pipeline.{place.replace('/', '.')}" for place in training.CODE}
    packages = {module.rpartition(".")[0] for module in used}
    for module in used - packages:
        assert any(f"{module}.".startswith(f"{place}.") for place in places), module
    for place in places:
        assert any(f"{module}.".startswith(f"{place}.") for module in used), place


def test_a_variant_is_a_loss_with_settings_and_changes_of_its_own(project: Any) -> None:
    variants = {
        "uc_weak": {
            "loss": "unimodal_concentrated",
            "settings": {"unimodal_weight": 10.0},
            "changes": {"recipe.epochs": 1, "faces.balance": "gender", "head.hidden": [4]},
        }
    }
    changes = {"finetune__variants": variants, "finetune__losses": ["uc_weak"], "finetune__seeds": 1}
    run("uc_weak", **changes)
    recorded = producer_of(folder("uc_weak") / "scores.parquet")["settings"]
    assert recorded["loss"] == "unimodal_concentrated"
    assert recorded["loss_settings"] == {"unimodal_weight": 10.0}
    assert recorded["faces"]["balance"] == "gender"
    assert read_table(folder("uc_weak") / "history.parquet").num_rows == 1
    network, _ = read_network(folder("uc_weak") / "member0.safetensors")
    assert sum(isinstance(layer, torch.nn.Linear) for layer in network.head.modules()) == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"recipe.speed": 1}, r"variant 'x' changes 'recipe\.speed', which finetune does not have"),
        (
            {"recipe.lr": -1.0},
            r"variant 'x': parameter 'recipe\.lr' is -1\.0: input should be greater than 0",
        ),
    ],
)
def test_a_wrong_variant_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        settings(finetune__variants={"x": {"loss": "mse", "changes": change}})


def test_three_angles_are_predicted_with_those_out_of_range_counted(project: Any) -> None:
    faces = {
        "targets": ["yaw", "pitch", "roll"],
        "labels": {"low": -99.0, "high": 99.0, "count": 200},
        "weight": None,
        "balance": None,
    }
    summary = run("dldl_v2", finetune__faces=faces, finetune__seeds=1)
    assert summary["rejected: out_of_range"] == 1
    rejects = read_table(folder() / "rejects.parquet").to_pylist()
    assert [row["face_id"] for row in rejects] == [project.face_id(3)]
    predictions = read_table(folder() / "predictions.parquet")
    assert set(predictions["column"].to_pylist()) == {"yaw", "pitch", "roll"}
    assert predictions["distribution"].type.list_size == 200
    assert set(predictions.filter(pc.equal(predictions["column"], "roll"))["target"].to_pylist()) == {0.0}


def test_a_loss_that_diverges_is_recorded_with_its_place(project: Any) -> None:
    recipe = tree()["finetune"]["recipe"] | {
        "optimizer": "sgd",
        "lr": 1e30,
        "schedule": {"name": "constant", "settings": {}},
    }
    summary = run("mse", finetune__recipe=recipe)
    assert (summary["networks"], summary["diverged"]) == (0, 2)
    sentence = r"loss 'mse' with backbone 'test_resnet', seed 11: MSELoss became \w+ in epoch 1, step \d"
    assert re.match(sentence, summary["why"])
    scores = read_table(folder("mse") / "scores.parquet").to_pylist()
    assert [row["seed"] for row in scores] == [11, 12]
    assert scores[0]["diverged"] == summary["why"]
    assert scores[0]["test_mae"] is None
    assert read_table(folder("mse") / "predictions.parquet").num_rows == 0


def test_a_network_that_diverges_does_not_stop_the_others(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("mse")
    alone = read_table(folder("mse") / "predictions.parquet")
    fit = runs.fit_network

    def diverging(*arguments: Any, seed: int, **more: Any) -> Any:
        if seed == 11:
            raise DivergedError("MSELoss became nan in epoch 1, step 1: lower the learning rate")
        return fit(*arguments, seed=seed, **more)

    monkeypatch.setattr(runs, "fit_network", diverging)
    summary = run("mse")
    assert (summary["networks"], summary["diverged"]) == (1, 1)
    scores = read_table(folder("mse") / "scores.parquet").to_pylist()
    assert [row["diverged"] is None for row in scores] == [False, True]
    found = read_table(folder("mse") / "predictions.parquet")
    assert found.equals(alone.filter(pc.equal(alone["member"], 1)))
    assert [path.name for path in folder("mse").glob("*.safetensors")] == ["member1.safetensors"]
    (shown,) = results.read(files.NETWORKS, ["mse"], ["test_resnet"])
    assert (len(shown.scores), len(shown.diverged)) == (1, 1)


def test_what_params_do_not_ask_for_is_refused(project: Any) -> None:
    with pytest.raises(UserError, match="does not ask for loss 'l1' with backbone 'test_resnet'"):
        run("l1")


def test_pictures_too_small_for_a_backbone_are_refused_before_training(project: Any) -> None:
    with pytest.raises(UserError, match="backbone 'facenet' cannot take 24 x 24 pixels"):
        finetune.run(settings(finetune__backbones=["facenet"]), 1, loss="mse", backbone="facenet")


def test_where_there_are_vectors_and_no_pictures_nothing_is_trained(project: Any) -> None:
    width = 2
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array([0.0] * width, pa.float32()), type=vector_type(width)
    )
    ready = pa.table({"face_id": ["a"]}).append_column("vector", vectors)
    write_table(ready, files.READY_VECTORS, "vec2age ingest")
    assert run() == {"networks": 0, "why": "the data set holds vectors, no pictures"}
    assert read_table(folder() / "predictions.parquet").num_rows == 0


def test_the_network_becomes_an_encoder_of_the_vector_pipeline(project: Any) -> None:
    run(finetune__seeds=1)
    weights = folder() / "member0.safetensors"
    chosen = {
        "encoder__names": ["finetuned", "dlib"],
        "encoder__finetuned": {"weights": str(weights), "sha256": sha256(weights.read_bytes()).hexdigest()},
    }
    embed.run(settings(**chosen), 1)
    faces = read_table(files.FACES)
    network, _ = read_network(weights)
    assert faces["vector"].type.list_size == network.trunk.width + 128
    splits = read_table(files.SPLITS)
    swapped = pa.array([{"train": "test", "test": "train"}.get(s, s) for s in splits["split"].to_pylist()])
    write_table(splits.set_column(1, "split", swapped), files.SPLITS, "vec2age split")
    with pytest.raises(UserError, match=r"member0\.safetensors has learnt from 24 of the 24 test faces"):
        embed.run(settings(**chosen), 1)
