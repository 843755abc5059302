import struct

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.core.package_data import dlib_model
from pipeline.dlib.resnet_parameters import FILE_NAME, decode_dlib_weights, read_dlib_weights

DAMAGED_FILES = 10_000


@pytest.fixture(scope="module")
def data():
    return dlib_model(FILE_NAME).read_bytes()


@pytest.fixture(scope="module")
def weights(data):
    return decode_dlib_weights(data, source="the file")


@pytest.fixture(scope="module")
def structure(data):
    """The position of every byte that is not part of a weight, found by the independent reader below."""
    free = np.ones(len(data), dtype=bool)
    for start, count in float_runs(data):
        free[start : start + 4 * count] = False
    return np.flatnonzero(free)


def float_runs(data):
    """Where weights lie, (first byte, count): names are looked for, and nothing else is read."""
    runs, at = [], 0
    for name in ["con_4", "affine_"] * 29 + ["fc_2"]:
        at = data.index(bytes([1, len(name)]) + name.encode(), at) + 2 + len(name)
        if name == "fc_2":
            (_, at), (_, at) = integer(data, at), integer(data, integer(data, at)[1])
        version, at = integer(data, at)
        assert version == 2, "dlib's version of tensors"
        count = 1
        for _ in range(4):
            size, at = integer(data, at)
            count *= size
        runs.append((at, count))
        at += 4 * count
    return runs


def integer(data, at):
    end = at + 1 + (data[at] & 15)
    return int.from_bytes(data[at + 1 : end], "little"), end


def refused(damaged, **settings):
    with pytest.raises(UserError) as caught:
        decode_dlib_weights(damaged, source="the file", **settings)
    message = str(caught.value)
    assert message.startswith("the file "), message
    assert "\n" not in message, "one sentence"
    return message


def test_weights_are_those_an_independent_reader_finds(data, weights):
    layers = [name.removesuffix(".weight") for name in weights if name.endswith(".weight")]
    assert len(layers) == 29 * 2 + 1, "29 convolutions, as many affine layers and a linear one"
    for layer, (start, count) in zip(layers, float_runs(data), strict=True):
        expected = np.array(struct.unpack_from(f"<{count}f", data, start), np.float32)
        if layer == "fc":
            found = weights["fc.weight"].T.ravel()  # dlib has inputs by outputs
        else:
            found = np.concatenate([weights[f"{layer}.{kind}"].ravel() for kind in ("weight", "bias")])
        assert np.array_equal(found, expected), f"{layer}: weights, then biases"


def test_weights_cannot_be_written_to(weights):
    with pytest.raises(ValueError, match="read-only"):
        weights["stem.conv.bias"][0] = 1


def test_refuses_every_changed_byte_of_the_structure_whatever_the_hash(data, structure):
    assert len(structure) > 7_000, "names, versions, sizes, strides, paddings, flags"
    damaged = bytearray(data)
    masks = np.random.default_rng(1).integers(1, 256, len(structure))
    for at, mask in zip(structure.tolist(), masks.tolist(), strict=True):
        damaged[at] ^= mask
        assert f"byte {at}," in refused(damaged, sha256=None), "the very byte is named"
        damaged[at] ^= mask
    assert bytes(damaged) == data, "each was damaged alone"


def damaged_files(data, structure):
    """Files of every kind of damage, most of it near the structure, where a reader could be led astray."""
    random = np.random.default_rng(2)
    whole = memoryview(data)
    longer = bytearray(data + bytes(64))
    for _ in range(4_000):
        yield whole[: place(random, structure, data)]
    for _ in range(1_000):
        length = int(random.integers(1, 64))
        longer[len(data) :] = random.bytes(64)
        yield memoryview(longer)[: len(data) + length]
    for _ in range(150):  # bytes removed, or others in their place and more of them
        at, length = place(random, structure, data), int(random.integers(1, 64))
        yield data[:at] + (random.bytes(length) if length % 2 else b"") + data[at + length // 2 :]
    yield b""
    yield whole[1:]
    yield data + data
    buffer = bytearray(data)
    for number in range(DAMAGED_FILES - 5_153):
        in_weights = number % 40 == 0
        at = int(random.integers(400, len(data) - 64)) if in_weights else place(random, structure, data)
        before = bytes(buffer[at : at + int(random.integers(1, 64))])
        after = before
        while after == before:  # one bit, one byte, or a piece of the file in a place that is not its own
            start = int(random.integers(len(data) - 64))
            bit = bytes([before[0] ^ 1 << int(random.integers(8))])
            byte = random.bytes(1)
            after = (bit + before[1:], byte + before[1:], data[start : start + len(before)])[number % 3]
        buffer[at : at + len(before)] = after
        yield buffer
        buffer[at : at + len(before)] = before


def place(random, structure, data):
    """A position in the structure or right beside it."""
    return min(max(int(random.choice(structure)) + int(random.integers(-1, 2)), 0), len(data) - 1)


def test_refuses_ten_thousand_damaged_files(data, structure):
    files = 0
    for damaged in damaged_files(data, structure):
        refused(damaged)
        files += 1
    assert files == DAMAGED_FILES, "of every kind"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -1.5])
def test_refuses_weights_that_no_such_network_has_whatever_the_hash(data, value):
    start, count = float_runs(data)[0]
    damaged = bytearray(data)
    at = start + 4 * (count // 2)
    damaged[at : at + 4] = np.float32(value).tobytes()
    assert "stem.conv.weight ranges from" in refused(damaged, sha256=None), "the weight is named"


def test_other_plausible_weights_pass_only_where_the_hash_is_not_asked_for(data, weights):
    start, _ = float_runs(data)[0]
    other = bytearray(data)
    other[start : start + 4] = np.float32(0.01).tobytes()
    assert "has the sha256" in refused(other), "weights that differ in one number"
    changed = decode_dlib_weights(other, source="own", sha256=None)
    assert changed["stem.conv.weight"][0, 0, 0, 0] == np.float32(0.01), "a network trained anew"
    for name, values in weights.items():
        assert np.sum(changed[name] != values) == (name == "stem.conv.weight"), (
            f"{name} is otherwise the same"
        )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: b"", "ends at byte 0, before the weights of stem.conv: it is truncated"),
        (lambda data: data[:1_000], "ends at byte 1000, within stem.conv.weight: it is truncated"),
        (lambda data: data[:-1], "after the last weights: it is truncated"),
        (lambda data: data + b"!", "goes on for 1 bytes after the network's end at byte 22466066"),
        (
            lambda data: data[:1] + b"\x02" + data[2:],
            "byte 1, before the weights of stem.conv, is 0x02 and not",
        ),
    ],
)
def test_says_where_and_how_a_file_is_damaged(data, change, told):
    assert told in refused(change(data))


@pytest.mark.parametrize("name", ["shape_predictor_5_face_landmarks.dat", "mmod_human_face_detector.dat"])
def test_refuses_dlibs_other_models(name):
    with pytest.raises(
        UserError, match=f"{name} is damaged or does not hold dlib's face recognition network"
    ):
        read_dlib_weights(dlib_model(name), sha256=None)


def test_names_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"the weights file .*absent\.dat cannot be read: .*No such file"):
        read_dlib_weights(tmp_path / "absent.dat")
    with pytest.raises(UserError, match="cannot be read"):
        read_dlib_weights(tmp_path)
