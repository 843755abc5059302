"""A search for better settings that may be interrupted anywhere and shared by any number of workers."""

import contextlib
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from pipeline import losses
from pipeline.core.progress import bar
from pipeline.core.source_code import source_of
from pipeline.training.mlp.material import Material
from pipeline.training.search.queue import END, EPOCHS, MEMBERS, NOTED, Queue
from pipeline.training.search.sampling import SLOT, BySlot
from pipeline.training.search.space import Space
from pipeline.training.search.storage import StudyStorage
from pipeline.training.search.trials import Verdict, train_candidates

TRAINING = (
    "losses/base",
    "losses/class_losses",
    "losses/labels",
    "training/mlp/data",
    "training/mlp/fit",
    "training/mlp/material",
    "training/mlp/members",
    "training/mlp/layers",
    "training/mlp/optimizers",
    "training/mlp/recipe",
    "training/mlp/schedules",
    "training/mlp/setup",
    "training/search/space",
    "training/mlp/stack",
    "training/mlp/swa",
    "training/search/trials",
    "training/mlp/workers",
)
"""The modules that training a trial imports, but for the losses' own; a test keeps the list."""
WAIT = 2.0
"""Seconds between two looks at trials that other workers have in hand."""


@dataclass(frozen=True)
class Plan:
    """What a study searches, and how.

    Parameters
    ----------
    space
        The settings.
    seeds
        One member for each, in every trial: all trials are judged by the same seeds.
    trials
        How many come to an end; a grid has as many as points.
    group
        Trials asked for, trained and told together.
    sampler, grid_points
        Who proposes values; on a grid, at how many points a range is cut.
    pruning, warmup, every
        Who ends trials early, after how many epochs, and how often it looks.
    seed
        Of the proposals.
    """

    space: Space
    seeds: tuple[int, ...]
    trials: int
    group: int = 8
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    grid_points: int = 5
    pruning: Literal["median", "hyperband", "none"] = "median"
    warmup: int = 5
    every: int = 5
    seed: int = 0

    def slots(self) -> list[dict[str, Any]]:
        """The values that are given for each slot: a grid's points, else none."""
        if self.sampler == "grid":
            return list(self.space.grid(self.grid_points))
        return [{} for _ in range(self.trials)]

    def pruner(self) -> BasePruner:
        """Optuna's pruner."""
        longest = max(start.recipe.epochs for start in self.space.starts.values())
        if self.pruning == "hyperband":
            return HyperbandPruner(min_resource=min(self.warmup, longest), max_resource=longest)
        if self.pruning == "median":
            return MedianPruner(n_warmup_steps=self.warmup)
        return NopPruner()

    def code(self) -> list[str]:
        """The modules of this package on which a trial's result depends: `TRAINING`, and its losses' own."""
        names = {start.recipe.loss for start in self.space.starts.values()}
        if "loss" in self.space.dimensions:
            names |= set(self.space.dimensions["loss"])
        places = [losses.REGISTRY.places[name] for name in names if name in losses.REGISTRY.places]
        own = {place.partition(":")[0].removeprefix("pipeline.").replace(".", "/") for place in places}
        return sorted({*TRAINING, *own})

    def name(self, material: Material) -> str:
        """The study's name in its storage: it changes with everything that changes a trial's result.

        The number of trials, the size of groups and the start of a searched setting do not, so that a
        study can be extended, and goes on after its own best profile was merged into params.yaml.
        """
        searched = set(self.space.dimensions)
        starts = {}
        for name, start in self.space.starts.items():
            recipe = {key: value for key, value in asdict(start.recipe).items() if key not in searched}
            starts[name] = {**recipe, "lr": None if "lr" in searched else start.lr}
        described = {
            "dimensions": dict(self.space.dimensions),
            "starts": starts,
            "optimizer": self.space.optimizer,
            **{key: value for key, value in vars(self).items() if key not in ("space", "trials", "group")},
        }
        digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=list).encode())
        for array in vars(material).values():
            digest.update(b"none" if array is None else array.tobytes())
        digest.update(source_of(*self.code()))
        return f"vec2age-{digest.hexdigest()[:16]}"


@dataclass(frozen=True)
class Outcome:
    """A finished study: its trials by slot, and how many of them this worker trained."""

    study: optuna.Study
    trials: tuple[FrozenTrial, ...]
    trained_here: int


def run_study(
    material: Material,
    plan: Plan,
    storage: StudyStorage,
    *,
    workers: int | None = None,
) -> Outcome:
    """Work on a study until all of its trials have come to an end, here or at other workers.

    Parameters
    ----------
    material
        What members learn from, and the validation faces that judge them; test faces take no part.
    plan
        The study.
    storage
        Where trials are kept; whoever calls this with an equal storage, plan and material shares the work.
    workers
        Threads of this worker.

    Raises
    ------
    UserError
        The storage fails, or a trial's values cannot be trained with.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage,
        study_name=plan.name(material),
        sampler=BySlot(plan.seed, plan.sampler),
        pruner=NopPruner(),  # see `Judge`
        load_if_exists=True,
    )
    queue = Queue(study, storage, plan.slots(), plan.space.distributions(), plan.group)
    trained = 0
    with bar() as progress:
        shown = progress.add_task("trials", total=len(queue.slots))
        while True:
            queue.fail_abandoned()
            progress.update(shown, completed=len(queue.finished()))
            group = queue.take()
            if group:
                with queue.holding(group):
                    trained += work_on(group, material, plan, queue, workers)
            elif len(finished := queue.finished()) == len(queue.slots):
                return Outcome(study, finished, trained)
            else:
                time.sleep(WAIT)


class Judge:
    """Optuna's pruner, asked about one trial by itself: only trials of earlier groups are compared with it.

    Which others of its group have ended at some moment depends on how the work was shared and interrupted;
    so would their fate.

    Parameters
    ----------
    plan
        The study.
    name
        Of the study; Hyperband deals its brackets by it.
    earlier
        Trials by slot.
    trial
        The one that is judged.
    """

    def __init__(self, plan: Plan, name: str, earlier: Sequence[FrozenTrial], trial: Trial) -> None:
        slot = trial.user_attrs[SLOT]
        self.study = optuna.create_study(study_name=name, pruner=plan.pruner())
        known = {
            one.user_attrs[SLOT]: one for one in earlier if one.user_attrs[SLOT] < slot - slot % plan.group
        }
        for number in range(slot):
            one = known.get(number)
            self.study.add_trial(
                create_trial(state=TrialState.FAIL)  # it holds the place, so that numbers are slots
                if one is None
                else create_trial(
                    state=one.state,
                    value=one.value,
                    intermediate_values=one.intermediate_values,
                    system_attrs=one.user_attrs.get(NOTED, {}),
                )
            )
        self.trial = self.study.ask()

    def ends(self, value: float, epoch: int) -> bool:
        """Whether a trial that has reached this value is to be pruned."""
        self.trial.report(value, epoch)
        return self.trial.should_prune()

    def noted(self) -> dict[str, Any]:
        """What the pruner noted of the trial."""
        return dict(self.study.get_trials(deepcopy=False)[-1].system_attrs)


def work_on(group: Sequence[Trial], material: Material, plan: Plan, queue: Queue, workers: int | None) -> int:
    """Train a group of trials and tell the study; returns their number."""
    earlier = queue.finished()
    judged = [] if plan.pruning == "none" else group
    judges = [Judge(plan, queue.study.study_name, earlier, trial) for trial in judged]

    def judge(number: int, epoch: int, value: float) -> bool:
        if plan.pruning == "none" or epoch % plan.every:
            return False
        try:
            group[number].report(value, epoch)
        except UpdateFinishedTrialError:
            return True  # it was given to another worker meanwhile
        return judges[number].ends(value, epoch)

    candidates = [plan.space.candidate(trial.params) for trial in group]
    verdicts = train_candidates(material, candidates, plan.seeds, judge=judge, workers=workers)
    for number, (trial, verdict) in enumerate(zip(group, verdicts, strict=True)):
        tell(queue.study, trial, verdict, judges[number].noted() if judges else {})
    return len(group)


def tell(study: optuna.Study, trial: Trial, verdict: Verdict, noted: dict[str, Any] | None = None) -> None:
    """Tell how a trial ended. If it was given to another worker meanwhile, it is the other's."""
    with contextlib.suppress(UpdateFinishedTrialError):
        trial.set_user_attr(END, verdict.end)
        trial.set_user_attr(EPOCHS, list(verdict.epochs))
        trial.set_user_attr(NOTED, noted or {})
        if verdict.value is None:
            study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        else:
            trial.set_user_attr(MEMBERS, list(verdict.members))
            study.tell(trial, verdict.value, skip_if_finished=True)
