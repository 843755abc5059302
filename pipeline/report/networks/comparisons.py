"""Tables of whole networks that differ in one thing, and of their biases: UC Table 5, Bias Tables 1 to 11."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.evaluation.networks.measures import lost, mean_of, minutes
from pipeline.evaluation.networks.results import BINS, PREDICTIONS, Run
from pipeline.evaluation.settings import Settings
from pipeline.evaluation.table import Column, Table
from pipeline.metrics import fairness_table

DIVERGED = Column("diverged", "diverged")


def with_diverged(frame: pd.DataFrame, columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns, and the one that says how many networks diverged where any did."""
    return (*columns, DIVERGED) if frame["diverged"].any() else columns


def strategy(run: Run) -> str:
    """The training strategy in the words of the bias report's Table 3."""
    start = run.settings["start"]
    embedded = run.backbone in ("dlib", "efficientnet_lite0") and start.get("pretrained") is not False
    if not (start.get("weights") or start.get("pretrained") or embedded):
        return "1) No Pretraining"
    frozen = run.settings["recipe"]["frozen_epochs"]
    return "2) Pretraining with Freeze" if frozen else "3) Pretraining without Freeze"


def head(run: Run) -> str:
    """The head in the words of the bias report's Table 1."""
    layers, last = len(run.settings["head"]["hidden"]), run.settings["head"]["activation"]
    if not layers and last == "none":
        return "as it is"
    hidden = [f"{layers} FC with ReLU"] if layers else []
    return " + ".join([*hidden, "1 FC" if last == "none" else f"1 FC with {last.capitalize()}"])


def weighting(run: Run) -> str:
    """What the training faces are weighted by."""
    faces = run.settings["faces"]
    return "+".join(filter(None, (faces["balance"], faces["weight"]))) or "none"


def loss_weight(run: Run) -> float | None:
    """Lambda, where the loss is Unimodal-Concentrated."""
    if run.settings["loss"] != "unimodal_concentrated":
        return None
    return float(run.settings["loss_settings"].get("unimodal_weight", 1000.0))


@dataclass(frozen=True)
class Aspect:
    """A thing that runs are compared by.

    Attributes
    ----------
    name, title, heading
        Of its table, and of the column with its values.
    value
        How a run's value is found.
    own
        The settings that the value says.
    beside
        Settings that belong to the thing and may change with it, but that the value does not say in full: the
        table shows them where they differ.
    """

    name: str
    title: str
    heading: str
    value: Callable[[Run], Any]
    own: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


ASPECTS = (
    Aspect(
        "lambda",
        "UC Table 5: the weight of the unimodal loss",
        "Lambda",
        loss_weight,
        ("loss_settings.unimodal_weight",),
        # the paper's NaN at a small lambda needs its formula, without our floor
        ("loss_settings.min_variance",),
    ),
    Aspect(
        "head",
        "Bias Table 1: what stands on the backbone",
        "Model",
        head,
        ("head.activation",),
        ("head.hidden",),
    ),
    Aspect(
        "backbone",
        "Bias Table 2: backbones",
        "Model",
        lambda run: run.backbone,
        ("backbone",),
        ("start",),
    ),
    Aspect(
        "strategy",
        "Bias Table 3: training strategy",
        "Training Strategy",
        strategy,
        (),
        ("start", "recipe.frozen_epochs"),
    ),
    Aspect(
        "lr", "Bias Table 4: learning rate", "LR", lambda run: run.settings["recipe"]["lr"], ("recipe.lr",)
    ),
    Aspect(
        "batch_size",
        "Bias Table 5: batch size",
        "Batch",
        lambda run: run.settings["recipe"]["batch_size"],
        ("recipe.batch_size",),
    ),
    Aspect(
        "optimizer",
        "Bias Table 6: optimizer",
        "Optimizer",
        lambda run: run.settings["recipe"]["optimizer"].upper(),
        ("recipe.optimizer",),
        ("recipe.momentum",),  # sgd alone has it
    ),
)


def flat(settings: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """Nested settings as text by their path: {"recipe.lr": "0.001"}; what is empty is not there."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        place = f"{path}{key}"
        found |= flat(value, f"{place}.") if isinstance(value, Mapping) else {place: json.dumps(value)}
    return found


def under(place: str, paths: Sequence[str]) -> bool:
    """Whether a setting is one of some, or inside one."""
    return any(f"{place}.".startswith(f"{path}.") for path in paths)


def alike(runs: Sequence[Run], aspect: Aspect) -> list[list[Run]]:
    """Runs by all that was recorded of them but their name and the aspect, where that has several values."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        free = ("name", *aspect.own, *aspect.beside)
        rest = sorted((place, text) for place, text in flat(run.settings).items() if not under(place, free))
        # backbones have weights of their own, but those from scratch are no match for pretrained ones
        begun = "" if aspect.name == "strategy" else strategy(run)
        groups.setdefault((begun, *rest), []).append(run)
    return [group for group in groups.values() if len({str(aspect.value(run)) for run in group}) > 1]


def differences(group: Sequence[Run], aspect: Aspect) -> list[str]:
    """What else differs within a group, in a few words for each run; empty where nothing does."""
    found = [
        {place: text for place, text in flat(run.settings).items() if under(place, aspect.beside)}
        for run in group
    ]
    places = dict.fromkeys(place for one in found for place in one)
    differing = [place for place in places if len({one.get(place) for one in found}) > 1]
    return [
        ", ".join(f"{place.rpartition('.')[2]} {one[place]}" for place in differing if place in one)
        for one in found
    ]


def compared(runs: Sequence[Run]) -> Iterator[Table]:
    """UC Table 5 and Bias Tables 1 to 6: runs that differ in one thing, their validation loss and time."""
    for aspect in ASPECTS:
        rows = []
        for group in alike(runs, aspect):
            for run, beside in zip(group, differences(group, aspect), strict=True):
                found = {"value": aspect.value(run), "loss": run.name, "backbone": run.backbone}
                errors = {"val_loss": mean_of(run, "val_loss"), "mae": mean_of(run, "test_mae")}
                ended = {"minutes": minutes(run), "diverged": lost(run), "beside": beside}
                rows.append({**found, **errors, **ended})
        if rows:
            frame = pd.DataFrame(rows)
            columns: tuple[Column, ...] = (
                Column("value", aspect.heading, "g" if aspect.name in ("lambda", "lr") else ""),
                Column("loss", "Loss"),
                Column("backbone", "Backbone"),
                Column("val_loss", "Validation Loss", ".4g"),
                Column("mae", "MAE", ".3f", "", "lowest"),
                Column("minutes", "Time (in mins)", ".1f"),
            )
            if frame["beside"].any():
                columns += (Column("beside", "Differs too"),)
            yield Table(f"networks_by_{aspect.name}", aspect.title, frame, with_diverged(frame, columns))


def groups_of(runs: Sequence[Run]) -> list[str]:
    """Group columns that all runs' test faces have."""
    known = {*PREDICTIONS.names, "spread"}
    names = [name for name in runs[0].predictions.columns if name not in known]
    return [name for name in names if all(name in run.predictions.columns for run in runs)]


def fairness(runs: Sequence[Run], settings: Settings) -> Table:
    """Bias Tables 7 to 11: loss, weighting, and settings; MAE and the bias of every group column."""
    groups = groups_of(runs)
    rows = []
    for run in runs:
        test = run.test()
        first = test["column"].iloc[0]
        test = test[test["column"] == first]
        wide = [part for _, part in test.groupby("member")]
        columns = {name: wide[0][name].to_numpy(dtype=object) for name in groups}
        measured = fairness_table(
            {(run.name, weighting(run)): [part["prediction"].to_numpy() for part in wide]},
            wide[0]["target"].to_numpy(),
            columns,
        ).iloc[0]
        recipe = run.settings["recipe"]
        rows.append(
            {
                "model": run.backbone,
                **measured.to_dict(),
                "batch_size": recipe["batch_size"],
                "lr": recipe["lr"],
                "strategy": strategy(run),
            }
        )
    shown: list[Column] = [
        Column("model", "Model"),
        Column("loss", "Loss"),
        Column("weighting", "Weights"),
        Column("batch_size", "Batch size", "d"),
        Column("lr", "Learning rate", "g"),
        Column("strategy", "Training strategy"),
        Column("mae", "MAE", ".4f", "", "lowest"),
        Column("mae_std", "std", ".4f"),
    ]
    for name in groups:
        called = settings.target if name == BINS else name.replace("_", " ")
        shown.append(Column(f"{name}_bias", f"{called.capitalize()} bias", ".4f", "", "lowest"))
        shown.append(Column(f"{name}_bias_std", "std", ".4f"))
    note = (
        "Bias: the mean over all pairs of groups of the difference of their MAEs on test faces; 0 where all "
        "groups have the same error. Small groups alone make it large. std: over the networks of a run."
    )
    return Table(
        "networks_fairness", "Bias Tables 7 to 11: errors and biases", pd.DataFrame(rows), tuple(shown), note
    )
