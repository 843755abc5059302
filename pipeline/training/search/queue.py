"""The queue of a study's trials: each slot is worked on until one trial of it has come to an end."""

import contextlib
import math
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from pipeline.core.errors import UserError
from pipeline.training.search.sampling import SLOT
from pipeline.training.search.storage import (
    GRACE,
    HEARTBEAT,
    StudyStorage,
    answering,
    this_worker,
    worker_is_gone,
)

WORKER, END, MEMBERS, EPOCHS = "worker", "end", "members", "epochs"
NOTED = "pruner"
"""The user attribute of a trial that holds what a pruner noted of it, for those that come later."""
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class Queue:
    """The slots of a study, as its storage has them.

    A slot belongs to its first trial that has not failed, so that however often a trial is tried again, it
    counts once. A slot whose trial failed, because its worker died or was interrupted, is queued again with
    the same values.

    Parameters
    ----------
    study, storage
        Where trials are kept.
    slots
        The values that are given for each, empty where the sampler is to propose them.
    group
        So many slots, one after another, are worked on together.
    distributions
        What it proposes from.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: StudyStorage,
        slots: Sequence[Mapping[str, Any]],
        distributions: dict[str, BaseDistribution],
        group: int = 1,
    ) -> None:
        self.study, self.storage, self.group = study, storage, group
        self.slots, self.distributions = slots, distributions
        self.study_id = storage.get_study_id_from_name(study.study_name)

    def trials(self) -> list[FrozenTrial]:
        """All trials of the study.

        Raises
        ------
        UserError
            One that has ended holds what no trial of ours does: somebody else wrote into the storage.
        """
        with answering(self.storage.address):
            found = self.study.get_trials(deepcopy=False)
        for trial in found:
            if trial.state in FINISHED and SLOT in trial.user_attrs and not self.is_ours(trial):
                raise UserError(
                    f"trial {trial.number} in the study's storage holds what no training gives: the storage "
                    "is damaged, move it away to begin anew, or name another with --storage"
                )
        return found

    def is_ours(self, trial: FrozenTrial) -> bool:
        """Whether a trial that has ended has what such a trial has."""
        told = trial.user_attrs
        epochs, members = told.get(EPOCHS), told.get(MEMBERS, [])
        values = [trial.value] if trial.state == TrialState.COMPLETE else []
        return (
            type(told[SLOT]) is int
            and told.get(END) in ("complete", "pruned", "diverged")
            and (isinstance(epochs, list) and bool(epochs) and all(type(one) is int for one in epochs))
            and isinstance(members, list)
            and all(isinstance(one, float) and math.isfinite(one) for one in [*values, *members])
            and all(isinstance(one, float) for one in trial.intermediate_values.values())
            and all(is_of(self.distributions[name], trial.params.get(name)) for name in self.distributions)
            and isinstance(told.get(NOTED, {}), dict)
        )

    def owners(self) -> dict[int, FrozenTrial]:
        """Each slot's trial: the first that has not failed."""
        found: dict[int, FrozenTrial] = {}
        for trial in self.trials():
            if trial.state != TrialState.FAIL and type(slot := trial.user_attrs.get(SLOT)) is int:
                found.setdefault(slot, trial)
        return found

    def finished(self) -> tuple[FrozenTrial, ...]:
        """The trials that came to an end, by slot."""
        owners = self.owners()
        found = [owners[slot] for slot in range(len(self.slots)) if slot in owners]
        return tuple(trial for trial in found if trial.state in FINISHED)

    def open_slots(self) -> list[int]:
        """The slots of the first group that nobody works on, or of which somebody has yet to begin."""
        owners = self.owners()
        left = [
            slot
            for slot in range(len(self.slots))
            if slot not in owners or owners[slot].state == TrialState.WAITING
        ]
        return [slot for slot in left if slot // self.group == left[0] // self.group]

    def enqueue(self, slot: int) -> None:
        """Queue a slot, with the values that a lost trial of it had."""
        given = self.slots[slot]
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
            if trial.user_attrs.get(SLOT) == slot and set(trial.params) == set(self.distributions):
                given = trial.params
        self.study.enqueue_trial(dict(given), user_attrs={SLOT: slot, WORKER: this_worker()})

    def withdraw(self, number: int) -> None:
        """Take a trial that nobody has begun out of the queue."""
        with contextlib.suppress(UpdateFinishedTrialError):
            place = self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number)
            self.storage.set_trial_state_values(place, TrialState.FAIL)

    def fail_abandoned(self) -> None:
        """Fail the trials whose workers are gone."""
        latest = datetime.now() - timedelta(seconds=self.storage.grace_period or GRACE)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            worker = trial.user_attrs.get(WORKER)
            # its worker's name may still be that of who queued it: this one, which has none in hand now
            nobodys = not isinstance(worker, str) or worker == this_worker()
            unclaimed = nobodys and trial.datetime_start is not None and trial.datetime_start < latest
            if unclaimed or (isinstance(worker, str) and worker_is_gone(worker)):
                self.fail(trial.number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            fail_stale_trials(self.study)

    def fail(self, number: int) -> None:
        """Fail one trial, unless somebody has finished it."""
        with contextlib.suppress(UpdateFinishedTrialError):
            self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def take(self) -> list[Trial]:
        """The open trials of one group, now in this worker's hand.

        They are asked for in the order of their slots, one after another, also where some of them were lost:
        what is proposed for one depends on those before it.
        """
        taken: list[Trial] = []
        while slots := self.open_slots():
            if taken and slots[0] // self.group != taken[0].user_attrs[SLOT] // self.group:
                break
            if slots[0] not in (owners := self.owners()):
                for later in (owners[slot] for slot in slots if slot in owners):
                    self.withdraw(later.number)  # queued when a worker was killed, it would come first
                self.enqueue(slots[0])
            with warnings.catch_warnings(), answering(self.storage.address):
                # the heartbeat is kept up by `holding`
                warnings.filterwarnings("ignore", message="Heartbeat of storage")
                trial = self.study.ask(self.distributions)
            with contextlib.suppress(UpdateFinishedTrialError):
                trial.set_user_attr(WORKER, this_worker())
            slot = trial.user_attrs.get(SLOT, -1)
            owner = self.owners().get(slot)
            # Where another worker was quicker, Optuna makes a trial of its own, or a slot was queued twice.
            if owner is not None and owner.number == trial.number and slot < len(self.slots):
                taken.append(trial)
            else:
                self.fail(trial.number)
        return taken

    @contextlib.contextmanager
    def holding(self, group: Sequence[Trial]) -> Iterator[None]:
        """Keep the heartbeat of trials up; if the block ends with an error, give them back."""
        numbers = [trial.number for trial in group]
        ids = [self.storage.get_trial_id_from_study_id_trial_number(self.study_id, n) for n in numbers]
        with beating(self.storage, ids):
            try:
                yield
            except BaseException:
                for number in numbers:
                    self.fail(number)
                raise


def is_of(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a value may have been drawn from a distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        return False
    kinds = (int,) if isinstance(distribution, IntDistribution) else (int, float)
    return type(value) in kinds and distribution.low <= value <= distribution.high


@contextlib.contextmanager
def beating(storage: StudyStorage, ids: Sequence[int]) -> Iterator[None]:
    """Record heartbeats from a thread while the block runs."""
    done = threading.Event()

    def beat(interval: float) -> None:
        while True:
            for trial in ids:
                with contextlib.suppress(UserError):  # the next may get through
                    storage.record_heartbeat(trial)
            if done.wait(interval):
                return

    interval = storage.heartbeat_interval or HEARTBEAT
    thread = threading.Thread(target=beat, args=(interval,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
