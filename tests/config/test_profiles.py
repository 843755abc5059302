import copy
import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline import config
from pipeline.config.profiles import flatten, layers, merge, use
from pipeline.core.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]
PROFILES = sorted((PROJECT / "profiles").glob("*.yaml"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return Path(shutil.copy(PROJECT / "params.yaml", tmp_path))


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
def test_every_profile_is_valid_and_the_sample_profile_undoes_it(profile: Path, target: Path) -> None:
    before = target.read_bytes()
    use(profile, target=target)
    config.load(target)
    use(PROJECT / "profiles/sample.yaml", target=target)
    assert target.read_bytes() == before


def test_what_a_profile_sets_does_not_depend_on_the_profile_before_it() -> None:
    read = {path.stem: [layer.values for layer in layers(path)] for path in PROFILES}
    default = config.plain(config.read_yaml(PROJECT / "params.yaml"))

    def after(*names: str) -> dict[str, Any]:
        tree = copy.deepcopy(default)
        for name in names:
            for layer in copy.deepcopy(read[name]):
                merge(tree, layer)
        return tree

    alone = {name: after("sample", name) for name in read}
    assert len(alone) > 10
    different = [(a, b) for a, b in itertools.product(read, read) if after(a, b) != alone[b]]
    assert different == []


def test_the_sample_profile_sets_everything() -> None:
    sample = config.plain(config.read_yaml(PROJECT / "profiles/sample.yaml"))
    assert flatten(sample) == flatten(config.plain(config.read_yaml(PROJECT / "params.yaml")))


def test_a_profile_without_a_start_changes_only_what_it_names(target: Path, tmp_path: Path) -> None:
    use(PROJECT / "profiles/utkface-underage.yaml", target=target)
    (tmp_path / "mine.yaml").write_text("train: {seeds: 3}\n")
    use(tmp_path / "mine.yaml", target=target)
    settings = config.load(target)
    assert (settings.train.seeds, settings.ingest.max_target) == (3, 18)


def test_a_start_that_is_not_there_is_named(target: Path, tmp_path: Path) -> None:
    before = target.read_bytes()
    profile = tmp_path / "p.yaml"
    for start in ("gone.yaml", "[1]", f"../{tmp_path.name}/p.yaml", "x" * 5000, "/dev/zero"):
        profile.write_text(f"starts_from: {start}\ncrop: {{margin: 0.4}}\n")
        with pytest.raises(UserError, match=r"starts_from is .{1,210}: name a profile in the same folder$"):
            use(profile, target=target)
    assert target.read_bytes() == before


def test_a_profile_that_is_not_there_is_named_with_those_that_are(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    with pytest.raises(
        UserError, match=r"^nowhere\.yaml does not exist: profiles/ holds bias-appareal\.yaml, "
    ):
        use(Path("nowhere.yaml"), target=target)
    monkeypatch.chdir(target.parent)
    with pytest.raises(UserError, match=r"^nowhere\.yaml does not exist: profiles/ holds no profile$"):
        use(Path("nowhere.yaml"), target=target)


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
    settings = config.load(target)
    assert settings.crop.margin == 0.5
    assert settings.data.root == "my photographs"
    assert settings.ingest.max_target == 18


def test_an_assignment_leaves_what_stands_beside_it(target: Path) -> None:
    use(PROJECT / "profiles/sample.yaml", ["data.settings.seed=3"], target)
    assert config.load(target).data.settings == {"per_age": 40, "seed": 3}
    use(PROJECT / "profiles/sample.yaml", ["data.settings={}"], target)
    assert config.load(target).data.settings == {}


def test_another_reader_begins_without_settings_in_whatever_order_they_are_assigned(target: Path) -> None:
    words = ["data.settings.table=faces.csv", "data.name=csv", "data.root=x"]
    for assignments in (words, words[::-1]):
        use(PROJECT / "profiles/sample.yaml", assignments, target)
        assert config.load(target).data.settings == {"table": "faces.csv"}


def test_a_profile_that_names_another_reader_need_not_empty_its_settings(
    target: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text("data: {name: csv, root: x}\n")
    use(tmp_path / "mine.yaml", target=target)
    assert config.load(target).data.settings == {}


def test_what_a_profile_lacks_may_be_assigned(target: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("split: {fold: 7}\n")
    use(tmp_path / "mine.yaml", ["split.folds=10"], target)
    assert config.load(target).split.fold == 7


def test_what_was_assigned_wrongly_is_not_blamed_on_the_profile(target: Path) -> None:
    before = target.read_bytes()
    for text, sentence in (
        ("data.roots=x", "--set: unknown parameter 'data.roots': did you mean 'data.root'"),
        ("data.settings.per_agee=3", "--set: parameter 'data': data set 'sample' has no setting 'per_agee'"),
        ("crop=3", "--set: parameter 'crop' is 3"),
    ):
        with pytest.raises(UserError, match=sentence):
            use(PROJECT / "profiles/sample.yaml", [text], target)
        assert target.read_bytes() == before


@pytest.mark.parametrize("profile", [path for path in PROFILES if path.stem.startswith("emosynthnet")])
def test_a_root_of_faces_is_refused_where_a_profile_only_has_pictures_to_classify(
    profile: Path, target: Path
) -> None:
    before = target.read_bytes()
    with pytest.raises(UserError, match=r"say where these lie with --set classify\.images\.root, or name"):
        use(profile, ["data.root=elsewhere"], target)
    assert target.read_bytes() == before
    use(profile, ["data.root=elsewhere", "data.name=utkface"], target)
    use(profile, ["classify.images.root=elsewhere"], target)
    use(PROJECT / "profiles/sample.yaml", ["data.root=elsewhere"], target)
    assert config.load(target).data.root == "elsewhere"


def test_an_invalid_profile_changes_nothing(target: Path, tmp_path: Path) -> None:
    before = target.read_bytes()
    profile = tmp_path / "p.yaml"
    profile.write_text("crop: {margin: 0.4, sise: 3}\n")
    with pytest.raises(UserError, match=r"p.yaml: unknown parameter 'crop.sise': did you mean 'crop.size'"):
        use(profile, target=target)
    assert target.read_bytes() == before


def test_a_readers_settings_are_replaced_and_not_mixed(target: Path, tmp_path: Path) -> None:
    profile = tmp_path / "p.yaml"
    profile.write_text("data: {name: csv, root: x, settings: {table: labels.csv}}\n")
    use(profile, target=target)
    assert config.load(target).data.settings == {"table": "labels.csv"}


@pytest.mark.parametrize(
    "text", ["crop.margin", "=3", "crop.margin=[1", "crop.margin=" + "[" * 5000, "crop.margin=&x [*x]"]
)
def test_refuses_what_is_no_assignment(text: str, target: Path, tmp_path: Path) -> None:
    profile = tmp_path / "p.yaml"
    profile.write_text("{}\n")
    with pytest.raises(UserError, match="--set"):
        use(profile, [text], target)
