"""What pyproject.toml admits: nothing with a known hole, nothing that was never tried."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).resolve().parents[1]
FIXED = {
    "jinja2": "3.1.6",
    "onnx": "1.21",
    "pillow": "12.3",
    "torch": "2.10",
}
"""The first versions without holes that are known: an environment with an older one must not stay."""
BEHIND = 5
"""Minor versions that a bound may lag behind the lock, whose versions are those that the tests ran with."""


def declared() -> dict[str, Requirement]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    every = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return {canonicalize_name(one.name): one for one in map(Requirement, every)}


def locked() -> dict[str, Version]:
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", (PROJECT / "requirements.lock").read_text(), re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in found}


def bound(requirement: Requirement) -> Version:
    """The lowest version that a requirement admits; 0 where it has no bound."""
    lowest = [Version(one.version) for one in requirement.specifier if one.operator in (">=", "==", "~=")]
    return max(lowest, default=Version("0"))


@pytest.mark.parametrize("name", sorted(FIXED))
def test_no_version_with_a_known_hole_is_admitted(name: str) -> None:
    assert bound(declared()[name]) >= Version(FIXED[name])
    assert locked()[name] >= Version(FIXED[name])


@pytest.mark.parametrize("name", sorted(declared()))
def test_a_bound_is_near_the_version_that_was_tested(name: str) -> None:
    lowest, tested = bound(declared()[name]), locked()[name]
    assert lowest > Version("0"), f"{name} has no lower bound"
    assert lowest <= tested
    assert declared()[name].specifier.contains(tested)
    if lowest != Version(FIXED.get(name, "0")):  # a hole's mend may be the bound, in whatever version it came
        assert lowest.major == tested.major, f"{name}>={lowest}, and the lock has {tested}"
        assert lowest.minor >= tested.minor - BEHIND, f"{name}>={lowest}, and the lock has {tested}"
