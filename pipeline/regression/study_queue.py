"""The queue of a study's trials: each slot is worked on until one trial of it has come to an end."""

import contextlib
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from pipeline.regression.sampling import SLOT
from pipeline.regression.storage import GRACE, HEARTBEAT, this_worker, worker_is_gone

WORKER = "worker"
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
    distributions
        What it proposes from.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: RDBStorage,
        slots: Sequence[Mapping[str, Any]],
        distributions: dict[str, BaseDistribution],
    ) -> None:
        self.study, self.storage = study, storage
        self.slots, self.distributions = slots, distributions
        self.study_id = storage.get_study_id_from_name(study.study_name)

    def owners(self) -> dict[int, FrozenTrial]:
        """Each slot's trial: the first that has not failed."""
        found: dict[int, FrozenTrial] = {}
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state != TrialState.FAIL and SLOT in trial.user_attrs:
                found.setdefault(trial.user_attrs[SLOT], trial)
        return found

    def finished(self) -> tuple[FrozenTrial, ...]:
        """The trials that came to an end, by slot."""
        owners = self.owners()
        found = [owners[slot] for slot in range(len(self.slots)) if slot in owners]
        return tuple(trial for trial in found if trial.state in FINISHED)

    def refill(self) -> None:
        """Put every slot that no trial owns into the queue, with the values that a lost trial had."""
        self.fail_abandoned()
        owners = self.owners()
        lost: dict[int, Mapping[str, Any]] = {}
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
            if set(trial.params) == set(self.distributions):
                lost[trial.user_attrs.get(SLOT, -1)] = trial.params
        for slot, given in enumerate(self.slots):
            if slot not in owners:
                self.study.enqueue_trial(dict(lost.get(slot, given)), user_attrs={SLOT: slot})

    def fail_abandoned(self) -> None:
        """Fail the trials whose workers are gone."""
        latest = datetime.now() - timedelta(seconds=self.storage.grace_period or GRACE)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            worker = trial.user_attrs.get(WORKER)
            unclaimed = worker is None and trial.datetime_start is not None and trial.datetime_start < latest
            if unclaimed or (worker is not None and worker_is_gone(worker)):
                self.fail(trial.number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            fail_stale_trials(self.study)

    def fail(self, number: int) -> None:
        """Fail one trial, unless somebody has finished it."""
        with contextlib.suppress(UpdateFinishedTrialError):
            self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def take(self, count: int) -> list[Trial]:
        """Up to so many trials of the queue, now in this worker's hand."""
        taken: list[Trial] = []
        while len(taken) < count and self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            with warnings.catch_warnings():
                # the heartbeat is kept up by `holding`
                warnings.filterwarnings("ignore", message="Heartbeat of storage")
                trial = self.study.ask(self.distributions)
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


@contextlib.contextmanager
def beating(storage: RDBStorage, ids: Sequence[int]) -> Iterator[None]:
    """Record heartbeats from a thread while the block runs."""
    done = threading.Event()

    def beat(interval: float) -> None:
        while True:
            for trial in ids:
                with contextlib.suppress(StorageInternalError, SQLAlchemyError):  # the next may get through
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
