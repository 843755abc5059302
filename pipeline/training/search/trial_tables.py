"""What is kept of a finished study: its trials as tables, and its best one as a profile."""

import math
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from typing import Any

import optuna
import pyarrow as pa
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState
from ruamel.yaml import YAML

from pipeline.core.errors import UserError
from pipeline.training.mlp.material import Material
from pipeline.training.mlp.rates import RATES
from pipeline.training.mlp.recipe import Recipe
from pipeline.training.mlp.runs import train_run
from pipeline.training.search.queue import END, EPOCHS, MEMBERS
from pipeline.training.search.sampling import SLOT
from pipeline.training.search.search import Outcome
from pipeline.training.search.space import WHOLE, Candidate, Space

ORIGIN = "study"
REACHED = pa.schema([("trial", pa.int64()), ("epoch", pa.int64()), ("value", pa.float64())])
IMPORTANCE = pa.schema([("setting", pa.string()), ("importance", pa.float64())])


def trial_table(outcome: Outcome, space: Space) -> pa.Table:
    """One row a trial, numbered by its slot: how it ended, its value, its settings, its members' errors.

    Nothing of the time or of attempts that were lost is in it.
    """
    rows = []
    for trial in outcome.trials:
        row = {
            "trial": trial.user_attrs[SLOT],
            "end": trial.user_attrs[END],
            "value": trial.value if trial.state == TrialState.COMPLETE else None,
            "epochs": max(trial.user_attrs[EPOCHS]),
            "members": trial.user_attrs.get(MEMBERS, []),
        }
        rows.append(row | trial.params)
    fields = [("trial", pa.int64()), ("end", pa.string()), ("value", pa.float64()), ("epochs", pa.int64())]
    fields += [(name, setting_type(name, scale)) for name, scale in space.scales().items()]
    return pa.Table.from_pylist(rows, schema=pa.schema([*fields, ("members", pa.list_(pa.float64()))]))


def setting_type(name: str, scale: str) -> pa.DataType:
    """The column type of a setting."""
    if name in ("optimizer", "hidden", "loss"):
        return pa.string()
    return pa.int64() if name in WHOLE else pa.float64()


def reached_table(outcome: Outcome) -> pa.Table:
    """What trials had reached when the pruner looked: one row for each trial and look."""
    rows = [
        {"trial": trial.user_attrs[SLOT], "epoch": epoch, "value": value}
        for trial in outcome.trials
        for epoch, value in sorted(trial.intermediate_values.items())
    ]
    return pa.Table.from_pylist(rows, schema=REACHED)


def importance_table(outcome: Outcome, seed: int) -> pa.Table:
    """How much of the value's variance each setting explains, by fANOVA over the complete trials.

    Source: Hutter, Hoos and Leyton-Brown, An efficient approach for assessing hyperparameter importance,
    2014.
    Empty where fewer than two complete trials differ.
    """
    complete = [trial for trial in outcome.trials if trial.state == TrialState.COMPLETE]
    rows: list[dict[str, Any]] = []
    if len({trial.value for trial in complete}) > 1:
        again = optuna.create_study()
        again.add_trials(complete)
        found = optuna.importance.get_param_importances(again, evaluator=FanovaImportanceEvaluator(seed=seed))
        rows = [{"setting": name, "importance": share} for name, share in found.items()]
    return pa.Table.from_pylist(rows, schema=IMPORTANCE)


def best_trial(outcome: Outcome) -> FrozenTrial:
    """The complete trial with the lowest value, the first of equals.

    Raises
    ------
    UserError
        No trial is complete.
    """
    complete = [trial for trial in outcome.trials if trial.state == TrialState.COMPLETE]
    if not complete:
        ends = [trial.user_attrs[END] for trial in outcome.trials]
        raise UserError(
            f"no trial of the study came to its end ({ends.count('diverged')} of {len(ends)} diverged): "
            "lower study.space's rates in params.yaml"
        )
    return min(complete, key=lambda trial: math.inf if trial.value is None else trial.value)


def counts(outcome: Outcome, best: FrozenTrial) -> dict[str, str | int | float]:
    """What to tell: how the trials ended, and the best one's rate and value."""
    ends = [trial.user_attrs[END] for trial in outcome.trials]
    told: dict[str, str | int | float] = {
        "trials": len(ends),
        "trained now": outcome.trained_here,
        "pruned": ends.count("pruned"),
        "diverged": ends.count("diverged"),
        "best trial": best.user_attrs[SLOT],
        "its validation MAE": round(best.value or math.nan, 4),
    }
    return told | {f"its {name}": value for name, value in best.params.items()}


def profile(best: FrozenTrial, space: Space) -> str:
    """The best trial as an overlay of params.yaml, for `vec2age use`."""
    candidate = space.candidate(best.params)
    recipe = candidate.recipe
    shared: dict[str, Any] = {}
    own: dict[str, Any] = {"lr": candidate.lr}
    for name in best.params:
        value = getattr(recipe, name, None)
        if name in ("momentum", "swa_start", "swa_freq"):
            own[name] = value
        elif name == "loss":
            shared["loss"] = {"name": value, "settings": dict(recipe.loss_settings)}
        elif name == "hidden":
            shared[name] = list(recipe.hidden)
        elif name not in ("lr", "optimizer", "swa_lr"):
            shared[name] = value
    if recipe.optimizer == "swa":
        own["swa_lr"] = {"fixed": recipe.swa_lr, "found": recipe.swa_lr}
    train: dict[str, Any] = {"recipe": shared} if shared else {}
    if "optimizer" in best.params:
        train["optimizers"] = [recipe.optimizer]
    train[recipe.optimizer] = own
    text = StringIO()
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    yaml.dump({"train": train}, text)
    return (
        f"# The best of a study's trials, number {best.user_attrs[SLOT]}: a mean validation MAE of "
        f"{best.value:.4f} over {len(best.user_attrs[MEMBERS])} models.\n"
        f"#   vec2age use studies/best.yaml\n{text.getvalue()}"
    )


def retrain(
    material: Material, faces: pa.Table, candidate: Candidate, seeds: Sequence[int], epochs: int, workers: int
) -> pa.Table:
    """Members of the best trial's settings from other seeds: their scores, as of any run.

    Parameters
    ----------
    material, faces
        As for a run; test faces are measured, and choose nothing.
    candidate
        The settings.
    seeds
        Those of the runs that the study is compared with.
    epochs
        At most, as those runs had.
    workers
        Threads.
    """
    recipe: Recipe = replace(candidate.recipe, epochs=epochs)
    rows = [
        {"member": k, "seed": seed, "lr": candidate.lr, "origin": ORIGIN, "lrs": [], "losses": []}
        for k, seed in enumerate(seeds)
    ]
    trained = train_run(material, faces, recipe, pa.Table.from_pylist(rows, schema=RATES), workers=workers)
    return trained.tables["scores"]


def comparison_table(scores: pa.Table) -> pa.Table:
    """The score table of the best settings' models, as policy `study`: the page adds the other policies'."""
    kept = ["member", "seed", "lr", "epochs", "outcome", "diverged", "mae", "val_mae", "test_mae"]
    table = scores.select(kept).replace_schema_metadata()
    return table.add_column(0, "policy", pa.array(["study"] * table.num_rows))
