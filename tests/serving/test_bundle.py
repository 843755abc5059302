"""What a bundle holds, and everything that makes its loader refuse."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.backbones.trained import METADATA_KEY
from pipeline.backbones.trunks import build_trunk
from pipeline.core.errors import UserError
from pipeline.core.tables import sha256
from pipeline.encoders import View
from pipeline.serving import packing
from pipeline.serving.bundle import Bundle, load
from pipeline.serving.card import model_card
from pipeline.serving.rebuilt_encoders import EncoderSettings, matching_encoders
from pipeline.serving.reference import Reference, chosen, nearest
from pipeline.serving.rows import judge

New = Callable[..., str]
DEEP = "[" * 100_000


@pytest.fixture
def copied(model_folder: Path, tmp_path: Path) -> Path:
    """A bundle that may be spoilt."""
    return Path(shutil.copytree(model_folder, tmp_path / "bundle"))


def edit(folder: Path, **changes: object) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_it_holds_safetensors_json_and_text_alone_and_the_same_content_has_the_same_id(
    model_folder: Path, tmp_path: Path, new_bundle: New
) -> None:
    again = tmp_path / "again"
    identity = new_bundle(again)
    names = sorted(path.name for path in model_folder.iterdir())
    assert names == [
        "MODEL_CARD.md",
        "bundle.json",
        "calibration.safetensors",
        "model.safetensors",
        "reference.safetensors",
    ]
    for name in names:
        assert (again / name).read_bytes() == (model_folder / name).read_bytes(), name
        with pytest.raises(
            (pickle.UnpicklingError, ValueError, EOFError, AttributeError, IndexError, KeyError)
        ):
            pickle.loads((again / name).read_bytes())
    assert load(again, pictures=False).id == identity
    assert new_bundle(tmp_path / "other", level=0.5) != identity


def test_a_loaded_bundle_predicts_as_its_parts_do(model: Bundle) -> None:
    x = np.random.default_rng(2).normal(0, 0.1, (7, 128)).astype(np.float32)
    rows = judge(model, x)
    plain = model.method.members.predict(x).double().numpy()
    lower, upper = model.calibration.bounds(model.method(x))
    for k, row in enumerate(rows):
        assert row["prediction"] == pytest.approx(plain[:, k].mean(), abs=1e-3)
        assert row["spread"] == pytest.approx(plain[:, k].std(ddof=1), abs=1e-3)
        assert row["lower"] == pytest.approx(lower[k, 1], abs=1e-4)
        assert row["upper"] == pytest.approx(upper[k, 1], abs=1e-4)
        assert (row["level"], row["threshold"]) == (0.9, 18.0)
        assert 0 < row["probability_under"] < 1
    narrow = judge(model, x, 0.5)
    assert all(a["lower"] > b["lower"] for a, b in zip(narrow, rows, strict=True))
    assert judge(model, x[:0]) == []
    with pytest.raises(UserError, match=r"level 0.8 was not calibrated: choose one of 0.5, 0.9"):
        judge(model, x, 0.8)


def test_without_a_threshold_there_is_no_probability(tmp_path: Path, new_bundle: New) -> None:
    new_bundle(tmp_path / "b", threshold=None)
    (row,) = judge(load(tmp_path / "b", pictures=False), np.zeros((1, 128), np.float32))
    assert row["threshold"] is None
    assert "probability_under" not in row


def test_an_encoder_with_another_fingerprint_is_refused(tmp_path: Path, new_bundle: New) -> None:
    encoder = EncoderSettings(("dlib",), (View(),), 0.25)
    (own,) = [one.fingerprint for one in encoder.build()]
    for other in (
        own.replace("pre1", "pre2"),
        own.replace("fp32", "fp32+cuda"),
        "net/0f0f/160/pre1/fp32/whole",
    ):
        new_bundle(tmp_path / "b", encoder={**encoder.described(), "fingerprints": [other]})
        with pytest.raises(UserError) as raised:
            load(tmp_path / "b")
        assert f"trained on vectors of {other}, the encoder here is {own}" in str(raised.value)
    # other cuts of the same face give other vectors, too
    tighter = EncoderSettings(("dlib",), (View(padding=0.1),), 0.25)
    new_bundle(tmp_path / "b", encoder={**tighter.described(), "fingerprints": [own]})
    with pytest.raises(UserError, match="their vectors differ"):
        load(tmp_path / "b")
    with pytest.raises(UserError, match="trained with 2 encoders and 1 are described"):
        matching_encoders(encoder, [own, own])


def test_a_lower_rung_of_the_ladder_is_found_by_its_fingerprint() -> None:
    exact = EncoderSettings(("dlib",), (View(),), 0.25)
    reduced = EncoderSettings(("dlib",), (View(),), 0.25, precision="bfloat16")
    (own,) = [one.fingerprint for one in exact.build()]
    (found,) = matching_encoders(reduced, [own])
    assert found.fingerprint == own


def test_a_model_of_ready_made_vectors_answers_about_vectors_alone(tmp_path: Path, new_bundle: New) -> None:
    encoder = EncoderSettings(("dlib",), (View(),), 0.25)
    new_bundle(tmp_path / "b", encoder={**encoder.described(), "fingerprints": []})
    assert judge(load(tmp_path / "b", pictures=False), np.zeros((2, 128), np.float32))
    with pytest.raises(UserError, match="it can be asked about vectors, not about pictures"):
        load(tmp_path / "b")


@pytest.mark.parametrize("name", ["model.safetensors", "calibration.safetensors", "MODEL_CARD.md"])
def test_a_changed_or_missing_file_is_refused(copied: Path, name: str) -> None:
    data = bytearray((copied / name).read_bytes())
    data[-1] ^= 1
    (copied / name).write_bytes(data)
    with pytest.raises(UserError, match=f"{name} is not the file that was exported"):
        load(copied)
    (copied / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        load(copied)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "cannot be read as JSON"),
        (DEEP, r"bundle\.json cannot be read as JSON .*: export the model again"),
        ("[]", "has the format None"),
        ('{"format": 99}', "has the format 99, this program reads 1"),
        ('{"format": true}', "has the format True, this program reads 1"),
        ('{"format": 1, "format": 1}', "the key 'format' occurs twice"),
        ('{"format": 1, "level": 1e999}', "1e999 is no number"),
        ('{"format": 1, "files": {}}', "'version' is missing: export the model again"),
    ],
)
def test_a_garbled_description_is_refused(copied: Path, content: str, sentence: str) -> None:
    (copied / "bundle.json").write_text(content)
    with pytest.raises(UserError, match=sentence):
        load(copied)


@pytest.mark.parametrize("name", ["model.safetensors", "calibration.safetensors", "reference.safetensors"])
def test_a_file_whose_description_is_garbled_is_refused(copied: Path, name: str) -> None:
    listed = json.loads((copied / "bundle.json").read_text())["files"]
    kind = torch.float64 if name.startswith("calibration") else torch.float32
    save_file({"x": torch.zeros(1, dtype=kind)}, copied / name, {"vec2age": DEEP})
    edit(copied, files={**listed, name: sha256(copied / name)})
    with pytest.raises(UserError, match=rf"{name} cannot be read as JSON \(it is nested too deeply\)"):
        load(copied)


def test_more_garbled_descriptions_are_refused(copied: Path) -> None:
    described = json.loads((copied / "bundle.json").read_text())
    listed, crop = described["files"], described["crop"]
    edit(copied, files={**listed, "../../etc/passwd": "0" * 64})
    with pytest.raises(UserError, match=r"the file '\.\./\.\./etc/passwd' is no plain name"):
        load(copied)
    edit(copied, files=listed, crop=None)
    with pytest.raises(UserError, match="'crop' is None"):
        load(copied)
    edit(copied, crop=crop, level=0.77)
    with pytest.raises(UserError, match=r"level 0\.77 was not calibrated"):
        load(copied)
    for path in (copied / "nothing", copied / "bundle.json"):  # exporting onto the latter would be refused
        with pytest.raises(UserError, match=r"is no model bundle: name a folder that vec2age export wrote$"):
            load(path)


@pytest.mark.parametrize("key", ["names", "views", "settings", "combine", "margin", "fingerprints"])
def test_an_encoder_that_is_not_described_in_full_is_refused(copied: Path, key: str) -> None:
    encoder = json.loads((copied / "bundle.json").read_text())["encoder"]
    edit(copied, encoder={name: value for name, value in encoder.items() if name != key})
    with pytest.raises(
        UserError, match=rf"bundle\.json: 'encoder\.{key}' is missing: export the model again"
    ):
        load(copied)
    edit(copied, encoder=encoder | {key: 5 if key == "settings" else None})
    with pytest.raises(UserError):
        load(copied)


def test_weights_are_never_fetched_because_a_bundle_says_so() -> None:
    described = EncoderSettings(
        ("facenet",), (View(),), 0.25, settings={"facenet": {"pretrained": "vggface2", "download": True}}
    ).described()
    assert EncoderSettings.of(described, {}).settings["facenet"]["download"] is False


def finetuned(path: Path) -> EncoderSettings:
    """The encoder of a small network whose file is written here."""
    trunk = build_trunk("test_resnet")
    tensors = {f"trunk.{key}": tensor.contiguous() for key, tensor in trunk.state_dict().items()}
    look = {"framing": "crop", "size": 32, "padding": None, "resize": None}
    told = {"backbone": "test_resnet", "backbone_settings": {}, "look": look, "width": trunk.width}
    save_file(tensors, path, {METADATA_KEY: json.dumps(told)})
    return EncoderSettings(("finetuned",), (View(),), 0.25, settings={"finetuned": {"weights": str(path)}})


def test_a_network_of_ones_own_goes_along_and_is_loaded_from_the_bundle(
    copied: Path, new_bundle: New, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    kept, weights = (wanted := finetuned(here / "own.safetensors")).packed()
    (encoder,) = wanted.build()
    crops = np.random.default_rng(1).integers(0, 255, (2, 48, 48, 3), dtype=np.uint8)
    expected = encoder.encode(crops)
    described = {**kept.described(), "fingerprints": [encoder.fingerprint]}
    (name,) = weights
    extra = {name: partial(shutil.copyfile, weights[name])}
    new_bundle(here / "bundle", extra=extra, encoder=described, width=encoder.dim)
    assert str(tmp_path) not in (here / "bundle" / "bundle.json").read_text()
    away = Path(shutil.move(here / "bundle", tmp_path / "away"))
    shutil.rmtree(here)
    monkeypatch.chdir(tmp_path)
    (found,) = load(Path("away")).encoders
    monkeypatch.chdir("/")  # before the first picture
    assert (found.encode(crops) == expected).all()

    edit(away, encoder={**described, "settings": {"finetuned": {"weights": "/etc/passwd"}}})
    with pytest.raises(
        UserError, match="the bundle holds no file '/etc/passwd', which its encoder finetuned"
    ):
        load(away)
    (away / name).write_bytes(b"another")
    with pytest.raises(UserError, match=r"encoder\.finetuned\.weights is not the file that was exported"):
        load(away)


def test_a_file_of_facenet_goes_along_and_the_published_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "f.pt").write_bytes(b"weights")
    own = {"pretrained": "vggface2", "weights": str(tmp_path / "f.pt"), "sha256": None, "download": False}
    wanted = EncoderSettings(("facenet", "dlib"), (View(),), 0.25, settings={"facenet": own, "dlib": {}})
    kept, weights = wanted.packed()
    assert weights == {"encoder.facenet.weights": tmp_path / "f.pt"}
    assert kept.settings["facenet"]["weights"] == "encoder.facenet.weights"
    assert kept.settings["facenet"]["sha256"] == sha256(tmp_path / "f.pt")
    assert replace(wanted, settings={"facenet": {**own, "weights": None}}).packed()[1] == {}


def test_it_replaces_an_older_bundle(tmp_path: Path, new_bundle: New) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    new_bundle(folder)
    first = (folder / "bundle.json").stat().st_ino
    new_bundle(folder)
    assert (folder / "bundle.json").stat().st_ino != first
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_link_to_a_bundle_stays_a_link_however_often_it_is_replaced(
    tmp_path: Path, new_bundle: New
) -> None:
    (tmp_path / "latest").symlink_to("v1")
    for _ in range(3):
        new_bundle(tmp_path / "latest")
        assert (tmp_path / "latest").readlink() == Path("v1")
        assert (tmp_path / "v1" / "bundle.json").is_file()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "v1"]


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"precious.txt": "x"}, r"is no bundle \(it holds precious\.txt\)"),
        ({"bundle.json": '{"name": "webpack"}', "thesis.tex": "x"}, r"is no bundle"),
        ({"bundle.json": '{"format": 1}', "thesis.tex": "x"}, r"is no bundle"),
        ({"bundle.json": "[]"}, r"is no bundle"),
        ({"bundle.json": "not JSON"}, r"is no bundle"),
        ({"bundle.json": DEEP}, r"is no bundle"),
    ],
)
def test_it_replaces_no_other_folder(
    tmp_path: Path, new_bundle: New, files: dict[str, str], why: str
) -> None:
    (tmp_path / "mine").mkdir()
    for name, text in files.items():
        (tmp_path / "mine" / name).write_text(text)
    with pytest.raises(UserError, match=rf"mine exists and {why}.*: name a new or an empty folder"):
        new_bundle(tmp_path / "mine")
    assert {path.name: path.read_text() for path in (tmp_path / "mine").iterdir()} == files
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_bundle_with_somebodys_file_in_it_stays(tmp_path: Path, new_bundle: New) -> None:
    new_bundle(tmp_path / "b")
    (tmp_path / "b" / "notes.txt").write_text("of the examiner")
    with pytest.raises(UserError, match=r"is a bundle with other files \(it holds notes\.txt\)"):
        new_bundle(tmp_path / "b")
    assert (tmp_path / "b" / "notes.txt").read_text() == "of the examiner"


def test_an_exchange_that_fails_puts_the_older_bundle_back(
    tmp_path: Path, new_bundle: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_bundle(tmp_path / "b")
    before = (tmp_path / "b" / "bundle.json").read_bytes()
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name == ".b.unfinished":
            raise OSError("no space")
        return rename(path, target)

    monkeypatch.setattr("pipeline.core.tables._exchanged", lambda one, other: False)  # as where it takes two
    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="no space"):
        new_bundle(tmp_path / "b")
    assert (tmp_path / "b" / "bundle.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_failed_export_leaves_the_older_bundle(tmp_path: Path, new_bundle: New) -> None:
    new_bundle(tmp_path / "b")
    before = (tmp_path / "b" / "bundle.json").read_bytes()

    def fail(path: Path) -> None:
        raise UserError("no")

    old = load(tmp_path / "b", pictures=False)
    with pytest.raises(UserError, match="no"):
        packing.write(
            tmp_path / "b",
            members=old.method.members,
            distribution=False,
            calibration=old.calibration,
            reference=old.reference,
            described={},
            texts={},
            extra={"x.onnx": fail},
        )
    assert (tmp_path / "b" / "bundle.json").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_the_distance_to_the_nearest_training_face_depends_on_no_other_face() -> None:
    rng = np.random.default_rng(1)
    x, known = rng.normal(size=(1500, 16)).astype(np.float32), rng.normal(size=(70, 16)).astype(np.float32)
    found = nearest(x, known)
    slow = np.sqrt(((x[:, None].astype(float) - known[None]) ** 2).sum(-1)).min(1)
    np.testing.assert_allclose(found, slow, rtol=1e-5)
    assert (nearest(x[1100:1130], known) == found[1100:1130]).all()
    assert nearest(known, known).max() == 0
    assert nearest(x[:0], known).shape == (0,)


def test_reference_faces_do_not_depend_on_the_order_of_the_table() -> None:
    ids = [f"{number:03d}" for number in range(100)]
    rows = chosen(ids, 10, seed=1)
    assert {ids[row] for row in rows} == {ids[::-1][row] for row in chosen(ids[::-1], 10, seed=1)}
    assert len(chosen(ids, 1000, seed=1)) == 100


def test_what_is_unusual_is_named_with_value_and_limit(model: Bundle) -> None:
    rng = np.random.default_rng(1)
    measures = {"sharpness": np.arange(1000.0), "roll": np.linspace(-20, 20, 1000)}
    known = Reference.learn(
        rng.normal(size=(50, 4)).astype(np.float32),
        rng.normal(size=(200, 4)).astype(np.float32),
        np.array([1.0, 18.0]),
        measures,
    )
    assert known.quality["roll"][1] == pytest.approx(19.9, abs=0.1)
    share = np.mean(nearest(rng.normal(size=(500, 4)).astype(np.float32), known.vectors) > known.limit)
    assert share < 0.05
    from pipeline.faces.quality import Quality

    face = Quality(2.0, 0.5, 0.0, 0.0, 90.0, -35.0, 0.0, 0.0)
    notes = known.warnings(25.0, known.limit + 1, face, "years")
    assert [note.partition(":")[0] for note in notes] == [
        "far_from_training",
        "outside_training_range",
        "low_sharpness",
        "high_roll",
    ]
    assert notes[1] == "outside_training_range: predicted 25 years, trained on 1 to 18"
    assert known.warnings(5.0, 0.0, Quality(500.0, 0.5, 0, 0, 90, 0, 0, 0), "years") == []


def test_the_card_names_use_limits_groups_and_that_drawn_faces_are_no_people(model: Bundle) -> None:
    group = {"grouping": "gender", "group": "female", "faces": 40, "coverage": 0.91, "width": 20.0}
    described = model.described.model_dump()
    text = model_card(described, model.reference, {"mae": 5.4321}, [group])
    for part in ("Intended use", "Limits", "| gender | female | 40 | 0.910 | 20.0 |", "| mae | 5.432 |"):
        assert part in text
    assert "drawn by a program" in text
    assert "biometric" in text
    people = {**described, "data": {**described["data"], "name": "utkface"}}
    bare = model_card(people, model.reference, {}, [])
    assert "drawn by a program" not in bare
    assert "Not measured" in bare


def test_a_pipe_in_the_place_of_a_bundle_to_be_replaced_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "bundle.json")
    with pytest.raises(UserError, match=r"is no bundle \(it holds bundle\.json\): name a new or an empty"):
        packing.check_replaceable(tmp_path)
