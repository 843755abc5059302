import shutil
from pathlib import Path

import pytest

from pipeline import params
from pipeline.errors import UserError
from pipeline.profiles import use

PROJECT = Path(__file__).resolve().parents[1]
PROFILES = sorted((PROJECT / "profiles").glob("*.yaml"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return Path(shutil.copy(PROJECT / "params.yaml", tmp_path))


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
def test_every_profile_is_valid_and_the_sample_profile_undoes_it(profile: Path, target: Path) -> None:
    before = target.read_bytes()
    use(profile, target=target)
    params.load(target)
    use(PROJECT / "profiles/sample.yaml", target=target)
    assert target.read_bytes() == before


def test_keeps_comments_and_the_order_of_keys(target: Path, tmp_path: Path) -> None:
    before = target.read_text().splitlines()
    profile = tmp_path / "p.yaml"
    profile.write_text("crop: {margin: 0.4}\n")
    assert use(profile, target=target) == ["crop.margin: 0.25 -> 0.4"]
    after = target.read_text().splitlines()
    different = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert len(different) == 1
    assert different[0][1].split() == different[0][0].replace("0.25", "0.4").split()


def test_assignments_come_after_the_profile(target: Path, tmp_path: Path) -> None:
    profile = tmp_path / "p.yaml"
    profile.write_text("crop: {margin: 0.4}\n")
    use(profile, ["crop.margin=0.5", "data.root=my photographs", "ingest.max_target=18"], target)
    settings = params.load(target)
    assert settings.crop.margin == 0.5
    assert settings.data.root == "my photographs"
    assert settings.ingest.max_target == 18


def test_an_invalid_profile_changes_nothing(target: Path, tmp_path: Path) -> None:
    before = target.read_bytes()
    profile = tmp_path / "p.yaml"
    profile.write_text("crop: {margin: 0.4, sise: 3}\n")
    with pytest.raises(UserError, match=r"p.yaml: unknown parameter 'crop.sise': did you mean 'size'"):
        use(profile, target=target)
    assert target.read_bytes() == before


def test_a_readers_settings_are_replaced_and_not_mixed(target: Path, tmp_path: Path) -> None:
    profile = tmp_path / "p.yaml"
    profile.write_text("data: {name: csv, root: x, settings: {table: labels.csv}}\n")
    use(profile, target=target)
    assert params.load(target).data.settings == {"table": "labels.csv"}


@pytest.mark.parametrize("text", ["crop.margin", "=3", "crop.margin=[1"])
def test_refuses_what_is_no_assignment(text: str, target: Path, tmp_path: Path) -> None:
    profile = tmp_path / "p.yaml"
    profile.write_text("{}\n")
    with pytest.raises(UserError, match="--set"):
        use(profile, [text], target)
