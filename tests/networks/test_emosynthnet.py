"""Numbers of maps, sizes and layers are those of the thesis, sections 3.2.1 to 3.2.3."""

import pytest
import timm
import torch
from torch import nn

from pipeline.backbones.emosynthnet import AuxiliaryModule, EmoSynthNet, pooled_to
from pipeline.core.errors import UserError


def shapes(network: EmoSynthNet, side: int) -> dict[str, list[int]]:
    """What every named module puts out for one picture."""
    found = {}

    def note(name: str) -> object:
        return lambda module, inputs, output: found.__setitem__(name, list(output.shape[1:]))

    for name, module in network.named_modules():
        module.register_forward_hook(note(name))
    joined = []
    network.upsample.register_forward_pre_hook(
        lambda module, inputs: joined.append(list(inputs[0].shape[1:]))
    )
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, side, side))
    return found | {"joined": joined[0], "upsampled2": found["upsample"]}


@pytest.fixture(scope="module")
def full() -> EmoSynthNet:
    with torch.device("meta"):
        return EmoSynthNet()


def test_maps_and_sizes_for_32_pixels_are_those_of_the_text() -> None:
    found = shapes(EmoSynthNet(num_classes=10), 32)
    assert [found[f"blocks.{k}"] for k in range(4)] == [
        [64, 32, 32],
        [128, 16, 16],
        [256, 8, 8],
        [512, 4, 4],
    ]
    assert found["blocks.0.layers.0"] == [32, 32, 32]
    assert found["auxiliary.0"] == found["auxiliary.1"] == [640, 32, 32]
    assert found["transposed1"] == [512, 4, 4]  # m/16 + 2
    assert found["joined"] == [1408, 4, 4]  # 512 + 640 + 256 of block 3
    assert found["transposed2"] == [256, 10, 10]  # 2 (m/16 + 2) + 2
    assert found["upsampled2"] == [256, 20, 20]  # m/4 + 12
    assert found["flatten"] == [256 * 20**2]
    assert [found[name] for name in ("dense1", "dense2", "classifier")] == [[128], [64], [10]]


def test_there_are_34_layers_with_weights_20_of_them_in_the_main_branch(full: EmoSynthNet) -> None:
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    names = [name for name, module in full.named_modules() if isinstance(module, kinds)]
    side = [name for name in names if name.startswith("auxiliary")]
    assert (len(names), len(side)) == (34, 14)
    assert [len(block.layers) for block in full.blocks] == [4, 4, 4, 3]
    assert sum(p.numel() for p in full.parameters()) == 29_343_690


def test_elu_comes_before_batch_normalisation_in_every_main_convolution(full: EmoSynthNet) -> None:
    layers = [layer for block in full.blocks for layer in block.layers]
    for layer in [*layers, full.transposed1, full.transposed2]:
        assert [type(part) for part in layer][1:] == [nn.ELU, nn.BatchNorm2d]


@pytest.mark.parametrize(("block", "skips"), [(0, True), (1, False), (2, True), (3, False)])
def test_blocks_1_and_3_add_what_went_into_their_last_two_convolutions(block: int, skips: bool) -> None:
    torch.manual_seed(0)
    part = EmoSynthNet(width=0.1).eval().blocks[block]
    maps = torch.rand(2, part.layers[0][0].in_channels, 8, 8)
    fed = maps
    for layer in part.layers[:-2]:
        fed = layer(fed)
    deeper = part.layers[-1](part.layers[-2](fed))
    torch.testing.assert_close(part(maps), fed + deeper if skips else deeper)


def test_an_auxiliary_module_hands_on_its_inner_outputs() -> None:
    torch.manual_seed(0)
    module = AuxiliaryModule(3, 0.1)
    maps = torch.rand(2, 3, 9, 9)
    out = module(maps)
    assert out.shape == (2, module.channels, 9, 9)
    wide = module.wide[1](module.wide[0](maps))
    fine = module.fine[1](module.fine[0](maps))
    torch.testing.assert_close(out[:, -wide.shape[1] - fine.shape[1] :], torch.cat([wide, fine], 1))
    assert (out >= 0).all(), "every convolution ends in ReLU"


@pytest.mark.parametrize("side", [16, 28, 32, 48, 64, 112, 288])
def test_any_multiple_of_16_and_28_give_maps_of_a_quarter_plus_12(side: int) -> None:
    network = EmoSynthNet(num_classes=3, in_chans=1, img_size=side, width=0.02).eval()
    padded = 32 if side == 28 else side
    with torch.no_grad():
        maps = network.forward_features(torch.zeros(1, 1, side, side))
        assert maps.shape[2:] == (padded // 4 + 12,) * 2
        assert network(torch.zeros(1, 1, side, side)).shape == (1, 3)


@pytest.mark.parametrize("side", [16, 32, 48, 64, 96, 224, 320, 512])
def test_the_side_branch_is_averaged_over_7_by_7_pixels(side: int) -> None:
    maps = torch.rand(1, 2, side, side, dtype=torch.float64)
    size = side // 16 + 2
    found = pooled_to(maps, size)
    assert found.shape == (1, 2, size, size)
    torch.testing.assert_close(found[..., 0, 0], maps[..., :7, :7].mean((-1, -2)))
    if side == 32:
        torch.testing.assert_close(found[..., 3, 3], maps[..., 21:28, 21:28].mean((-1, -2)))


def test_28_pixels_are_padded_on_all_sides_alike() -> None:
    torch.manual_seed(0)
    network = EmoSynthNet(in_chans=1, img_size=28, width=0.02).eval()
    larger = EmoSynthNet(in_chans=1, img_size=32, width=0.02).eval()
    larger.load_state_dict(network.state_dict())
    images = torch.rand(1, 1, 28, 28)
    torch.testing.assert_close(network(images), larger(nn.functional.pad(images, [2, 2, 2, 2])))


def test_timm_builds_it_and_0_classes_give_features() -> None:
    network = timm.create_model("emosynthnet", num_classes=7, in_chans=1, img_size=48, width=0.05)
    assert network(torch.zeros(2, 1, 48, 48)).shape == (2, 7)
    maps = network.forward_features(torch.zeros(2, 1, 48, 48))
    assert network.forward_head(maps, pre_logits=True).shape == (2, network.num_features)
    network.reset_classifier(0)
    assert network(torch.zeros(2, 1, 48, 48)).shape == (2, network.num_features)
    assert network.get_classifier() is network.classifier


def test_what_it_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="28 or a multiple of 16 pixels, not 30"):
        EmoSynthNet(img_size=30)
    with pytest.raises(UserError, match="width 0"):
        EmoSynthNet(width=0)
    with pytest.raises(UserError, match="no pretrained weights"):
        timm.create_model("emosynthnet", pretrained=True)
    with pytest.raises(TypeError, match="widht"):
        timm.create_model("emosynthnet", widht=0.5)
    with pytest.raises(ValueError, match="not 32 pixels"):
        EmoSynthNet(width=0.02)(torch.zeros(1, 3, 48, 48))
