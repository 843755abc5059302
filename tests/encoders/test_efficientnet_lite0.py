import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from skimage.data import astronaut, chelsea

from pipeline.backbones.weights import efficientnet_lite0_file
from pipeline.core.errors import UserError
from pipeline.encoders import View, build, efficientnet_lite0


@pytest.fixture(scope="module")
def crops():
    return np.stack([astronaut()[:224, 100:324], chelsea()[30:254, 100:324]])


@pytest.fixture(scope="module")
def original():
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(efficientnet_lite0_file(), weights_only=True))
    return network.eval()


def test_vectors_are_the_pooled_features_of_the_original_network(crops, original):
    pixels = (torch.from_numpy(crops).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.inference_mode():
        expected = original.extract_features(pixels).mean(dim=(2, 3)).numpy()
    found = build("efficientnet_lite0").encode(crops)
    assert found.shape == (2, 1280), "global average over 1,280 channels"
    np.testing.assert_allclose(found, expected, atol=1e-5, err_msg="timm's network is the same network")


def test_the_features_are_those_of_imagenet(crops, original):
    features = torch.from_numpy(build("efficientnet_lite0").encode(crops))
    with torch.inference_mode():
        cat = original._fc(features)[1].argmax().item()
    assert cat in (281, 282, 285), "the published classifier sees a tabby, tiger or Egyptian cat"


def test_refuses_a_damaged_file_of_weights(tmp_path, monkeypatch):
    path = tmp_path / "damaged.pth"
    path.write_bytes(b"damaged")
    monkeypatch.setattr(efficientnet_lite0, "efficientnet_lite0_file", lambda: path)
    with pytest.raises(UserError, match=r"damaged\.pth has the sha256 .*, not the expected 579344248a93"):
        build("efficientnet_lite0")


def test_views_have_keys_of_their_own():
    views = [View(), View(mirror=True), View(padding=0.1), View(padding=0.25), View(mirror=True, padding=0.1)]
    texts = {build("efficientnet_lite0", view=view).fingerprint for view in views}
    assert len(texts) == len(views), "two views share a key"
