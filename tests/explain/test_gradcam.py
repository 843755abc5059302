"""Grad-CAM against its formula, and the guided gradients against the package's own."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GuidedBackpropReLUModel
from torch import nn
from torch.nn import functional as F

from pipeline.backbones.emosynthnet import EmoSynthNet
from pipeline.core.errors import UserError
from pipeline.dlib.resnet import DlibResNet
from pipeline.encoders import build
from pipeline.explain.composed import Chain
from pipeline.explain.gradcam import grad_cam, guided_gradients, last_maps, seen_through
from pipeline.explain.targets import ClassScore, Expectation, Value


def make(outputs=3, inplace=False):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(inplace=inplace),
        nn.Conv2d(4, 5, 3, padding=1),
        nn.ReLU(inplace=inplace),
        nn.Flatten(),
        nn.Linear(5 * 64, outputs),
    )


IMAGES = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def slow_cam(network, images, explained, sign):
    """Equations 1 and 2 of the paper, for the maps after layer 3, picture by picture."""
    found = []
    for image in images:
        maps = network[:4](image[None]).detach().requires_grad_()
        explained(network[4:](maps)[0]).backward()
        weights = maps.grad[0].mean(dim=(1, 2))
        heat = (weights[:, None, None] * maps[0].detach()).sum(0)
        heat = {"positive": heat, "negative": -heat, "both": heat.abs()}[sign].clamp_min(0)
        heat = heat - heat.min()
        found.append((heat / heat.max().clamp_min(1e-30)).numpy())
    return np.stack(found)


@pytest.mark.parametrize("sign", ["positive", "negative", "both"])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(
    ("outputs", "target"),
    [(3, ClassScore(1)), (3, ClassScore()), (1, Value()), (3, Value(2)), (3, Expectation((20, 30, 45)))],
)
def test_it_is_the_papers_formula_for_classes_numbers_and_distributions(outputs, target, sign, inplace):
    network = make(outputs, inplace)
    heat = grad_cam(network, IMAGES, layer="3", target=target, sign=sign)
    assert heat.shape == (3, 8, 8)
    assert heat.dtype == np.float32
    np.testing.assert_allclose(heat, slow_cam(make(outputs), IMAGES, target, sign), atol=1e-3)


def test_a_layer_before_an_in_place_activation_is_seen_as_it_was():
    np.testing.assert_allclose(
        grad_cam(make(inplace=True), IMAGES, layer="2"), grad_cam(make(), IMAGES, layer="2"), atol=1e-6
    )


def test_a_spot_that_alone_decides_is_where_it_looks():
    """The score is the mean of one map that passes the picture through."""
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network[0].weight.data.fill_(1.0)
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 2, 5] = 1.0
    heat = grad_cam(network, image, target=Value())
    assert np.unravel_index(heat[0].argmax(), (8, 8)) == (2, 5)
    assert heat.sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("inplace", [False, True])
def test_guided_gradients_are_those_of_grad_cams_own_model(inplace):
    network = make(inplace=inplace)
    expected = [
        GuidedBackpropReLUModel(make(), device="cpu")(image[None].clone(), 1).transpose(2, 0, 1)
        for image in IMAGES
    ]
    found = guided_gradients(network, IMAGES, ClassScore(1))
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-7)
    assert found.any()


def test_functional_activations_are_guided_as_layers_are():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = make()

        def forward(self, x):
            x = F.relu(self.layers[0](x), inplace=True)
            x = self.layers[2](x).relu_()
            return self.layers[5](torch.flatten(x, 1))

    np.testing.assert_allclose(
        guided_gradients(Functional(), IMAGES, ClassScore(0)),
        guided_gradients(make(), IMAGES, ClassScore(0)),
        atol=1e-7,
    )


def test_elu_networks_are_guided_too():
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ELU(), nn.Linear(2, 1, bias=False))
    network[0].weight.data = torch.eye(2)
    network[2].weight.data = torch.tensor([[3.0, -2.0]])
    found = guided_gradients(network, torch.tensor([[1.0, 1.0]]), Value())
    assert found.tolist() == [[3.0, 0.0]], "what is negative does not come back through the ELU"


ACTIVATIONS = [
    nn.CELU,
    nn.ELU,
    nn.GELU,
    nn.Hardshrink,
    nn.Hardswish,
    nn.Hardtanh,
    nn.LeakyReLU,
    nn.LogSigmoid,
    nn.Mish,
    nn.PReLU,
    nn.RReLU,
    nn.ReLU,
    nn.ReLU6,
    nn.SELU,
    nn.SiLU,
    nn.Softplus,
    nn.Softshrink,
    nn.Softsign,
    nn.Tanh,
    nn.Tanhshrink,
    lambda: nn.Threshold(0.1, 0.0),
]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nothing_negative_comes_back_through_any_activation(activation):
    network = nn.Sequential(activation(), nn.Linear(2, 1, bias=False))
    network[1].weight.data = torch.tensor([[3.0, -2.0]])
    found = guided_gradients(network, torch.tensor([[0.8, 0.8]]), Value())
    assert found[0, 0] > 0
    assert found[0, 1] == 0


@pytest.mark.parametrize("activation", [nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.RReLU])
def test_a_layer_is_seen_as_it_was_before_any_activation_in_place(activation):
    def network(inplace):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), activation(inplace=inplace), nn.Flatten(), nn.Linear(144, 2))

    np.testing.assert_allclose(
        grad_cam(network(True), IMAGES, layer="0"), grad_cam(network(False), IMAGES, layer="0"), atol=1e-6
    )


def test_a_gate_is_not_guided():
    """A sigmoid scales other maps; what it takes away from one class is as real as what it gives."""
    network = nn.Sequential(nn.Sigmoid(), nn.Linear(1, 1, bias=False))
    network[1].weight.data.fill_(-1.0)
    assert guided_gradients(network, torch.zeros(1, 1), Value())[0, 0] == -0.25


class GuidedReLU6(nn.Module):
    """Guided by a hook on the tensor, without torch functions being watched."""

    def forward(self, x):
        output = x.clamp(0, 6)
        if output.requires_grad:
            output.register_hook(lambda gradient: gradient.clamp_min(0))
        return output


def with_guided_relu6(module):
    for name, child in module.named_children():
        setattr(module, name, GuidedReLU6() if isinstance(child, nn.ReLU6) else with_guided_relu6(child))
    return module


def test_the_embedded_encoder_of_relu6_layers_is_guided():
    torch.manual_seed(0)
    pixels = torch.rand(1, 3, 64, 64)
    networks = [nn.Sequential(*build("efficientnet_lite0").load()) for _ in range(2)]
    assert any(isinstance(module, nn.ReLU6) for module in networks[0].modules())
    found = guided_gradients(networks[0], pixels, ClassScore())
    expected = guided_gradients(with_guided_relu6(networks[1]), pixels, ClassScore())
    assert found.any()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_guided_grad_cam_is_the_product():
    network = make()
    heat, gradients = grad_cam(network, IMAGES, "3"), guided_gradients(network, IMAGES)
    found = seen_through(heat, gradients)
    for n, channel, y, x in np.ndindex(gradients.shape):
        assert found[n, channel, y, x] == heat[n, y, x] * gradients[n, channel, y, x]


def test_a_network_is_left_as_it_was():
    network = make().train()
    for parameter in network[0].parameters():
        parameter.requires_grad_(False)
    network[2].weight.grad = torch.ones_like(network[2].weight)
    before = network(IMAGES)
    grad_cam(network, IMAGES)
    guided_gradients(network, IMAGES)
    assert network.training
    assert [p.requires_grad for p in network[0].parameters()] == [False, False]
    assert torch.equal(network[2].weight.grad, torch.ones_like(network[2].weight))
    assert network[5].weight.grad is None
    assert not any(module._forward_hooks for module in network.modules())
    torch.testing.assert_close(network(IMAGES), before)


def test_a_frozen_network_can_be_explained():
    network = make().requires_grad_(False)
    np.testing.assert_allclose(grad_cam(network, IMAGES), grad_cam(make(), IMAGES), atol=1e-6)


@pytest.mark.parametrize(
    ("network", "images", "name"),
    [
        (make(), IMAGES, "3"),
        (EmoSynthNet(in_chans=1, img_size=16, width=0.02), torch.rand(2, 1, 16, 16), "transposed2"),
        (DlibResNet(), torch.rand(1, 3, 150, 150), "level5"),
    ],
)
def test_the_last_maps_are_found_in_every_kind_of_network(network, images, name):
    found = last_maps(network, images)
    assert found.startswith(name)
    heat = grad_cam(network, images, target=Value())
    assert heat.shape == (len(images), *images.shape[2:])
    assert np.isfinite(heat).all()
    assert np.isfinite(guided_gradients(network, images, Value())).all()


def test_what_cannot_be_explained_is_refused():
    with pytest.raises(UserError, match="no layer 'nowhere': its parts are 0, 1, 2, 3, 4, 5"):
        grad_cam(make(), IMAGES, layer="nowhere")
    chain = Chain(nn.Sequential(nn.ModuleDict({"a": nn.Conv2d(1, 1, 1), "b": nn.ReLU()}), nn.ELU()))
    for name, parts in (
        ("nope", r"parts\.step0\.0, parts\.step0\.1"),
        ("parts.nope.0", r"parts\.step0\.0, parts\.step0\.1"),
        ("parts.step0.0.c", r"parts\.step0\.0\.a, parts\.step0\.0\.b"),
    ):
        with pytest.raises(UserError, match=f"no layer '{name}': its parts are {parts}$"):
            grad_cam(chain, IMAGES, layer=name)
    with pytest.raises(UserError, match=r"no layer 'parts.step0.1.x': 'parts.step0.1' has no parts"):
        grad_cam(chain, IMAGES, layer="parts.step0.1.x")
    with pytest.raises(UserError, match="puts out no maps"):
        grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), IMAGES)
    with pytest.raises(UserError, match="class 7 cannot be explained: the network has 3"):
        grad_cam(make(), IMAGES, target=ClassScore(7))
    with pytest.raises(ValueError, match="for 2 labels"):
        grad_cam(make(), IMAGES, target=Expectation((1.0, 2.0)))
