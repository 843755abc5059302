from pathlib import Path
from typing import Any

import pytest

from pipeline import params
from pipeline.errors import UserError

PROJECT = Path(__file__).resolve().parents[1]


def changed(key: str, value: Any) -> dict[str, Any]:
    tree = params.plain(params.read_yaml(PROJECT / "params.yaml"))
    *path, last = key.split(".")
    place = tree
    for part in path:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    return tree


def test_the_default_is_valid() -> None:
    assert params.load(PROJECT / "params.yaml").data.name == "sample"


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("crop.margin", -1, "parameter 'crop.margin' is -1: input should be greater than or equal to 0"),
        ("crop.margin", "wide", "parameter 'crop.margin' is 'wide': input should be a valid number"),
        ("crop.margn", 1, "unknown parameter 'crop.margn': did you mean 'margin'?"),
        ("qqq", 1, "unknown parameter 'qqq': allowed are augment, "),
        ("seed", True, "parameter 'seed' is True: input should be a valid integer"),
        ("seed", 1.5, "parameter 'seed' is 1.5: input should be a valid integer"),
        ("encoder.views.0.pading", 1, "unknown parameter 'encoder.views.0.pading': did you mean 'padding'?"),
        ("split.fold", 7, "fold must be less than folds (5)"),
        ("split.test", 0.9, "validation and test together must be less than 1"),
        ("crop.detectors", ["hog"], "parameter 'crop.detectors.0' is 'hog': input should be 'dlib_hog'"),
        ("crop.detectors", [], "parameter 'crop.detectors' is []: list should have at least 1 item"),
        (
            "evaluate.group_edges",
            [40, 20],
            "parameter 'evaluate.group_edges': [40.0, 20.0] is not in ascending",
        ),
        (
            "train.balance.edges",
            [],
            "parameter 'train.balance.edges' is []: list should have at least 1 item",
        ),
        ("encoder.facenet.sha256", "abc", "parameter 'encoder.facenet.sha256' is 'abc'"),
    ],
)
def test_a_mistake_is_one_sentence_with_key_value_and_what_is_allowed(
    key: str, value: Any, sentence: str
) -> None:
    with pytest.raises(UserError) as raised:
        params.check(changed(key, value), Path("params.yaml"))
    assert sentence in str(raised.value)
    assert str(raised.value).startswith("params.yaml: ")
    assert "\n" not in str(raised.value)


def test_names_a_missing_parameter() -> None:
    tree = changed("seed", 1)
    del tree["crop"]["size"]
    with pytest.raises(UserError, match=r"parameter 'crop.size' is missing"):
        params.check(tree, Path("params.yaml"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a: [", "is not YAML"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"- 1\n", "must hold sections"),
        (b"a: 1\na: 2\n", "is not YAML"),
    ],
)
def test_refuses_what_is_not_a_mapping_in_yaml(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        params.load(path)


def test_says_from_where_to_run_when_the_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run vec2age from the project's top folder"):
        params.load(tmp_path / "params.yaml")
