from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.backbones.views import View
from pipeline.encoders.encoder import fingerprint
from pipeline.encoders.torch_encoder import BATCH, TorchEncoder, fold_batch_norm


def small_network():
    torch.manual_seed(3)
    trunk = nn.Sequential(nn.Conv2d(3, 32, 3, 2), nn.ReLU(), nn.Conv2d(32, 64, 3, 2), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 8))
    return trunk.eval(), head.eval()


def small_encoder(**settings):
    return TorchEncoder(
        name="small",
        dim=8,
        size=32,
        identify=partial(fingerprint, "small", "0" * 64, 32, 1, view=View()),
        load=small_network,
        prepare=lambda images, _: images,
        mean=(10.0, 20.0, 30.0),
        scale=64.0,
        **settings,
    )


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).integers(0, 256, (2 * BATCH + 3, 32, 32, 3), dtype=np.uint8)


def test_folding_changes_the_layers_but_not_the_result():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)
    )
    for layer in (network[1], network[3]):
        nn.init.uniform_(layer.running_var, 0.5, 2)
        nn.init.normal_(layer.running_mean)
    pixels = torch.randn(2, 3, 9, 9)
    with torch.inference_mode():
        expected = network.eval()(pixels)
        found = fold_batch_norm(network)(pixels)
    torch.testing.assert_close(found, expected)
    kinds = [type(layer).__name__ for layer in network]
    assert kinds == ["Conv2d", "Identity", "ReLU", "BatchNorm2d", "Conv2d"], (
        "only where a convolution precedes"
    )


def bits(vectors):
    return vectors.view(np.uint32)


def test_encodes_what_the_network_says(crops):
    trunk, head = small_network()
    pixels = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        expected = head(trunk((pixels - torch.tensor([10.0, 20.0, 30.0]).view(1, 3, 1, 1)) / 64)).numpy()
    np.testing.assert_allclose(small_encoder().encode(crops), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bfloat16"])
def test_a_vector_does_not_depend_on_its_neighbours(crops, precision):
    encoder = small_encoder(precision=precision)
    together = encoder.encode(crops)
    alone = np.concatenate([encoder.encode(crops[row : row + 1]) for row in range(len(crops))])
    assert (bits(alone) == bits(together)).all(), "alone or in a batch: the same bits"
    assert (bits(encoder.encode(crops[::-1])[::-1]) == bits(together)).all(), "in any position"


def test_a_vector_does_not_depend_on_the_number_of_threads(crops):
    encoder, threads = small_encoder(), torch.get_num_threads()
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        found.append(encoder.encode(crops))
    torch.set_num_threads(threads)
    assert (bits(found[0]) == bits(found[1])).all(), "another machine may have other cores"


def test_encoding_leaves_torchs_threads_as_they_were(crops):
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    small_encoder().encode(crops)
    found = torch.get_num_threads()
    torch.set_num_threads(threads)
    assert found == 3, "training in the same process must not lose its threads"


def test_compiling_happens_once_for_all_numbers_of_faces(crops, monkeypatch):
    translated = []

    def translate(graph, _):
        translated.append(graph)
        return graph.forward

    # The compiler proper takes half a minute; what is ours is to call it once, for one shape.
    compile_with = torch.compile
    monkeypatch.setattr(
        torch,
        "compile",
        lambda network, dynamic, options: compile_with(network, dynamic=dynamic, backend=translate),
    )
    compiled = small_encoder(compile=True)
    together = compiled.encode(crops)
    assert (bits(compiled.encode(crops[5:6])) == bits(together[5:6])).all(), (
        "alone or in a batch: the same bits"
    )
    assert (bits(together) == bits(small_encoder().encode(crops))).all(), "this compiler changes nothing"
    assert len(translated) == 1, "a minute each, and threads must not start several"


def test_vectors_are_float32_in_any_precision(crops):
    vectors = small_encoder(precision="bfloat16").encode(crops)
    assert vectors.dtype == np.float32, "the store takes float32"
    assert (bits(vectors) & 0xFFFF).any(), "the head computes in float32, not in bfloat16"


def test_fingerprints_tell_arithmetic_apart():
    encoder = small_encoder()
    texts = {
        replace(encoder, precision=precision, compile=compiled).fingerprint
        for precision in ("fp32", "bfloat16")
        for compiled in (False, True)
    }
    assert len(texts) == 4, f"two of these share a key in the store: {texts}"


def test_the_network_is_not_loaded_before_the_first_picture(crops):
    def refuse():
        raise AssertionError("loaded")

    encoder = replace(small_encoder(), load=refuse)
    assert encoder.fingerprint.startswith("small/"), "asking what is missing costs no network"
    assert encoder.encode(crops[:0]).shape == (0, 8), "no pictures, no vectors"
    with pytest.raises(AssertionError, match="loaded"):
        encoder.encode(crops)


def test_the_ladder_ends_in_plain_fp32():
    ladder = small_encoder(precision="bfloat16", compile=True).ladder()
    assert [rung.arithmetic for rung in ladder] == ["bfloat16+compile", "bfloat16", "fp32"], "ever more exact"
    assert [rung.arithmetic for rung in small_encoder().ladder()] == ["fp32"], "nothing to prove"


@pytest.mark.parametrize("wrong", [np.zeros((2, 32, 32), np.uint8), np.zeros((2, 32, 32, 3), np.float32)])
def test_refuses_what_is_not_a_batch_of_pictures(wrong):
    with pytest.raises(ValueError, match=r"crops are \(N, H, W, 3\) uint8, not"):
        small_encoder().encode(wrong)
