import pytest
import torch
from torch import nn

from pipeline.training.networks.costs import COMPARED, describe, model_table


def test_parameters_operations_size_and_depth_are_counted():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(256, 5)
    )
    found = describe(network.train(), (3, 8, 8))
    parameters = 3 * 4 * 9 + 2 * 4 + 256 * 5 + 5
    assert found["parameters"] == pytest.approx(parameters / 1e6)
    assert found["flops"] == pytest.approx(2 * (3 * 4 * 9 * 64 + 256 * 5) / 1e9)
    assert found["size_mb"] == pytest.approx((4 * (parameters + 2 * 4) + 8) / 1e6)  # and its count of batches
    assert found["depth"] == 2
    assert network.training


def test_the_table_has_the_thesiss_networks_and_their_known_sizes():
    table = model_table().set_index("method")
    assert list(table.index) == list(COMPARED)
    # published sizes without the ImageNet heads, whose 1,000 classes are 10 here
    million = table["parameters"].round(1).to_dict()
    assert million == {
        "MobileNetV2": 2.2,
        "EfficientNetB0": 4.0,
        "ResNet50": 23.5,
        "VGG19": 139.6,
        "DenseNet121": 7.0,
        "EmoSynthNet": 29.3,
    }
    assert table.loc["VGG19", "depth"] == 19
    assert table.loc["ResNet50", "depth"] == 54  # 50 on the main path and four in shortcuts
    assert table.loc["EmoSynthNet", "depth"] == 34
    assert table.loc["EmoSynthNet", "flops"] == pytest.approx(5.54, abs=0.01)


def test_weights_are_not_made_for_the_table():
    from pipeline.training.networks.costs import on_paper

    assert next(on_paper("vgg19", {}, (3, 32, 32), 10).parameters()).device == torch.device("meta")
