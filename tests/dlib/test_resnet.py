import copy

import dlib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.data import astronaut
from torch import nn

from pipeline.core.package_data import dlib_model
from pipeline.dlib.chips import chips, predict_landmarks
from pipeline.dlib.file_format import MEAN_RGB
from pipeline.dlib.resnet import Affine, Block, DlibResNet, Stem, load_dlib_weights
from pipeline.dlib.resnet_parameters import FILE_NAME

CROP = np.ascontiguousarray(astronaut()[20:244, 115:339])


@pytest.fixture(scope="module")
def pictures():
    """One face in several lights and cuts, and pictures that are no faces: blots, noise, black, white."""
    random = np.random.default_rng(0)
    landmarks = predict_landmarks(CROP, 0.25)[None]
    faces = [
        chips(CROP[None], landmarks, padding=padding, mirror=mirror)[0]
        for padding in (0.1, 0.25, 0.45)
        for mirror in (False, True)
    ]
    lights = [(255 * (faces[2] / 255) ** gamma).astype(np.uint8) for gamma in (0.4, 2.5)]
    coarse = torch.from_numpy(random.uniform(0, 255, (3, 3, 8, 8)))
    blots = F.interpolate(coarse, size=150, mode="bicubic").clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    noise = random.integers(0, 256, (150, 150, 3), dtype=np.uint8)
    flat = [np.full((150, 150, 3), value, np.uint8) for value in (0, 255)]
    return np.stack([*faces, *lights, *blots, noise, *flat])


@pytest.fixture(scope="module")
def by_dlib(pictures):
    model = dlib.face_recognition_model_v1(str(dlib_model(FILE_NAME)))
    return np.array([model.compute_face_descriptor(picture) for picture in pictures])


@pytest.fixture(scope="module")
def network():
    return load_dlib_weights(DlibResNet(folded=False)).eval()


def tensor(pictures):
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def randomised(network):
    """The same network with weights that leave no layer without effect."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, Affine):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return network


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@torch.inference_mode()
def test_vectors_are_dlibs_own(pictures, by_dlib, folded, memory_format):
    network = load_dlib_weights(DlibResNet(folded=folded)).eval()
    images = tensor(pictures).contiguous(memory_format=memory_format)
    found = network(images).double().numpy()
    cosines = (found * by_dlib).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(by_dlib, axis=1)
    assert cosines.min() >= 0.99999, "cosine with dlib's descriptors"
    assert np.abs(found - by_dlib).max() <= 1e-5, "largest difference from dlib's descriptors"


@torch.inference_mode()
def test_vectors_in_bfloat16_stay_close(network, pictures, by_dlib):
    reduced = copy.deepcopy(network).fold().bfloat16()
    found = reduced(tensor(pictures[:8])).double()
    cosines = torch.cosine_similarity(found, torch.from_numpy(by_dlib[:8]))
    assert cosines.min() > 0.9998, "cosine of faces in bfloat16"


@pytest.mark.parametrize("size", [103, 150, 224])
@torch.inference_mode()
def test_folding_changes_no_output(size):
    network = randomised(DlibResNet(folded=False))
    images = torch.randint(0, 256, (2, 3, size, size), generator=torch.Generator().manual_seed(1))
    before = network(images)
    folded = copy.deepcopy(network).fold()
    assert folded.folded, "it says so"
    assert not any(isinstance(module, Affine) for module in folded.modules()), "no affine layer is left"
    torch.testing.assert_close(folded(images), before, rtol=1e-4, atol=1e-4 * before.abs().max().item())
    torch.testing.assert_close(folded.fold()(images), folded(images), rtol=0, atol=0)
    assert folded.state_dict().keys() == DlibResNet().state_dict().keys(), "as if built folded"


@torch.inference_mode()
def test_pixels_are_normalised_in_the_first_filters():
    stem = Stem(4, folded=False).double()
    images = torch.randint(0, 256, (2, 3, 31, 33), generator=torch.Generator().manual_seed(1))
    pixels = (images.double() - torch.tensor(MEAN_RGB).double()[:, None, None]) / 256
    expected = F.max_pool2d(F.relu(stem.affine(stem.conv(pixels))), 3, 2)
    torch.testing.assert_close(stem(images.byte()), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [3, 4, 7, 8])
@torch.inference_mode()
def test_what_a_halving_block_lacks_counts_as_zeros(size):
    torch.manual_seed(0)
    block = Block(2, 5, halves=True, folded=True)
    maps = torch.randn(1, 2, size, size)
    main = block.conv2(F.relu(block.conv1(maps)))
    expected = torch.zeros(1, 5, size // 2, size // 2)
    expected[:, :, : main.shape[2], : main.shape[3]] += main
    for row in range(size // 2):
        for column in range(size // 2):
            window = maps[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            expected[0, :2, row, column] += window.mean(dim=(1, 2))
    torch.testing.assert_close(block(maps), F.relu(expected))


def test_layers_can_be_told_by_their_names():
    names = [name for name, module in DlibResNet().named_modules() if isinstance(module, nn.Conv2d)]
    assert len(names) == 29, "convolutions"
    assert [names[i] for i in (0, 1, 2, 7, 28)] == [
        "stem.conv",
        "level1.block0.conv1",
        "level1.block0.conv2",
        "level2.block0.conv1",
        "level5.block0.conv2",
    ]


@torch.inference_mode()
def test_features_are_the_mean_of_the_last_maps(network, pictures):
    images = tensor(pictures[:2])
    maps, features = network.forward_features(images), network.features(images)
    assert maps.shape == (2, network.num_features, 2, 2), "of a 150 x 150 picture"
    torch.testing.assert_close(features, maps.mean(dim=(2, 3)))
    torch.testing.assert_close(network(images), features @ network.fc.weight.T)


@pytest.mark.parametrize("folded", [False, True])
def test_every_layer_learns(folded):
    network = randomised(DlibResNet(folded=folded)).train()
    images = torch.randint(0, 256, (2, 3, 150, 150), generator=torch.Generator().manual_seed(1))
    network(images).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        assert parameter.grad.isfinite().all(), f"the gradient of {name}"
        assert parameter.grad.any(), f"the gradient of {name} is zero"
