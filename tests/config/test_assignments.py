import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline import config
from pipeline.config import Params
from pipeline.config.assignments import parse_assignment
from pipeline.config.profiles import use
from pipeline.config.yaml.edit import rewritten
from pipeline.config.yaml.text import parsed
from pipeline.core.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]
TEXTS = [
    *(
        "/x/photos #2",
        "123",
        "yes",
        "no",
        "1e3",
        "2024-01-01",
        "0x10",
        "~",
        "null",
        "true",
        "0.5",
        "C:\\x",
        "a: b",
    ),
    *(
        "[x]",
        "{x: 1}",
        '"quoted"',
        "'q'",
        " spaces ",
        "a=b",
        "- x",
        "*x",
        "&x",
        "!x",
        "%x",
        "@x",
        "`x",
        "?",
        "#",
        "| x",
    ),
    *("[", "a\tb", "x\ny", "é…☺", "\u2028", "<<", "---", "...", ".", "-"),
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_setting_is_the_text(text: str) -> None:
    path, value = parse_assignment(f"data.root={text}", config.Params)
    assert (path, value) == (["data", "root"], text)
    wanted = {"data": {"root": text, "name": "csv"}}
    new = rewritten("data:\n  root: x # where\n  name: csv\n", wanted)
    assert parsed(new).values == wanted
    assert YAML(typ="safe").load(new) == wanted, "as DVC reads it"
    assert new.endswith(" # where\n  name: csv\n")
    assert rewritten(new, wanted) == new


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("augment.pictures=null", None),
        ("augment.pictures=~", None),
        ("augment.pictures=", None),
        ("augment.pictures=/x #2", "/x #2"),
        ("augment.pictures=123", "123"),
        ("encoder.names=[dlib, 12, yes, 'a #b', 2024-01-01]", ["dlib", "12", "yes", "a #b", "2024-01-01"]),
        ("evaluate.groups=null", None),
        ("evaluate.groups=[]", []),
        ("train.optimizers=adam", "adam"),  # which a list's setting refuses
        ("crop.margin=1e-1", 0.1),
        ("crop.size=0x10", 16),
        ("crop.size=224 # pixels", "224 # pixels"),  # which a number's setting refuses
        ("encoder.compile=true", True),
        ("train.seeds=[1, 2]", [1, 2]),
        ("train.seeds=3", 3),
        ("crop={size: 3}", {"size": 3}),
        ("data.settings.table=faces #2.csv", "faces #2.csv"),
        ("data.settings.table=2024-01-01", "2024-01-01"),
        ("data.settings.columns={a: b}", {"a": "b"}),
        ("data.settings.per_age=40", 40),
        ("finetune.losses=[mse]", ["mse"]),
        ("no.such.key=1", 1),
        ("crop.size.deeper=1", 1),
    ],
)
def test_the_type_of_a_setting_says_how_its_value_is_read(assignment: str, value: Any) -> None:
    path, found = parse_assignment(assignment, Params)
    assert path == assignment.partition("=")[0].split(".")
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["a #b", "12"])
def test_what_yaml_takes_for_a_number_is_refused_in_a_profile(text: str, tmp_path: Path) -> None:
    target = Path(shutil.copy(PROJECT / "params.yaml", tmp_path))
    (tmp_path / "p.yaml").write_text(f"data: {{root: '{text}'}}\n")
    use(tmp_path / "p.yaml", target=target)
    assert config.load(target).data.root == text
    (tmp_path / "p.yaml").write_text("data:\n  root: 12\n")
    with pytest.raises(
        UserError, match=r"parameter 'data\.root' is 12: it takes text: what YAML .* in quotes"
    ):
        use(tmp_path / "p.yaml", target=target)
