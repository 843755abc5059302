"""Backbones: every way to their weights gives those weights, and nothing else passes."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from facenet_pytorch import InceptionResnetV1
from safetensors.torch import save_file
from torch import Tensor

from pipeline.backbones.starts import build, translated
from pipeline.backbones.trunks import build_trunk
from pipeline.backbones.weights import dlib_network_file
from pipeline.core.errors import UserError
from pipeline.dlib.resnet import DlibResNet, load_dlib_weights
from pipeline.encoders.efficientnet_lite0 import efficientnet_lite0

SMALL = "test_resnet"


def pixels(count: int, size: int) -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8))


@pytest.fixture(scope="module")
def small() -> dict[str, Tensor]:
    """The weights of a small network with a classifier."""
    torch.manual_seed(3)
    state: dict[str, Tensor] = timm.create_model(SMALL, num_classes=7).state_dict()
    return state


@pytest.mark.parametrize("folded", [True, False])
@torch.no_grad()
def test_dlib_has_its_true_weights_folded_and_unfolded(folded: bool) -> None:
    trunk = build("dlib", folded=folded).eval()
    whole = load_dlib_weights(DlibResNet())
    np.testing.assert_allclose(trunk(pixels(2, 150)), whole.features(pixels(2, 150)), rtol=1e-3, atol=1e-4)
    assert any("affine" in name for name in trunk.state_dict()) is not folded
    by_file = build("dlib", folded=folded, weights=dlib_network_file()).state_dict()
    assert all(torch.equal(by_file[name], value) for name, value in trunk.state_dict().items())


@torch.no_grad()
def test_dlib_enlarges_pictures_that_are_too_small_for_it() -> None:
    assert build("dlib").eval()(pixels(1, 96)).shape == (1, 256)


@torch.no_grad()
def test_efficientnet_lite0_starts_from_the_weights_in_the_package() -> None:
    crops = pixels(2, 224)
    expected = efficientnet_lite0().encode(crops.permute(0, 2, 3, 1).contiguous().numpy())
    np.testing.assert_allclose(build("efficientnet_lite0").eval()(crops), expected, rtol=1e-2, atol=1e-3)
    torch.manual_seed(0)
    random = build("efficientnet_lite0", pretrained=False).eval()(crops)
    assert not np.allclose(random, expected, atol=0.1)


@pytest.mark.parametrize("name", ["resnet18", "seresnext50_32x4d", "vgg16"])
def test_timms_networks_are_random_unless_told_otherwise(name: str) -> None:
    with torch.device("meta"):
        width = build_trunk(name).width
    assert width == {"resnet18": 512, "seresnext50_32x4d": 2048, "vgg16": 4096}[name]


def test_published_weights_are_not_fetched_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *words: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *words: pytest.fail("it was fetched"))
    with pytest.raises(
        UserError, match=r"resnet18': .* not on this machine: set download to true, or fetch http"
    ):
        build("resnet18", pretrained=True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match="facenet's weights"):
        build("facenet", pretrained="vggface2")


@pytest.mark.parametrize("form", ["pth", "safetensors", "wrapped"])
def test_a_local_file_is_loaded_without_its_classifier(
    tmp_path: Path, small: dict[str, Tensor], form: str
) -> None:
    path = tmp_path / f"weights.{'safetensors' if form == 'safetensors' else 'pth'}"
    if form == "safetensors":
        save_file(small, path)
    elif form == "wrapped":
        torch.save({"epoch": 3, "state_dict": {f"module.{key}": t for key, t in small.items()}}, path)
    else:
        torch.save(small, path)
    loaded = build(SMALL, weights=path).state_dict()
    assert {f"network.{key}" for key in small} - set(loaded) == {"network.fc.weight", "network.fc.bias"}
    assert all(torch.equal(tensor, small[key.removeprefix("network.")]) for key, tensor in loaded.items())


def test_torchvisions_vgg16_is_understood_under_its_own_names() -> None:
    with torch.device("meta"):
        network = build_trunk("vgg16").network
        published = dict(torchvision.models.vgg16().state_dict())
    renamed = translated(published, network)
    wanted = network.state_dict()
    assert {key: renamed[key].shape for key in wanted} == {key: t.shape for key, t in wanted.items()}
    assert set(renamed) - set(wanted) == {"head.fc.weight", "head.fc.bias"}


def test_facenet_loads_a_local_file_and_leaves_its_classifier_out(tmp_path: Path) -> None:
    torch.manual_seed(1)
    published = InceptionResnetV1(classify=True, num_classes=3).state_dict()
    torch.save(published, tmp_path / "facenet.pt")
    loaded = build("facenet", weights=tmp_path / "facenet.pt").state_dict()
    assert torch.equal(loaded["network.last_linear.weight"], published["last_linear.weight"])


def test_another_networks_file_is_refused(tmp_path: Path, small: dict[str, Tensor]) -> None:
    torch.save(small, tmp_path / "w.pth")
    with pytest.raises(UserError, match="it belongs to another network"):
        build("resnet18", weights=tmp_path / "w.pth")
    with pytest.raises(UserError, match="it belongs to another network"):
        build("dlib", weights=tmp_path / "w.pth")


def test_a_file_with_another_hash_is_refused(tmp_path: Path, small: dict[str, Tensor]) -> None:
    torch.save(small, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth has the sha256 .*, not the expected 00"):
        build(SMALL, weights=tmp_path / "w.pth", sha256="0" * 64)


class Evil:
    """What a pickle can do: call anything when it is read."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.target,)


def test_nothing_in_a_weights_file_is_executed(tmp_path: Path) -> None:
    torch.save({"conv1.weight": Evil(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="is not a readable file of torch weights"):
        build(SMALL, weights=tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"damaged.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged\.\w+ is (not a readable file of|damaged \(a header)"):
        build(SMALL, weights=path)


def test_unknown_names_and_settings_are_named() -> None:
    with pytest.raises(UserError, match="'resnet118' is unknown: did you mean resnet18"):
        build("resnet118")
    with pytest.raises(UserError, match=r"backbone 'dlib' cannot be built so: .*fold"):
        build("dlib", fold=True)
