"""`use` over styles, comments and settings: what it writes says what was wanted, and keeps every comment."""

import copy
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import config
from pipeline.config.profiles import flatten, use
from pipeline.config.yaml.edit import rewritten
from pipeline.config.yaml.text import NotYamlError, parsed
from pipeline.config.yaml.write import same

PROJECT = Path(__file__).resolve().parents[2]
LISTS = sorted(
    key
    for key, value in flatten(config.read_yaml(PROJECT / "params.yaml")).items()
    if isinstance(value, list) and not any(isinstance(item, dict) for item in value)
)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return Path(shutil.copy(PROJECT / "params.yaml", tmp_path))


def comments_of(text: str) -> list[str]:
    return sorted(re.findall(r"# [^\r\n#]*[^\r\n #]", text))


def test_every_list_setting_can_be_set_after_dvc_has_rewritten_the_file(target: Path) -> None:
    from dvc.utils.serialize import modify_yaml

    with modify_yaml(str(target)) as tree:  # as `dvc exp run -S` does
        for key in LISTS:
            *parents, last = key.split(".")
            section = tree
            for parent in parents:
                section = section[parent]
            section[last] = [*section[last], "x"][::-1]
        tree["crop"]["margin"] = 0.3
    told, before = comments_of(target.read_text()), flatten(config.read_yaml(target))
    assert len(LISTS) > 16
    original = config.read_yaml(PROJECT / "params.yaml")
    (target.parent / "mine.yaml").write_text(json.dumps({"crop": {"margin": 0.3}}))
    for key in LISTS:
        tree = original
        for part in key.split("."):
            tree = tree[part]
        target.write_text(rewritten(target.read_text(), _with(config.read_yaml(target), key, tree)))
        after = flatten(config.read_yaml(target))
        assert {name for name in after if not same(after[name], before.get(name))} == {key}
        before = after
    assert comments_of(target.read_text()) == told
    assert before == flatten(original) | {"crop.margin": 0.3}
    use(target.parent / "mine.yaml", ["crop.margin=0.25"], target)
    assert config.load(target) == config.load(PROJECT / "params.yaml")


def _with(tree: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    tree = copy.deepcopy(tree)
    *parents, last = key.split(".")
    section = tree
    for parent in parents:
        section = section[parent]
    section[last] = value
    return tree


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        ("a: # why\n  - 1\n  - 2\nb: 3\n", {"a": [9], "b": 3}, "a: [9] # why\nb: 3\n"),
        ("a:\n  - 1 # one\n  # two\n  - 2 # three\n", {"a": [9]}, "a: [9] # one # two # three\n"),
        ("a:      # none\n", {"a": 1}, "a: 1      # none\n"),
        ("a: |  # text\n  x\n  y\n\nb: 1\n", {"a": "z", "b": 1}, "a: z # text\n\nb: 1\n"),
        ("a: 1\r\nb: 2 # c\r\n", {"a": 3, "b": 2}, "a: 3\r\nb: 2 # c\r\n"),
        ("\ufeffa: 1", {"a": 2, "b": [1]}, "\ufeffa: 2\nb: [1]"),
        ("{a: 1, b}", {"a": 1, "b": 2}, "{a: 1, b: 2}"),
        ("a: {x: 1,} # c\n", {"a": {"x": 1, "k": "z, w"}}, 'a: {x: 1, k: "z, w",} # c\n'),
        (
            "a:\n  b: # none\n\n# own\nc:\n  -  # x\n",
            {"a": {"b": None, "d": 1}, "c": [2]},
            "a:\n  b: # none\n  d: 1\n\n# own\nc:\n  - 2  # x\n",
        ),
        ("a: &x {l: 1}\nb: *x\n", {"a": {"l": 2}, "b": {"l": 1}}, "a: &x {l: 2}\nb: {l: 1}\n"),
        (
            "a: &x {l: 1}\nb:\n  <<: *x\n",
            {"a": {"l": 2}, "b": {"l": 1}},
            "a: &x {l: 2}\nb:\n  <<: *x\n  l: 1\n",
        ),
        ("a: [&x 1, 2]\nb: *x\n", {"a": [3], "b": 1}, "a: [3]\nb: 1\n"),
        ("a: [1, # one\n  2]\n", {"a": [3]}, "a: [3] # one\n"),
        ("a: '#1' # c\n", {"a": "#2"}, 'a: "#2" # c\n'),
        ("a: {}\nb: 1\n", {"a": {"k": 1}, "b": 1}, "a: {k: 1}\nb: 1\n"),
        ("a:\n- k: 1 # c\n", {"a": [{"k": 2, "l": None}]}, "a:\n- k: 2 # c\n  l: null\n"),
    ],
)
def test_only_what_changes_is_written(before: str, wanted: dict[str, Any], after: str) -> None:
    assert rewritten(before, wanted) == after
    assert rewritten(after, wanted) == after


def test_a_key_that_cannot_be_changed_is_refused() -> None:
    with pytest.raises(NotYamlError, match="change it by hand"):
        rewritten("? a\n: 1\n? [b]\n: 2\n", {"a": 1})


TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.sampled_from(
        ["yes", "null", "~", "1e3", "2024-01-01", "0x10", "12:30", "- a", "# b", "a: b", " a ", "*x", "&x"]
    )
)
NAMES = st.sampled_from(["alpha", "beta", "gamma", "delta", "a b", "yes", "1", "#h"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
TREES = st.dictionaries(NAMES, VALUES, min_size=1, max_size=4)


class Written:
    """A tree as YAML in a style that is drawn, with a comment wherever there may be one."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.comments: list[str] = []

    def comment(self) -> str:
        if not self.draw(st.booleans()):
            return ""
        self.comments.append(f"# c{len(self.comments)}")
        return " " * self.draw(st.integers(1, 9)) + self.comments[-1]

    def scalar(self, value: Any, indent: int, *, flow: bool) -> str:
        if value is None:
            return self.draw(st.sampled_from(["null", "~"] if flow else ["null", "~", ""]))
        if not isinstance(value, str):
            return json.dumps(value) if not isinstance(value, float) else repr(value)
        if not value.isprintable() or not value.isascii():
            return json.dumps(value) if max(map(ord, value)) < 0x10000 else f'"{self.escaped(value)}"'
        styles = ['"', "'"]
        if re.fullmatch(r"[a-z][a-z ]*[a-z]", value) and value not in ("null", "true", "false"):
            styles += ["plain"] if flow else ["plain", "|", ">"]
        style = self.draw(st.sampled_from(styles))
        if style == "plain":
            return value
        if style in "|>":
            return f"{style}-{self.comment()}{self.end}{' ' * (indent + 2)}{value}"
        return json.dumps(value) if style == '"' else "'" + value.replace("'", "''") + "'"

    def escaped(self, value: str) -> str:
        return "".join(f"\\U{ord(char):08x}" for char in value)

    def flow(self, value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{json.dumps(k)}: {self.flow(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list):
            space = self.draw(st.sampled_from(["", " "]))
            return f"[{space}" + f",{space}".join(self.flow(item) for item in value) + "]"
        return self.scalar(value, 0, flow=True)

    def block(self, value: Any, indent: int) -> str:
        """What follows a key's colon or a dash, its line's end included."""
        pad = " " * indent
        if value and isinstance(value, dict) and self.draw(st.booleans()):
            text = self.comment() + self.end
            for key, inner in value.items():
                text += self.own(indent) + f"{pad}  {self.key(key)}:{self.block(inner, indent + 2)}"
            return text
        if value and isinstance(value, list) and self.draw(st.booleans()):
            text = self.comment() + self.end
            for item in value:
                text += self.own(indent) + f"{pad}  -{self.block(item, indent + 2)}"
            return text
        said = self.flow(value) if isinstance(value, dict | list) else self.scalar(value, indent, flow=False)
        block = said[:1] in "|>" and said
        return (f" {said}" if said else "") + ("" if block else self.comment()) + self.end

    def own(self, indent: int) -> str:
        found = self.comment().strip()
        return f"{' ' * (indent + 2)}{found}{self.end}" if found else ""

    def key(self, key: str) -> str:
        return key if re.fullmatch("[a-z]+", key) and self.draw(st.booleans()) else json.dumps(key)

    def whole(self, tree: dict[str, Any]) -> str:
        self.end = self.draw(st.sampled_from(["\n", "\r\n"]))
        text = self.comment().strip() + self.end
        for key, value in tree.items():
            text += f"{self.key(key)}:{self.block(value, 0)}" + self.draw(st.sampled_from(["", self.end]))
        if self.draw(st.booleans()):
            text = text.rstrip("\r\n ")
        return ("\ufeff" if self.draw(st.booleans()) else "") + text


@settings(
    max_examples=2000 if os.environ.get("FUZZ") == "1" else 150,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)
@given(st.data())
def test_any_tree_in_any_style_becomes_any_other_and_keeps_its_comments(data: st.DataObject) -> None:
    tree, other = data.draw(TREES), data.draw(TREES)
    written = Written(data.draw)
    text = written.whole(tree)
    assert same(parsed(text).values, tree), text
    wanted = tree | other
    for key in set(tree) & set(other):  # below, too, only a part changes
        if isinstance(tree[key], dict) and isinstance(other[key], dict):
            wanted[key] = tree[key] | other[key]
    styles = [parsed(Written(data.draw).whole(other))]
    new = rewritten(text, wanted, styles)
    assert same(parsed(new).values, wanted), (text, new)
    assert rewritten(new, wanted, styles) == new
    kept = re.findall(r"# c\d+", new)
    assert sorted(kept) == sorted(written.comments), (text, new)
    assert new.startswith("\ufeff") == text.startswith("\ufeff")
    ends = set(re.findall(r"\r?\n", text))
    assert not ends or set(re.findall(r"\r?\n", new)) == ends
