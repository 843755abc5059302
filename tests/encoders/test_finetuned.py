"""The encoder of a trained network: its pooled features, its own fingerprint, no face that it has seen."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline.backbones import starts
from pipeline.backbones.input_transforms import Look
from pipeline.backbones.trained import read_trained
from pipeline.core.errors import UserError
from pipeline.encoders import View, build
from pipeline.training.networks.criterion import build_criterion
from pipeline.training.networks.network import FaceNetwork
from pipeline.training.networks.recipe import HeadRecipe
from pipeline.training.networks.saved import Architecture, read_network, write_network

SEEN = {"train": ["a", "b"], "validation": ["c"]}
TARGETS = torch.tensor([[20.0], [40.0]])


def network(
    backbone: str, look: Look, loss: str = "dldl_v2", **settings: Any
) -> tuple[FaceNetwork, Architecture]:
    torch.manual_seed(1)
    trunk = starts.build(backbone, **settings)
    criterion, loss_settings = build_criterion(loss, {}, TARGETS, TARGETS)
    architecture = Architecture(
        backbone, settings, look, ("target",), loss, loss_settings, HeadRecipe(hidden=(4,))
    )
    return FaceNetwork(trunk, architecture.build_head(trunk.width, criterion, TARGETS)).eval(), architecture


def written(
    path: Path, backbone: str = "test_resnet", look: Look | None = None, **settings: Any
) -> FaceNetwork:
    built, architecture = network(backbone, look or Look("crop", 48), **settings)
    write_network(built, architecture, SEEN, path)
    return built


def crops(count: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def as_pixels(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("loss", ["mse", "combo", "coral", "dldl_v2"])
@torch.no_grad()
def test_a_network_comes_back_as_it_was(tmp_path: Path, loss: str) -> None:
    path = tmp_path / "n.safetensors"
    built = written(path, loss=loss)
    again, architecture = read_network(path)
    pixels = as_pixels(crops(3, 48))
    criterion = architecture.criterion()
    assert torch.equal(criterion.prediction(again(pixels)), criterion.prediction(built(pixels)))
    assert not again.training


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        written(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("backbone", "look", "settings"),
    [
        ("test_resnet", Look("crop", 48), {}),
        ("test_resnet", Look("crop", 40, padding=0.1, resize=48), {}),
        ("dlib", Look("aligned", 150), {}),
        ("dlib", Look("aligned", 96, padding=0.4), {"folded": False}),
    ],
)
@torch.no_grad()
def test_vectors_are_the_pooled_features_of_what_the_network_was_trained_on(
    tmp_path: Path, backbone: str, look: Look, settings: dict[str, Any]
) -> None:
    path = tmp_path / "n.safetensors"
    built = written(path, backbone, look, **settings)
    encoder = build("finetuned", weights=str(path))
    images = crops(3)
    landmarks = np.tile(np.array([[48, 25], [40, 26], [16, 25], [24, 26], [32, 42]], np.float32), (3, 1, 1))
    expected = built.features(as_pixels(look.cut(images, landmarks, margin=0.25)))
    found = encoder.encode(images, landmarks)
    assert found.shape == (3, encoder.dim)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_fingerprint_names_the_weights_and_the_look(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    written(one)
    written(two, look=Look("crop", 64))
    first = build("finetuned", weights=str(one))
    assert first.fingerprint.startswith("finetuned-test_resnet-crop/")
    others = [
        build("finetuned", weights=str(two)).fingerprint,
        build("finetuned", weights=str(one), view=View(mirror=True)).fingerprint,
        build("finetuned", weights=str(one), view=View(padding=0.1)).fingerprint,
    ]
    assert len({first.fingerprint, *others}) == 4
    images = crops(2)
    mirrored = build("finetuned", weights=str(one), view=View(mirror=True)).encode(images)
    np.testing.assert_allclose(mirrored, first.encode(images[:, :, ::-1]), rtol=1e-4, atol=1e-5)


def test_half_precision_agrees(tmp_path: Path) -> None:
    path = tmp_path / "n.safetensors"
    written(path)
    exact = build("finetuned", weights=str(path)).encode(crops(4))
    half = build("finetuned", weights=str(path), precision="bfloat16").encode(crops(4))
    cosines = (exact * half).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(half, axis=1)
    assert cosines.min() > 0.999


def test_faces_that_the_network_has_learnt_from_may_not_judge_it(tmp_path: Path) -> None:
    path = tmp_path / "n.safetensors"
    written(path)
    trained = read_trained(path)
    trained.check_unseen({"train": ["a", "c"], "validation": ["c", "d"], "test": ["e"]})
    with pytest.raises(
        UserError, match="has learnt from 1 of the 2 test faces, first b: train it on this split"
    ):
        trained.check_unseen({"train": [], "validation": [], "test": ["e", "b"]})
    with pytest.raises(UserError, match="1 of the 1 test faces, first c"):
        trained.check_unseen({"train": [], "validation": [], "test": ["c"]})
    with pytest.raises(UserError, match="1 of the 1 validation faces, first a"):
        trained.check_unseen({"train": [], "validation": ["a"], "test": []})


def test_what_is_no_network_of_ours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "n.safetensors"
    written(path)
    with pytest.raises(UserError, match=r"name it in encoder\.finetuned\.weights"):
        build("finetuned")
    with pytest.raises(UserError, match="has the sha256"):
        build("finetuned", weights=str(path), sha256="0" * 64)
    with pytest.raises(UserError, match=r"nothing\.safetensors cannot be read"):
        build("finetuned", weights=str(tmp_path / "nothing.safetensors"))
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    with pytest.raises(UserError, match="not what belongs here: name a network of models"):
        build("finetuned", weights=str(foreign))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match=r"n\.safetensors is damaged"):
        build("finetuned", weights=str(path))


def test_a_trained_backbone_can_be_trained_on(tmp_path: Path) -> None:
    path = tmp_path / "n.safetensors"
    built = written(path)
    again = starts.build("test_resnet", weights=path)
    assert all(torch.equal(t, built.trunk.state_dict()[name]) for name, t in again.state_dict().items())
    with pytest.raises(UserError, match="holds a network 'test_resnet', not 'resnet18'"):
        starts.build("resnet18", weights=path)
