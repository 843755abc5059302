"""Studies: their proposals, their groups, and what is left of one that was killed."""

import importlib.util
import multiprocessing
import random
import signal
import sqlite3
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from pipeline.core.errors import UserError
from pipeline.core.tables import write_table
from pipeline.losses import REGISTRY
from pipeline.training.search import search as study_module
from pipeline.training.search import trial_tables as tables
from pipeline.training.search.space import Space
from pipeline.training.search.storage import open_storage, this_worker, worker_is_gone
from pipeline.training.search.trials import train_candidates

# loaded under its own name, so that other processes can import it
spec = importlib.util.spec_from_file_location("study_worker", Path(__file__).with_name("study_worker.py"))
assert spec is not None
assert spec.loader is not None
study_worker = sys.modules["study_worker"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(study_worker)
plan, work, material = study_worker.plan, study_worker.work, study_worker.material

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["torch._dynamo", "optuna", "pipeline.training.search.search", "pipeline.training.search.storage"]
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_module, "WAIT", 0.2)
    # the folder of this file, for the processes that import study_worker
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])


def values(outcome: study_module.Outcome) -> dict[int, tuple]:
    return {
        trial.user_attrs["slot"]: (tuple(trial.params.items()), trial.value, trial.user_attrs.get("members"))
        for trial in outcome.trials
    }


def trials(url: str) -> list[optuna.trial.FrozenTrial]:
    storage = open_storage(url)
    (summary,) = optuna.get_all_study_summaries(storage)
    return optuna.load_study(study_name=summary.study_name, storage=storage).trials


def test_a_group_has_the_values_of_its_trials_alone_bit_for_bit() -> None:
    space = plan(
        epochs=3, dimensions={"lr": [1e-3, 1e-2], "hidden": [[8], [6, 4]], "dropout": [0.0, 0.2]}
    ).space
    candidates = [space.candidate(point) for point in space.grid(2)]
    together = train_candidates(material(), candidates, [5, 6], workers=2)
    alone = [train_candidates(material(), [candidate], [5, 6], workers=1)[0] for candidate in candidates]
    assert together == alone
    assert len({verdict.value for verdict in together}) == len(candidates)


def test_trials_train_with_the_weights_of_the_faces() -> None:
    plain = material()
    weighted = replace(plain, train_weight=np.where(plain.train_y > 12, 9.0, 1.0))
    (candidate,) = [plan(epochs=3).space.candidate({"lr": 1e-2})]
    (with_weights,) = train_candidates(weighted, [candidate], [5], workers=1)
    (without,) = train_candidates(plain, [candidate], [5], workers=1)
    assert with_weights.value != without.value
    assert plan().name(weighted) != plan().name(plain)


def test_random_proposals_do_not_depend_on_groups(tmp_path: Path) -> None:
    found = [
        values(work(f"sqlite:///{tmp_path}/{group}.db", plan(sampler="random", trials=5, group=group)))
        for group in (1, 2, 5)
    ]
    assert found[0] == found[1] == found[2]
    assert len({value for _, value, _ in found[0].values()}) == 5


def test_a_value_is_the_mean_over_members_of_the_error_at_their_best_epoch(url: str) -> None:
    from pipeline.training.mlp.fit import fit_stack

    outcome = work(url, plan(trials=2, sampler="random"))
    for trial in outcome.trials:
        candidate = plan().space.candidate(trial.params)
        faces = material()
        scores = fit_stack(
            faces.train_x,
            faces.train_y,
            faces.val_x,
            faces.val_y,
            seeds=[1, 2],
            learning_rates=candidate.lr,
            recipe=candidate.recipe,
        ).scores
        assert trial.value == pytest.approx((scores[0].val_mae + scores[1].val_mae) / 2, rel=1e-12)


def test_tpe_proposes_the_same_on_every_fresh_run_and_not_worse_later(tmp_path: Path) -> None:
    wanted = plan(trials=16, group=4, epochs=2)
    first, second = (values(work(f"sqlite:///{tmp_path}/{name}.db", wanted)) for name in "ab")
    assert first == second
    errors = [value for _, value, _ in (first[slot] for slot in range(16))]
    assert min(errors[10:]) <= min(errors[:10])


def test_a_grid_tries_every_combination_once(url: str) -> None:
    wanted = plan(
        dimensions={"lr": {"low": 1e-3, "high": 1e-2, "log": True}, "batch_size": [16, 32]},
        sampler="grid",
        grid_points=3,
        trials=6,
    )
    found = [trial.params for trial in work(url, wanted).trials]
    assert found == wanted.space.grid(3)
    assert [point["lr"] for point in found] == pytest.approx([1e-3, 1e-3, 10**-2.5, 10**-2.5, 1e-2, 1e-2])


def test_hopeless_trials_are_pruned_and_the_others_keep_their_values(tmp_path: Path) -> None:
    space = {"lr": [1e-6, 2e-2]}
    wanted = plan(dimensions=space, trials=10, group=1, sampler="random", epochs=6)
    full = values(work(f"sqlite:///{tmp_path}/full.db", wanted))
    cut = plan(
        dimensions=space,
        trials=10,
        group=1,
        sampler="random",
        epochs=6,
        pruning="median",
        warmup=2,
        every=2,
    )
    outcome = work(f"sqlite:///{tmp_path}/cut.db", cut)
    ends = Counter(trial.state for trial in outcome.trials)
    assert ends[TrialState.PRUNED] >= 1
    for trial in outcome.trials:
        slot = trial.user_attrs["slot"]
        if trial.state == TrialState.PRUNED:
            assert max(trial.user_attrs["epochs"]) < 6
            assert trial.params == {"lr": 1e-6}
        else:
            assert values(outcome)[slot] == full[slot]


def test_hyperband_prunes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # it deals its brackets by the study's name, which changes with the code
    monkeypatch.setattr(study_module.Plan, "name", lambda *_: "vec2age-of-no-code")
    wanted = plan(trials=12, sampler="random", epochs=9, pruning="hyperband", warmup=1, every=1)
    outcome = work(url, wanted)
    assert 0 < sum(trial.state == TrialState.PRUNED for trial in outcome.trials) < 12


def test_a_trial_with_a_diverged_member_ends_at_once_and_is_never_best(url: str) -> None:
    wanted = plan(dimensions={"lr": [1e-3, 1e6], "optimizer": ["sgd"]}, sampler="grid", trials=2, epochs=30)
    outcome = work(url, wanted)
    good, wild = outcome.trials
    assert wild.user_attrs["end"] == "diverged"
    assert max(wild.user_attrs["epochs"]) < 30
    assert tables.best_trial(outcome).number == good.number
    with pytest.raises(UserError, match="no trial of the study came to its end"):
        tables.best_trial(study_module.Outcome(outcome.study, (wild,), 0))


def test_a_finished_study_trains_nothing_again_and_a_longer_one_only_what_is_new(url: str) -> None:
    before = values(work(url, plan(trials=4, sampler="random")))
    again = work(url, plan(trials=4, sampler="random"))
    assert again.trained_here == 0
    longer = work(url, plan(trials=7, sampler="random"))
    assert longer.trained_here == 3
    assert {slot: values(longer)[slot] for slot in range(4)} == before == values(again)


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": (1, 3)},
        {"epochs": 7},
        {"dimensions": {"lr": [1e-3, 1e-2]}},
        {"seed": 1},
        {"sampler": "random"},
    ],
    ids=str,
)
def test_other_settings_are_another_study(change: dict) -> None:
    assert plan(**change).name(material()) != plan().name(material())


def test_other_vectors_are_another_study_but_more_trials_are_not() -> None:
    other = material()
    other.train_x[0, 0] += 1
    assert plan().name(other) != plan().name(material())
    assert plan(trials=99, group=1).name(material()) == plan().name(material())


def test_a_study_depends_on_the_code_that_trains_its_trials_and_on_no_other() -> None:
    import grimp

    graph = grimp.build_graph("pipeline", cache_dir=None)

    def used(module: str) -> set[str]:
        found = {module, *graph.find_upstream_modules(module)}
        names = {name.removeprefix("pipeline.").replace(".", "/") for name in found}
        return {name for name in names if name.startswith(("training/", "losses/"))}

    listed = set(study_module.TRAINING)
    assert listed >= used("pipeline.training.search.trials")
    assert {name for name in listed if name.startswith("training/")} <= used(
        "pipeline.training.search.trials"
    )
    for place in REGISTRY.places.values():
        own = place.partition(":")[0]
        assert used(own) <= listed | {own.removeprefix("pipeline.").replace(".", "/")}, own
    assert "uncertainty/methods" not in plan().code()
    assert "losses/regression" in plan().code(), "that of mse"
    assert "losses/label_distribution" not in plan().code()
    searched = plan(dimensions={"loss": ["mse", "dldl_v2"]})
    assert "losses/label_distribution" in searched.code()


def test_the_start_of_a_searched_setting_is_not_part_of_a_study() -> None:
    wanted = plan()
    moved = {name: type(start)(start.recipe, 0.5) for name, start in wanted.space.starts.items()}
    again = plan(space=Space(wanted.space.dimensions, moved, "adam"))
    assert again.name(material()) == wanted.name(material()), "studies/best.yaml may be merged"


def killed_in_the_middle(url: str, wanted: study_module.Plan, finished: int, epoch: int) -> None:
    """Let a worker work until it is killed at a moment that no machine's speed moves."""
    process = PROCESSES.Process(target=study_worker.work_until_killed, args=(url, wanted, finished, epoch))
    process.start()
    process.join()  # however slow the machine: what hangs is ended by the limit of every test
    assert process.exitcode == -signal.SIGKILL, "the study must still be running when it is killed"


def running(url: str) -> list[optuna.trial.FrozenTrial]:
    try:
        return [trial for trial in trials(url) if trial.state == TrialState.RUNNING]
    except (ValueError, UserError):
        return []  # the worker has not made the study yet


def test_killed_five_times_no_finished_trial_is_lost_and_none_counts_twice(url: str, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    # five times up to three finished trials and one more of their group, and a group that is in hand
    wanted = plan(trials=22, group=2, sampler="random", epochs=20)
    done: dict[int, float | None] = {}
    for _ in range(5):
        finished = chance.randrange(4)
        killed_in_the_middle(url, wanted, finished, chance.randrange(20))
        with sqlite3.connect(tmp_path / "study.db") as connection:
            assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        now = {trial.number: trial.value for trial in trials(url) if trial.state == TrialState.COMPLETE}
        assert done.items() <= now.items(), f"seed {seed}: a finished trial was lost"
        # a group is told together, so that one more may end with the last
        assert finished <= len(now) - len(done) <= finished + 1, f"seed {seed}"
        done = now
    outcome = work(url, wanted)
    slots = [trial.user_attrs["slot"] for trial in trials(url) if trial.state == TrialState.COMPLETE]
    assert sorted(slots) == list(range(wanted.trials)), f"seed {seed}: every slot once"
    assert outcome.trained_here == wanted.trials - len(done), f"seed {seed}"
    assert any(trial.state == TrialState.FAIL for trial in trials(url)), (
        "trials were in hand when it was killed"
    )
    undisturbed = work(f"sqlite:///{tmp_path}/undisturbed.db", wanted)
    assert values(outcome) == values(undisturbed), f"seed {seed}"


@pytest.mark.parametrize(
    ("pruning", "sampler"), [("median", "tpe"), ("hyperband", "random")], ids=["median", "hyperband"]
)
def test_a_study_that_was_killed_has_the_tables_of_one_that_was_not(
    tmp_path: Path, pruning: str, sampler: str
) -> None:
    # as before: a finished trial, and one of the same group in hand, that would now be judged by it
    wanted = plan(
        trials=14, group=3, sampler=sampler, epochs=9, pruning=pruning, warmup=1, every=1,
        dimensions={"lr": {"low": 1e-6, "high": 3e-2, "log": True}, "dropout": {"low": 0.0, "high": 0.3}},
    )  # fmt: skip
    url = f"sqlite:///{tmp_path}/killed.db"
    for finished, epoch in ((1, 0), (0, 2), (2, 0), (4, 1)):
        killed_in_the_middle(url, wanted, finished, epoch)
    outcomes = [work(url, wanted), work(f"sqlite:///{tmp_path}/whole.db", wanted)]
    killed, whole = (tables.trial_table(outcome, wanted.space) for outcome in outcomes)
    assert killed.equals(whole)
    assert tables.reached_table(outcomes[0]).equals(tables.reached_table(outcomes[1]))
    assert 0 < whole["end"].to_pylist().count("pruned") < 14
    for name, table in (("a", killed), ("b", whole)):
        write_table(table, tmp_path / name, "test")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_slot_queued_when_a_worker_was_killed_waits_for_those_before_it(url: str) -> None:
    wanted = plan(trials=4, group=4)
    study = optuna.create_study(storage=(storage := open_storage(url)), study_name=wanted.name(material()))
    study.enqueue_trial({}, user_attrs={"slot": 2})
    queue = study_module.Queue(study, storage, wanted.slots(), wanted.space.distributions(), 4)
    assert [trial.user_attrs["slot"] for trial in queue.take()] == [0, 1, 2, 3]


def test_an_interrupted_worker_gives_its_trials_back(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    wanted = plan(trials=3, group=2)
    with monkeypatch.context() as patch:
        patch.setattr(study_module, "train_candidates", interrupted)
        with pytest.raises(KeyboardInterrupt):
            work(url, wanted)
    lost = [trial for trial in trials(url) if trial.state == TrialState.FAIL]
    assert len(lost) == 2
    outcome = work(url, wanted)
    assert [
        dict(params) for params, _, _ in (values(outcome)[trial.user_attrs["slot"]] for trial in lost)
    ] == [trial.params for trial in lost], "queued again with the values they had"


def test_a_worker_on_another_machine_is_given_up_when_its_heartbeat_stops(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.training.search import queue as study_queue

    wanted = plan(trials=2, group=1)
    with monkeypatch.context() as patch:
        patch.setattr(study_queue, "this_worker", lambda: "another machine|1|0.0")
        patch.setattr(study_module.Queue, "fail", lambda *_: None)  # it died, so that it gave nothing back
        patch.setattr(study_module, "train_candidates", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            work(url, wanted)
    assert len(running(url)) == 1
    outcome = work(url, wanted, grace=1)
    assert sorted(values(outcome)) == [0, 1]
    assert len(trials(url)) == 3, "two trials, and the one that was lost"


def test_a_trial_that_was_given_away_is_not_told_by_the_worker_that_comes_back(url: str) -> None:
    wanted = plan(trials=1, group=1)
    storage = open_storage(url)
    study = optuna.create_study(storage=storage, study_name=wanted.name(material()))
    queue = study_module.Queue(study, storage, wanted.slots(), wanted.space.distributions())
    (mine,) = queue.take()
    queue.fail(mine.number)
    late = train_candidates(material(), [wanted.space.candidate(mine.params)], [1, 2])[0]
    study_module.tell(study, mine, late)
    assert queue.finished() == ()
    (again,) = queue.take()
    study_module.tell(study, again, late)
    assert [trial.number for trial in queue.finished()] == [again.number]


def test_a_slot_queued_twice_is_worked_on_once(url: str) -> None:
    wanted = plan(trials=1, group=4)
    storage = open_storage(url)
    study = optuna.create_study(storage=storage, study_name=wanted.name(material()))
    queue = study_module.Queue(study, storage, wanted.slots(), wanted.space.distributions())
    for _ in range(2):
        study.enqueue_trial({}, user_attrs={"slot": 0})
    assert [trial.number for trial in queue.take()] == [0]


def share(url: str, trials_wanted: int) -> None:
    """Two workers finish a study; every trial is worked on once."""
    wanted = plan(trials=trials_wanted, group=2, sampler="random", epochs=8)
    workers = [PROCESSES.Process(target=study_worker.work, args=(url, wanted, 60)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    finished = [trial for trial in trials(url) if trial.state == TrialState.COMPLETE]
    assert sorted(trial.user_attrs["slot"] for trial in finished) == list(range(trials_wanted))
    assert len({trial.user_attrs["worker"] for trial in finished}) == 2, "both took part"


def test_two_workers_share_a_study(url: str) -> None:
    share(url, 12)


def test_two_workers_share_a_study_in_postgresql(postgresql: str) -> None:
    share(postgresql, 12)


def test_a_study_in_postgresql_goes_on_after_a_kill(postgresql: str) -> None:
    import sqlalchemy

    engine = sqlalchemy.create_engine(
        postgresql.replace("postgresql:", "postgresql+psycopg2:"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("create database killed"))
    url = postgresql.removesuffix("/postgres") + "/killed"
    wanted = plan(trials=8, group=2, sampler="random", epochs=25)
    killed_in_the_middle(url, wanted, finished=2, epoch=1)
    outcome = work(url, wanted)
    assert sorted(values(outcome)) == list(range(8))
    assert sum(trial.state == TrialState.COMPLETE for trial in trials(url)) == 8


def test_knows_whether_a_worker_is_gone() -> None:
    machine, number, _ = this_worker().split("|")
    assert not worker_is_gone(this_worker())
    assert worker_is_gone(f"{machine}|{number}|1.0"), "another process that had the same number"
    assert worker_is_gone(f"{machine}|{2**22 + 1}|1.0")
    assert not worker_is_gone("elsewhere|1|1.0")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("studies", "not the address of a database"),
        ("sqlite://", "names no file"),
        ("sqlite:////proc/none/x.db", "folder /proc/none of --storage cannot be made"),
        ("nosuch://me:secret@host/x", "nosuch"),
        ("postgresql://me:secret@127.0.0.1:1/x", r"postgresql://me:\*\*\*@127.0.0.1:1/x cannot be used"),
    ],
)
def test_refuses_what_is_no_storage_without_printing_passwords(url: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        open_storage(url)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("no database, " * 100)
    with pytest.raises(UserError, match=r"x\.db cannot be used as a study's storage"):
        open_storage(f"sqlite:///{tmp_path}/x.db")


def test_refuses_an_unknown_setting_and_an_optimiser_without_a_start() -> None:
    with pytest.raises(UserError, match="unknown setting 'lrr'"):
        plan(dimensions={"lrr": [1.0]})
    with pytest.raises(UserError, match="optimizer 'adagrad' has no settings"):
        plan(dimensions={"optimizer": ["adagrad"]})


def test_a_value_that_no_training_can_have_is_named_and_its_trial_given_back(url: str) -> None:
    with pytest.raises(UserError, match="unknown loss 'mes'"):
        work(url, plan(dimensions={"loss": ["mes"]}))
    assert running(url) == []
