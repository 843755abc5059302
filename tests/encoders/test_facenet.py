import hashlib
from urllib.error import URLError

import numpy as np
import pytest
import torch
from facenet_pytorch import InceptionResnetV1, fixed_image_standardization

from pipeline.backbones.weights import FACENET
from pipeline.core.errors import UserError
from pipeline.encoders import View, build
from pipeline.encoders.precision import agreement

pytestmark = pytest.mark.filterwarnings("error::FutureWarning")


@pytest.fixture(scope="module")
def network():
    """facenet-pytorch's own network with random weights, and a classifier as published files have one."""
    torch.manual_seed(1)
    network = InceptionResnetV1(classify=True, num_classes=7)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
                # Statistics other than 0 and 1, so that a wrong folding would show.
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.3, 1)
                module.bias.normal_(0, 0.1)
    return network.eval()


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("facenet") / "facenet.pt"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def crops():
    """Smooth random pictures: pure noise would look all the same to a network."""
    coarse = np.random.default_rng(0).integers(0, 256, (4, 10, 10, 3), dtype=np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


@pytest.fixture(scope="module")
def expected(network, crops):
    pixels = fixed_image_standardization(torch.from_numpy(crops).permute(0, 3, 1, 2).float())
    network.classify = False
    with torch.inference_mode():
        return network(pixels).numpy()


@pytest.fixture(scope="module")
def vectors(weights, crops):
    return build("facenet", weights=str(weights)).encode(crops)


def test_vectors_are_those_of_facenet_pytorch(vectors, expected):
    np.testing.assert_allclose(vectors, expected, atol=1e-6, err_msg="the published network's own output")
    assert agreement(expected, vectors) > 0.99999, "also in what tells faces apart"


def test_vectors_have_unit_length_as_published(vectors):
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_bfloat16_stays_close_and_has_a_key_of_its_own(weights, crops, expected):
    reduced = build("facenet", weights=str(weights), precision="bfloat16")
    assert reduced.fingerprint != build("facenet", weights=str(weights)).fingerprint, "keys must differ"
    vectors = reduced.encode(crops)
    assert (vectors * expected).sum(axis=1).min() > 0.999, "the same faces, more coarsely"
    assert (vectors != expected).any(), "nothing was reduced"


def test_the_fingerprint_names_weights_size_precision_and_view(weights):
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    plain = build("facenet", weights=str(weights))
    assert plain.fingerprint == f"facenet-vggface2/{digest}/160/pre1/fp32/whole", "readable and complete"
    cut = build("facenet", weights=str(weights), margin=0.5, view=View(mirror=True, padding=0.1))
    assert cut.fingerprint.endswith("/mirror+pad0.1+margin0.5"), "a cut depends on the crops' margin"


def test_the_published_file_is_found_in_either_cache(weights, tmp_path, monkeypatch):
    published = FACENET["vggface2"]
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    for number, folder in enumerate(["hub/checkpoints", "checkpoints"]):
        home = tmp_path / str(number)
        monkeypatch.setenv("TORCH_HOME", str(home))
        (home / folder).mkdir(parents=True)
        (home / folder / published.file).symlink_to(weights)
        assert digest in build("facenet", sha256=digest).fingerprint, f"not found in {folder}"
        with pytest.raises(UserError, match=f"not the expected {published.sha256}: it is damaged or another"):
            build("facenet")


def test_without_weights_one_sentence_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(
        torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("went to the network")
    )
    place = tmp_path / "hub" / "checkpoints" / FACENET["casia-webface"].file
    with pytest.raises(UserError, match=f"casia-webface.pt are not there: .*put it at {place} or name it in"):
        build("facenet", pretrained="casia-webface")
    assert not list(tmp_path.iterdir()), "looking must not write"


@pytest.mark.parametrize("error", [URLError("no route"), RuntimeError("invalid hash value")])
def test_a_failed_download_says_what_to_do_instead(tmp_path, monkeypatch, error):
    def fail(url, path, hash_prefix, progress):
        assert (url, hash_prefix) == (FACENET["vggface2"].url, FACENET["vggface2"].sha256), "unverified"
        raise error

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(
        UserError, match=r"could not be fetched \(.*\): fetch https://.*vggface2.pt elsewhere"
    ):
        build("facenet", download=True)


def test_refuses_unknown_training_data_and_a_missing_local_file(tmp_path):
    with pytest.raises(UserError, match="no weights 'celeba': choose vggface2 or casia-webface"):
        build("facenet", pretrained="celeba")
    with pytest.raises(UserError, match=r"none.pt do not exist: mend encoder.facenet.weights"):
        build("facenet", weights=str(tmp_path / "none.pt"))


def test_refuses_weights_of_another_network(tmp_path, crops):
    path = tmp_path / "other.pt"
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(UserError, match=r"other.pt has no weights 'conv2d_1a.conv.weight'"):
        build("facenet", weights=str(path)).encode(crops)
