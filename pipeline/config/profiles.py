"""Profiles: overlays that are merged into params.yaml without losing its comments."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import config
from pipeline.config.assignments import parse_assignment, shown
from pipeline.config.yaml.edit import rewritten
from pipeline.config.yaml.text import Document, NotYamlError, read_text
from pipeline.core.credentials import masked
from pipeline.core.errors import UserError
from pipeline.core.places import resolved
from pipeline.core.tables import atomic_file

REPLACED = ("settings", "variants", "starts", "loss_settings")
PROFILES = Path("profiles")
STARTS_FROM = "starts_from"


def use(profile: Path, assignments: Sequence[str] = (), target: Path = config.PARAMS) -> list[str]:
    """Merge a profile, then single assignments such as `data.root=photos`, into params.yaml.

    Another reader, loss or architecture begins without settings: they are those of the old one.

    Parameters
    ----------
    profile
        A YAML file with any part of params.yaml's keys. With the key `starts_from`, a profile in the same
        folder, that one is merged first: what another profile set before does not stay.
    assignments
        `key.in.params=value` texts; the value of a text setting is text, any other is read as YAML.
    target
        The file to change. Its comments and the order of its keys are kept, and all that does not change.

    Returns
    -------
    list of str
        One line for each value that changed: `crop.margin: 0.25 -> 0.3`.

    Raises
    ------
    UserError
        When the merged parameters are not valid; the file is then left as it was.
    """
    document = config.read_document(target)
    tree = copy.deepcopy(document.values)
    before = flatten(tree)
    overlays = layers(profile)
    for layer in overlays:
        merge(tree, copy.deepcopy(layer.values))
    parsed = [parse_assignment(text, config.Params) for text in assignments]
    check_root(profile, overlays[-1].values, [".".join(path) for path, _ in parsed])
    # Names first: another one empties settings, in whatever order they are given.
    for path, value in sorted(parsed, key=lambda assignment: assignment[0][-1] != "name"):
        assign(tree, path, value)
    config.check(tree, Path(f"{profile} with --set") if assignments else profile)
    text = read_text(target)
    try:
        new = rewritten(text, tree, overlays)
    except NotYamlError as error:
        raise UserError(f"{target} is left as it was: {error}") from None
    if new != text:
        with atomic_file(resolved(target)) as file:  # a link stays
            file.write(new.encode())
    after = flatten(tree)
    return [
        masked(f"{key}: {before.get(key, '(absent)')} -> {after.get(key, '(absent)')}")
        for key in after | before
        if before.get(key) != after.get(key)
    ]


def layers(profile: Path) -> list[Document]:
    """A profile and, before it, the one that it starts from."""
    overlay = read_profile(profile)
    base = overlay.values.pop(STARTS_FROM, None)
    if base is None:
        return [overlay]
    if not isinstance(base, str) or base not in {path.name for path in profile.parent.iterdir()}:
        raise UserError(f"{profile}: {STARTS_FROM} is {shown(str(base))}: name a profile in the same folder")
    return [read_profile(profile.parent / base), overlay]


def read_profile(profile: Path) -> Document:
    """A profile's mapping; one that does not exist is named with those that do."""
    if not profile.exists():
        known = ", ".join(sorted(path.name for path in PROFILES.glob("*.yaml"))) or "no profile"
        raise UserError(f"{profile} does not exist: {PROFILES}/ holds {known}")
    return config.read_document(profile)


def check_root(profile: Path, overlay: dict[str, Any], assigned: Sequence[str]) -> None:
    """Refuse `data.root` for a profile that names pictures to classify and no faces.

    Its faces are the sample's: they would be drawn into a folder that was meant to be read.
    """
    named = "data" in overlay or "data.name" in assigned
    classify = overlay.get("classify")
    if "data.root" in assigned and not named and isinstance(classify, dict) and "images" in classify:
        raise UserError(
            f"--set data.root is where faces lie, and {profile} names none, only pictures to classify: "
            "say where these lie with --set classify.images.root, or name the faces with --set data.name, too"
        )


def merge(tree: dict[str, Any], overlay: dict[str, Any]) -> None:
    """Write an overlay's values over a tree's, in place; those of `REPLACED` are replaced whole."""
    if "name" in overlay:
        rename(tree, overlay["name"])
    for key, value in overlay.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict) and key not in REPLACED:
            merge(tree[key], value)
        elif tree.get(key) != value or key not in tree:
            tree[key] = value


def rename(section: dict[str, Any], name: Any) -> None:
    """Empty the settings of a section that is to have another name, in place."""
    if section.get("name") != name and "settings" in section:
        section["settings"] = {}


def assign(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Write one value into a tree, in place; what stands beside it stays."""
    *parents, key = path
    for part in parents:
        if not isinstance(tree.get(part), dict):
            tree[part] = {}
        tree = tree[part]
    if key == "name":
        rename(tree, value)
    if tree.get(key) != value or key not in tree:
        tree[key] = value


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
