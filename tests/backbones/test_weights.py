import hashlib
import os
import pickle
import zipfile

import pytest
import torch
from torch import nn

from pipeline.backbones.weights import (
    load_into,
    read_state,
    sha256_of,
    verified_sha256,
)
from pipeline.core.errors import UserError


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.pt"


def test_hashes_a_file_again_when_it_changed(path):
    for content in (b"first", b"other"):
        path.write_bytes(content)
        assert sha256_of(path) == hashlib.sha256(content).hexdigest(), "the hash of what is there now"


def test_refuses_another_hash_and_names_both(path):
    path.write_bytes(b"x")
    with pytest.raises(UserError, match=f"{hashlib.sha256(b'x').hexdigest()}, not the expected {'a' * 64}"):
        verified_sha256(path, "A" * 64)


def test_refuses_a_missing_file(path):
    with pytest.raises(UserError, match=r"cannot be read: .*No such file"):
        sha256_of(path)


def test_runs_nothing_that_a_file_of_weights_contains(path, tmp_path):
    trap = tmp_path / "sprung"
    path.write_bytes(pickle.dumps({"weight": Trap(trap)}, protocol=2))
    with pytest.raises(UserError, match="is not a readable file of torch weights"):
        read_state(path)
    assert not trap.exists(), "the file's code was executed"


@pytest.mark.parametrize("content", [b"", b"hello", b"<html>not found</html>", b"PK\x03\x04" + bytes(100)])
def test_refuses_a_file_that_is_no_weights(path, content):
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not a readable file of torch weights"):
        read_state(path)


def test_refuses_a_truncated_file(path):
    torch.save(nn.Linear(64, 64).state_dict(), path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(UserError, match="is not a readable file of torch weights"):
        read_state(path)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"epoch": 3}])
def test_refuses_a_file_without_a_state_dict(path, content):
    torch.save(content, path)
    with pytest.raises(UserError, match="holds no state dict"):
        read_state(path)


def test_names_missing_misshapen_and_unknown_weights(path):
    network, state = nn.Linear(2, 3), nn.Linear(2, 3).state_dict()
    with pytest.raises(UserError, match=r"net\.pt has no weights 'bias'"):
        load_into(network, {"weight": state["weight"]}, path)
    with pytest.raises(UserError, match=r"'weight' have the shape \(3, 4\) where \(3, 2\) is needed"):
        load_into(network, {**state, "weight": torch.zeros(3, 4)}, path)
    with pytest.raises(UserError, match="the unknown weights 'gain'"):
        load_into(network, {**state, "gain": torch.zeros(1)}, path)


def test_old_files_may_lack_the_counters_of_batches(path):
    network = nn.BatchNorm1d(2)
    state = {key: value for key, value in nn.BatchNorm1d(2).state_dict().items() if "num_batches" not in key}
    load_into(network, {**state, "weight": torch.tensor([5.0, 6.0])}, path)
    assert network.weight.tolist() == [5, 6], "the other weights are taken"


def test_a_pipe_in_the_place_of_weights_is_not_waited_for(path):
    os.mkfifo(path)
    for read in (read_state, sha256_of):
        with pytest.raises(UserError, match="is a folder, pipe, socket or device, not a file"):
            read(path)


def test_refuses_weights_that_unpack_to_more_than_they_are(path, tmp_path):
    torch.save({"weight": torch.zeros(10**6)}, tmp_path / "sound")
    with (
        zipfile.ZipFile(tmp_path / "sound") as sound,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in sound.namelist():
            bomb.writestr(name, sound.read(name))
    assert path.stat().st_size < 10**5
    with pytest.raises(UserError, match="unpacks to more bytes than it has"):
        read_state(path)


@pytest.mark.parametrize(
    "state",
    [[1], {1: torch.zeros(2)}, {"weight": 5}, {"weight": torch.eye(2).to_sparse()}],
    ids=["list", "number", "no tensor", "sparse"],
)
def test_refuses_what_is_no_table_of_ordinary_tensors(state, path):
    torch.save(state, path)
    with pytest.raises(UserError, match="holds no state dict"):
        read_state(path)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_refuses_weights_that_are_no_numbers(wrong, path):
    network = nn.Linear(2, 1)
    state = {"weight": torch.tensor([[1.0, wrong]]), "bias": torch.zeros(1)}
    with pytest.raises(UserError, match="weights 'weight' hold a value that is not a finite number"):
        load_into(network, state, path)
    with pytest.raises(UserError, match=r"weights 'bias' are of the type torch\.int64"):
        load_into(network, {"weight": torch.zeros(1, 2), "bias": torch.zeros(1, dtype=torch.long)}, path)


def test_weights_published_in_half_precision_are_read_in_the_networks(path):
    network = nn.Linear(2, 1)
    load_into(network, {"weight": torch.ones(1, 2).half(), "bias": torch.zeros(1).half()}, path)
    assert network(torch.ones(1, 2)).item() == 2
