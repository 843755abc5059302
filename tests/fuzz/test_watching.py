"""The watch itself: an attack that cannot fail would prove nothing."""

import os
import signal

import pytest


def act(item):
    if item == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "raise":
        raise ValueError("no")
    if item == "grow":
        return len(b"x" * (800 * 2**20))
    if item == "child":
        if os.fork() == 0:
            b"x" * (800 * 2**20)
            os._exit(0)
        os.wait()
    return item


def test_a_process_that_a_case_starts_counts_as_well(watched):
    child, after = watched(act, ["child", "a"])
    assert not child.within_limits()
    assert after.within_limits()


def test_each_case_has_its_own_outcome(watched):
    well, died, raised, grew, last = watched(act, ["a", "die", "raise", "grow", "b"])
    assert well.result == "a"
    assert well.within_limits()
    assert died.died == f"exit code {-signal.SIGSEGV}"
    assert not died.within_limits()
    assert isinstance(raised.raised, ValueError)
    assert grew.result == 800 * 2**20
    assert not grew.within_limits()
    assert last.result == "b"
    assert last.rise < 100 * 2**20


@pytest.mark.parametrize(("full", "sample"), [(10, 2)])
def test_a_plain_run_takes_a_sample(cases, full, sample):
    assert cases(full, sample) == (full if os.environ.get("FUZZ") == "1" else sample)
