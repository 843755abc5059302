"""A small bundle with dlib's real encoder, and a folder of pictures good and bad."""

import importlib.util
import io
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from pipeline.encoders import View
from pipeline.faces.extract import Settings
from pipeline.serving import bundle, packing
from pipeline.serving.bundle import Bundle
from pipeline.serving.rebuilt_encoders import EncoderSettings
from pipeline.serving.reference import Reference
from pipeline.training.mlp.layers import Layout
from pipeline.training.mlp.members import Members
from pipeline.uncertainty.conformal import calibrate
from pipeline.uncertainty.methods import Method

HERE = Path(__file__).resolve().parent
WIDTH = 128
Pixels = npt.NDArray[np.uint8]


def png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def hostile() -> ModuleType:
    """The tests of decoding, for the hostile files that they make."""
    spec = importlib.util.spec_from_file_location("hostile_files", HERE.parent / "faces/test_images.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def couple(portrait: Pixels) -> Pixels:
    """A picture with a small and a large face."""
    large = np.asarray(Image.fromarray(portrait).resize((360, 360)))
    return np.hstack([np.pad(portrait, ((0, 120), (0, 0), (0, 0)), mode="edge"), large])


def make_bundle(folder: Path, extra: Any = None, width: int = WIDTH, **changes: Any) -> str:
    """Write a bundle of three random models; `extra` files go along, changes into bundle.json."""
    layout = Layout((width, 8, 1))
    rows = layout.initial([1, 2, 3])
    members = Members(layout, rows * 3, (1, 2, 3))
    rng = np.random.default_rng(1)
    x = rng.normal(0, 0.1, (500, width)).astype(np.float32)
    said = Method("ensemble", members)(x)
    target = said.mean + rng.normal(0, 3, 500)
    found = calibrate("ensemble", (said, target), (said, target), (0.5, 0.9))
    (local,) = [one for one in found if one.kind == "local"]
    encoder = EncoderSettings(("dlib",), (View(),), 0.25)
    described: dict[str, Any] = {
        "version": "0",
        "revision": "none",
        "method": "ensemble",
        "kind": "local",
        "level": 0.9,
        "probabilities": [0.5],
        "groups": {"by": None, "bands": []},
        "threshold": 18,
        "target": {"name": "age", "unit": "years"},
        "encoder": {
            **encoder.described(),
            "fingerprints": [one.fingerprint for one in encoder.build()],
        },
        "crop": {
            "detectors": ["dlib_hog"],
            "size": 96,
            "margin": 0.25,
            "align": "none",
            "faces": "largest",
            "format": "png",
            "jpeg_quality": 95,
            "max_pixels": 1_000_000,
            "thresholds": {"min_face_size": 24},
        },
        "data": {"name": "sample", "faces": {"train": 500, "validation": 500, "test": 0}, "sha256": {}},
    }
    quality = {"sharpness": (1.0, 1e9), "face_size": (100.0, 1e9), "yaw": (0.0, 80.0)}
    return packing.write(
        folder,
        members=members,
        distribution=False,
        calibration=local,
        reference=Reference(x[:50], 9.0, -100.0, 100.0, quality),
        described={**described, **changes},
        texts={"MODEL_CARD.md": "a card\n"},
        extra=extra,
    )


@pytest.fixture(scope="session")
def new_bundle() -> Callable[..., str]:
    return make_bundle


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "bundle"
    make_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def model(model_folder: Path) -> Bundle:
    return bundle.load(model_folder)


@pytest.fixture(scope="session")
def settings(model: Bundle) -> Settings:
    return model.crop


@pytest.fixture(scope="session")
def pictures(
    tmp_path_factory: pytest.TempPathFactory, portrait: Pixels, couple: Pixels, hostile: ModuleType
) -> tuple[Path, dict[str, str]]:
    """A folder of pictures, and for each file that has no face the reason that is expected."""
    root = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        pixels = portrait.copy()
        pixels[:4, :4] = number
        (root / f"portrait {number}.png").write_bytes(png(pixels))
    (root / "deep" / "er").mkdir(parents=True)
    (root / "deep" / "er" / "couple.dat").write_bytes(png(couple))
    bad = root / "hostile"
    bad.mkdir()
    expected = {}
    for name, (make, reason, _) in hostile.KINDS.items():
        (bad / f"{name}.bin").write_bytes(make())
        expected[f"hostile/{name}.bin"] = reason
    more = {
        "empty.jpg": (b"", "empty_file"),
        "letter.jpg": (b"Dear reader, this is no photograph.\n" * 50, "not_an_image"),
        "bomb.png": (hostile.one_colour_png(50_000), "too_many_pixels"),
        "large.png": (hostile.one_colour_png(2000), "too_many_pixels"),
        "meadow.png": (png(np.full((60, 60, 3), 120, np.uint8)), "no_face"),
        "cut.png": (png(portrait)[:20_000], "truncated"),
        "tiff.jpg": (hostile.encoded(hostile.RGB, "TIFF"), "not_an_image"),
    }
    for name, (data, reason) in more.items():
        (bad / name).write_bytes(data)
        expected[f"hostile/{name}"] = reason
    (bad / "leaves.jpg").symlink_to("/etc/hostname")
    (bad / "nowhere.jpg").symlink_to("nothing")
    (bad / "round").symlink_to(root)
    os.mkfifo(bad / "pipe.jpg")
    Path(os.fsdecode(os.fsencode(bad) + b"/not-utf8-\xff.jpg")).write_bytes(b"?")
    expected |= {
        "hostile/leaves.jpg": "outside_root",
        "hostile/nowhere.jpg": "dangling_symlink",
        "hostile/round": "not_a_file",
        "hostile/pipe.jpg": "not_a_file",
        "hostile/not-utf8-\\xff.jpg": "not_an_image",
    }
    return root, expected


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    torch.set_num_threads(2)
