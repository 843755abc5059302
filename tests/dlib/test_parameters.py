import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.core.errors import UserError
from pipeline.core.package_data import dlib_model
from pipeline.dlib.mmod.parameters import FILE_NAME, decode_mmod_weights, read_mmod_weights

DAMAGED_FILES = 4_000
Weights = dict[str, npt.NDArray[np.float32]]


@pytest.fixture(scope="module")
def data() -> bytes:
    return dlib_model(FILE_NAME).read_bytes()


@pytest.fixture(scope="module")
def structure(data: bytes) -> npt.NDArray[np.int64]:
    """The position of every byte that is not part of a weight, found by the independent reader below."""
    free = np.ones(len(data), dtype=bool)
    for start, count in float_runs(data):
        free[start : start + 4 * count] = False
    return np.flatnonzero(free)


def float_runs(data: bytes) -> list[tuple[int, int]]:
    """Where weights lie, (first byte, count): names are looked for, and little else is read."""
    runs, at = [], 0
    for name in ["con_4", "bn_con2"] * 6 + ["con_4"]:
        at = data.index(bytes([1, len(name)]) + name.encode(), at) + 2 + len(name)
        for tensor in range(5 if name == "bn_con2" else 1):
            if tensor == 1:
                for _ in range(2 * 5):  # how gain and offset share the first tensor
                    _, at = integer(data, at)
            version, at = integer(data, at)
            assert version == 2, "dlib's version of tensors"
            count = 1
            for _ in range(4):
                size, at = integer(data, at)
                count *= size
            runs.append((at, count))
            at += 4 * count
    return runs


def integer(data: bytes, at: int) -> tuple[int, int]:
    end = at + 1 + (data[at] & 15)
    return int.from_bytes(data[at + 1 : end], "little"), end


def refused(damaged: bytes | bytearray | memoryview, sha256: str | None = None) -> str:
    settings = {} if sha256 == "published" else {"sha256": sha256}
    with pytest.raises(UserError) as caught:
        decode_mmod_weights(damaged, source="the file", **settings)
    message = str(caught.value)
    assert message.startswith("the file "), message
    assert "\n" not in message, "one sentence"
    return message


def test_weights_are_those_an_independent_reader_finds(data: bytes) -> None:
    weights = decode_mmod_weights(data, source="the file")
    runs = iter(float_runs(data))
    for layer in [f"{kind}{number}" for number in range(1, 7) for kind in ("conv", "norm")] + ["score"]:
        kinds = [name for name in weights if name.startswith(layer)]
        if layer.startswith("norm"):
            pieces = [kinds[:2], *([kind] for kind in kinds[2:])]
            assert [kind.partition(".")[2] for kind in kinds] == [
                *("gain", "offset", "last_mean", "last_inverse_deviation", "mean", "variance"),
            ]
        else:
            pieces = [kinds]
        for piece in pieces:
            start, count = next(runs)
            expected = np.array(struct.unpack_from(f"<{count}f", data, start), np.float32)
            found = np.concatenate([weights[name].ravel() for name in piece])
            assert np.array_equal(found, expected), piece
    assert next(runs, None) is None, "all are there"


def test_normalisation_is_what_training_left_of_it(data: bytes) -> None:
    weights = decode_mmod_weights(data, source="the file")
    for number in range(1, 7):
        mean, last = weights[f"norm{number}.mean"], weights[f"norm{number}.last_mean"]
        np.testing.assert_allclose(mean, last, atol=2e-3)
        deviation = np.sqrt(weights[f"norm{number}.variance"] + 1e-4)
        np.testing.assert_allclose(1 / deviation, weights[f"norm{number}.last_inverse_deviation"], rtol=0.2)


def test_refuses_every_changed_byte_of_the_structure_whatever_the_hash(
    data: bytes, structure: npt.NDArray[np.int64]
) -> None:
    assert len(structure) > 1_500, "names, versions, sizes, strides, paddings, flags, options"
    damaged = bytearray(data)
    masks = np.random.default_rng(1).integers(1, 256, len(structure))
    for at, mask in zip(structure.tolist(), masks.tolist(), strict=True):
        damaged[at] ^= mask
        assert f"byte {at}," in refused(damaged), "the very byte is named"
        damaged[at] ^= mask
    assert bytes(damaged) == data, "each was damaged alone"


def damaged_files(data: bytes, structure: npt.NDArray[np.int64]) -> Iterator[bytes | bytearray | memoryview]:
    """Files of every kind of damage, most of it near the structure, where a reader could be led astray."""
    random = np.random.default_rng(2)
    whole = memoryview(data)
    buffer = bytearray(data)
    yield b""
    yield whole[1:]
    yield data + data
    for number in range(DAMAGED_FILES - 3):
        at = min(max(int(random.choice(structure)) + int(random.integers(-1, 2)), 0), len(data) - 1)
        length = int(random.integers(1, 64))
        kind = number % 8
        if kind == 0:
            yield whole[:at]
        elif kind == 1:
            yield data + random.bytes(length)
        elif kind == 2:  # bytes removed, or others in their place and more of them
            yield data[:at] + (random.bytes(length) if length % 2 else b"") + data[at + length // 2 :]
        else:  # one bit, one byte, or a piece of the file in a place that is not its own
            if kind == 7:
                at = int(random.integers(len(data)))  # anywhere, and so in weights
            before = after = bytes(buffer[at : at + length])
            while after == before:
                start = int(random.integers(len(data) - 64))
                bit = bytes([before[0] ^ 1 << int(random.integers(8))])
                other = (bit + before[1:], random.bytes(1) + before[1:], data[start : start + len(before)])
                after = other[number % 3]
            buffer[at : at + len(before)] = after
            yield buffer
            buffer[at : at + len(before)] = before


def test_refuses_thousands_of_damaged_files(data: bytes, structure: npt.NDArray[np.int64]) -> None:
    files = 0
    for damaged in damaged_files(data, structure):
        refused(damaged, "published")
        files += 1
    assert files == DAMAGED_FILES, "of every kind"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -200])
@pytest.mark.parametrize(
    ("run", "layer"), [(0, "conv1.weight"), (1, "norm1.gain"), (3, "norm1.last_inv"), (5, "norm1.variance")]
)
def test_refuses_weights_that_no_such_network_has_whatever_the_hash(
    data: bytes, value: float, run: int, layer: str
) -> None:
    start, _ = float_runs(data)[run]
    damaged = bytearray(data)
    damaged[start + 4 : start + 8] = np.float32(value).tobytes()
    assert f"the file is damaged: {layer}" in refused(damaged), "the weight is named"


def test_other_plausible_weights_pass_only_where_the_hash_is_not_asked_for(data: bytes) -> None:
    start, _ = float_runs(data)[0]
    other = bytearray(data)
    other[start : start + 4] = np.float32(0.01).tobytes()
    assert "has the sha256" in refused(other, "published"), "weights that differ in one number"
    changed = decode_mmod_weights(other, source="own", sha256=None)
    assert changed["conv1.weight"][0, 0, 0, 0] == np.float32(0.01), "a network trained anew"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: b"", "ends at byte 0, before the weights of conv1: it is truncated"),
        (lambda data: data[:1_000], "ends at byte 1000, within conv1.weight: it is truncated"),
        (lambda data: data[:5_150], "ends at byte 5150, within norm1.gain: it is truncated"),
        (lambda data: data[:-1], "after the last weights: it is truncated"),
        (lambda data: data + b"!", "goes on for 1 bytes after the network's end at byte 729940"),
        (
            lambda data: data[:3] + b"!" + data[4:],
            "byte 3, before the weights of conv1, is 0x21 and not 0x0a",
        ),
    ],
)
def test_says_where_and_how_a_file_is_damaged(
    data: bytes, change: Callable[[bytes], bytes], told: str
) -> None:
    assert told in refused(change(data))


@pytest.mark.parametrize(
    "name", ["shape_predictor_5_face_landmarks.dat", "dlib_face_recognition_resnet_model_v1.dat"]
)
def test_refuses_dlibs_other_models(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} is damaged or does not hold dlib's face detection network"):
        read_mmod_weights(dlib_model(name), sha256=None)


def test_names_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the weights file .*absent\.dat cannot be read: .*No such file"):
        read_mmod_weights(tmp_path / "absent.dat")
