"""The stage study, from vectors to the profile and the section of the page."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline import config
from pipeline.config.profiles import use
from pipeline.core.errors import UserError
from pipeline.core.tables import read_table
from pipeline.evaluation import results
from pipeline.report import study_section
from pipeline.stages import locations
from pipeline.stages.running import run_stage
from pipeline.training.mlp.rates import member_seeds

PROJECT = Path(__file__).resolve().parents[2]
POLICIES = ("fixed", "found")
OUTPUTS = (
    locations.STUDY_TRIALS,
    locations.STUDY_REACHED,
    locations.STUDY_IMPORTANCE,
    locations.STUDY_COMPARISON,
    locations.STUDY_BEST,
)


@pytest.fixture(scope="module")
def complete(make_project: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which everything has run once."""
    folder = make_project(tmp_path_factory.mktemp("project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_stage("find_lr", 1, optimizer="adam")
        for policy in POLICIES:
            run_stage("train", 1, policy=policy, optimizer="adam")
        run_stage("study", 1)
        run_stage("evaluate", 1)
        run_stage("report", 1)
    return folder


@pytest.fixture
def copy(complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to change."""
    folder = Path(shutil.copytree(complete, tmp_path / "project"))
    monkeypatch.chdir(folder)
    return folder


def hashes() -> dict[str, str]:
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in OUTPUTS}


def summary() -> dict[str, float]:
    told: dict[str, float] = json.loads(Path("logs/study.json").read_text())["summary"]
    return told


def test_a_fresh_run_gives_the_same_bytes_with_any_number_of_workers(copy: Path) -> None:
    before = hashes()
    shutil.rmtree(locations.STUDIES)
    run_stage("study", 2)
    assert summary()["trained now"] == 5
    assert hashes() == before


def test_a_second_run_trains_no_trial_and_gives_the_same_bytes(copy: Path) -> None:
    before = hashes()
    for path in OUTPUTS:
        path.unlink()  # as DVC does before it runs a stage again
    run_stage("study", 1)
    assert summary()["trained now"] == 0
    assert hashes() == before


def test_the_best_trial_is_a_profile_after_which_the_study_goes_on(copy: Path) -> None:
    trials = read_table(locations.STUDY_TRIALS).to_pandas()
    best = trials.loc[trials["value"].idxmin()]
    changes = use(locations.STUDY_BEST)
    assert any(change.startswith("train.adam.lr: ") for change in changes)
    merged = config.load()
    assert merged.train.adam.lr == best["lr"]
    assert merged.train.recipe.batch_size == best["batch_size"]
    run_stage("study", 1)
    assert summary()["trained now"] == 0, "a study does not depend on where a searched setting stood"


def test_the_comparison_is_over_the_seeds_of_the_other_policies(complete: Path) -> None:
    assert read_table(complete / locations.STUDY_COMPARISON)["policy"].to_pylist() == ["study"] * 2
    own = study_section.read(complete / locations.STUDIES)
    assert own is not None
    trained = results.read(complete / locations.FACES, complete / locations.MODELS, POLICIES, ("adam",))
    rows = study_section.with_rivals(own, trained.runs).comparison
    seeds = member_seeds(config.load(complete / "params.yaml").seed, 2)
    assert list(rows["policy"]) == ["fixed", "fixed", "found", "found", "study", "study"]
    for _, own in rows.groupby("policy"):
        assert list(own["seed"]) == seeds
    best = read_table(complete / locations.STUDY_TRIALS).to_pandas().sort_values("value").iloc[0]
    assert set(rows.loc[rows["policy"] == "study", "lr"]) == {best["lr"]}
    for policy in POLICIES:
        scores = read_table(complete / locations.run_folder("adam", policy) / "scores.parquet")
        assert list(rows.loc[rows["policy"] == policy, "test_mae"]) == scores["test_mae"].to_pylist()


def test_models_of_other_seeds_are_not_set_beside_the_study(complete: Path) -> None:
    own = study_section.read(complete / locations.STUDIES)
    assert own is not None
    run = results.read(complete / locations.FACES, complete / locations.MODELS, ("fixed",), ("adam",)).runs[0]
    moved = replace(run, scores=run.scores.assign(seed=run.scores["seed"] + 1))
    with pytest.raises(UserError, match="policy 'fixed' have other seeds than the study's"):
        study_section.with_rivals(own, [moved])
    other = study_section.with_rivals(own, [replace(moved, optimizer="sgd")])
    assert set(other.comparison["policy"]) == {"study"}, "another optimiser's models are no rivals"


def test_no_model_is_an_input_of_the_study() -> None:
    stage = YAML(typ="safe").load((PROJECT / "dvc.yaml").read_text())["stages"]["study"]
    assert not [dep for dep in stage["deps"] if dep.startswith("models")]


def test_no_trial_was_judged_by_a_test_face(copy: Path) -> None:
    before = read_table(locations.STUDY_TRIALS)
    faces = read_table(locations.FACES)
    from pipeline.core.tables import write_table

    test = [split == "test" for split in faces["split"].to_pylist()]
    moved = [
        target + 7 if out else target for target, out in zip(faces["target"].to_pylist(), test, strict=True)
    ]
    write_table(
        faces.set_column(1, "target", [moved]).cast(faces.schema),
        locations.FACES,
        "vec2age embed",
        {"encoders": "none"},
    )
    shutil.rmtree(locations.STUDIES)
    run_stage("study", 1)
    assert read_table(locations.STUDY_TRIALS).equals(before)


def test_the_page_has_a_section_with_every_figure(complete: Path) -> None:
    page = (complete / locations.PAGE).read_text(encoding="utf-8")
    assert '<section id="study-of-settings">' in page
    names = ("comparison", "history", "slice_lr", "slice_batch_size", "importance", "parallel")
    for name in names:
        assert (complete / locations.FIGURES / f"study_{name}.png").read_bytes().startswith(b"\x89PNG")
        assert json.loads((complete / locations.FIGURES / f"study_{name}.json").read_text())["data"], name
        assert f'id="data-study_{name}"' in page


def test_a_report_without_a_study_has_no_section(copy: Path) -> None:
    shutil.rmtree(locations.STUDIES)
    run_stage("report", 1)
    assert "study-of-settings" not in locations.PAGE.read_text(encoding="utf-8")


def test_an_address_with_a_password_is_neither_printed_nor_logged(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_stage("study", 1, {"storage": "sqlite:///other/secret.db"})
    assert Path("other/secret.db").exists()
    assert "secret" not in capsys.readouterr().out + Path("logs/study.json").read_text()
    assert [path.name for path in Path("logs").glob("study*")] == ["study.json"]


def test_where_every_trial_diverges_the_remedy_is_named(copy: Path) -> None:
    Path("wild.yaml").write_text(
        "study: {optimizer: sgd, trials: 2, space: {lr: [1.0e+9], batch_size: null}}\n"
    )
    use(Path("wild.yaml"))
    with pytest.raises(UserError, match=r"2 of 2 diverged\): lower study.space's rates"):
        run_stage("study", 1)


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ("{lr: {low: 0.1, high: 0.01}}", r"'study.space.lr': .* is not null, a list of numbers above 0"),
        ("{lr: {low: 0, high: 0.01, log: true}}", r"study.space.lr"),
        ("{dropout: {low: 0, high: 0.5, log: true}}", r"low is 0: it must be above 0 on a logarithmic scale"),
        ("{optimizer: [adma]}", r"study.space.optimizer"),
        ("{hidden: [[0]]}", r"a list of lists of widths"),
        ("{lr: null}", r"every setting is null"),
        ("{rate: [1.0]}", r"unknown parameter 'study.space.rate'"),
    ],
)
def test_a_wrong_space_is_refused_before_anything_runs(copy: Path, space: str, sentence: str) -> None:
    use(Path("none.yaml"), ["study.space.batch_size=null"])
    Path("wrong.yaml").write_text(f"study: {{space: {space}}}\n")
    with pytest.raises(UserError, match=sentence):
        use(Path("wrong.yaml"))
