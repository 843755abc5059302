"""Bundles that were tampered with, their hashes made to fit or not: a sentence, or finite numbers."""

import importlib.util
import json
import math
import os
import random
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save

from pipeline.core.errors import UserError
from pipeline.core.tables import sha256
from pipeline.serving import bundle
from pipeline.serving.rows import judge

spec = importlib.util.spec_from_file_location(
    "serving_conftest", Path(__file__).resolve().parents[1] / "serving/conftest.py"
)
assert spec is not None
assert spec.loader is not None
serving = importlib.util.module_from_spec(spec)
spec.loader.exec_module(serving)

Attack = Callable[[Path, random.Random], None]
WIDTH = 128
PARTS = ("model.safetensors", "calibration.safetensors", "reference.safetensors")
ODD = (
    *(None, True, -1, 0, 3.7, 10**18, 10**400, 1e308, -1e308, 5e-324, "", "x", "18", "\u202e\x1b[31m"),
    *([], [[]], {}, {"a": 1}, ["a"], [1, "2"], [0.9, 0.5], [0.5, 0.5], [-0.1, 1.5], "../../etc/passwd"),
)
TOKENS = ("NaN", "Infinity", "-Infinity", "1e999", "1" * 5000, "[" * 10**6, '"' + "x" * (5 * 2**20) + '"')
TEXTS = (b"", b"{", b"[]", b"null", b"\xff\xfe{\x00", b"{} {}", b'{"format": 1, "format": 1}', b"\x00" * 64)


def places(tree: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """The place of every value in a JSON tree."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from places(value, *path, key)


def changed(tree: Any, chance: random.Random) -> str:
    """The same JSON with one value exchanged, removed, added or written as no JSON number."""
    place = chance.choice([*places(tree)])
    holder = tree
    for key in place[:-1]:
        holder = holder[key]
    how = chance.randrange(5)
    if how == 0 and isinstance(holder, dict):
        del holder[place[-1]]
    elif how == 1 and isinstance(holder, dict):
        holder[chance.choice(["extra", "__class__", "loss", "x" * 1000])] = chance.choice(ODD)
    elif how == 2:
        holder[place[-1]] = "TOKEN"
    else:
        holder[place[-1]] = chance.choice(ODD)
    text = json.dumps(tree)
    return text.replace('"TOKEN"', chance.choice(TOKENS), 1)


def in_json(folder: Path, chance: random.Random) -> None:
    path = folder / "bundle.json"
    path.write_text(changed(json.loads(path.read_text()), chance))


def as_text(folder: Path, chance: random.Random) -> None:
    (folder / "bundle.json").write_bytes(chance.choice(TEXTS))


def opened(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def written(path: Path, header: str, data: bytes, size: int | None = None) -> None:
    raw = header.encode()
    path.write_bytes(struct.pack("<Q", len(raw) if size is None else size) + raw + data)


def in_described(folder: Path, chance: random.Random) -> None:
    path = folder / chance.choice(PARTS)
    header, data = opened(path)
    header["__metadata__"]["vec2age"] = changed(json.loads(header["__metadata__"]["vec2age"]), chance)
    written(path, json.dumps(header), data)


def in_header(folder: Path, chance: random.Random) -> None:
    """Sizes, offsets, types and names that lie."""
    path = folder / chance.choice(PARTS)
    header, data = opened(path)
    one = header[chance.choice([name for name in header if name != "__metadata__"])]
    lies: dict[int, Callable[[], Any]] = {
        0: lambda: one.update(dtype=chance.choice(["F64", "BF16", "F16", "U8", "I8", "BOOL", "F8_E4M3", 3])),
        1: lambda: one.update(shape=chance.choice([[10**12], [0], [], [-1], [2**63, 2], [0, 10**12], [1.5]])),
        2: lambda: one.update(data_offsets=chance.choice([[0, 0], [0, 2**63], [8, 4], [-4, 0], [0, 4]])),
        3: lambda: header.update(more={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}),
        4: lambda: header.pop("__metadata__"),
        5: lambda: header["__metadata__"].update(vec2age=5),
        6: lambda: one.update(shape=one["shape"][::-1]),
    }
    lies[chance.randrange(len(lies))]()
    size = chance.choice([None] * 6 + [0, 2**63, 10**8, 7])
    written(path, json.dumps(header), data[: len(data) - chance.choice([0, 0, 0, 4, 100])], size)


def in_arrays(folder: Path, chance: random.Random) -> None:
    """Numbers, types and shapes that training never gives, in a file that is sound."""
    path = folder / chance.choice(PARTS)
    header, _ = opened(path)
    arrays = load_file(path)
    name = chance.choice(sorted(arrays))
    one = arrays[name].copy()
    match chance.randrange(8):
        case 0:
            one.flat[chance.randrange(one.size)] = chance.choice([np.nan, np.inf, -np.inf])
        case 1:
            one = one.astype(chance.choice(["int8", "float16", "float64", "float32", "uint8", "bool"]))
        case 2:
            one = one.reshape(-1) if one.ndim > 1 else one.reshape(1, -1)
        case 3:
            one = one[:0] if chance.random() < 0.5 else one[:1]
        case 4:
            one = -one
        case 5:
            one = one * one.dtype.type(chance.choice([1e30, 3e38, 0.0]))
        case 6:
            one = one[::-1]
        case _:
            name = chance.choice(["extra", "layers.2.weight", "standardisation.mean", "0.1.scores"])
    path.write_bytes(save({**arrays, name: np.ascontiguousarray(one)}, header["__metadata__"]))


def bytes_flipped(folder: Path, chance: random.Random) -> None:
    path = folder / chance.choice((*PARTS, "bundle.json"))
    data = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 1, 8])):
        data[chance.randrange(min(len(data), chance.choice([600, len(data)])))] ^= 1 << chance.randrange(8)
    path.write_bytes(data[: chance.choice([len(data)] * 3 + [chance.randrange(len(data))])])


def exchanged(folder: Path, chance: random.Random) -> None:
    """A pipe, a folder, a device, a link out of the bundle or a file without end in a file's place."""
    path = folder / chance.choice((*PARTS, "bundle.json", "MODEL_CARD.md"))
    path.unlink()
    match chance.randrange(6):
        case 0:
            os.mkfifo(path)
        case 1:
            path.mkdir()
        case 2:
            path.symlink_to(
                chance.choice(["/dev/zero", "/dev/tty", "/etc/hostname", "/proc/self/mem", path.name])
            )
        case 3:
            path.touch()
            os.truncate(path, chance.choice([10**7, 10**10, 2**42]))
        case 4:
            path.write_bytes(chance.choice(sorted(folder.iterdir())).read_bytes())
        case _:
            pass


ATTACKS: tuple[Attack, ...] = (
    *(in_json, in_json, in_json, in_described, in_described, in_header, in_header, in_arrays, in_arrays),
    *(bytes_flipped, exchanged, as_text),
)


def resealed(folder: Path) -> None:
    """Make the hashes fit, where bundle.json still is one that lists any."""
    path = folder / "bundle.json"
    try:
        text = path.read_text() if path.is_file() and path.stat().st_size < 10**7 else ""
        listed = json.loads(text)["files"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return
    for name in PARTS:
        sound = (folder / name).is_file() and (folder / name).stat().st_size < 10**7
        if (
            sound
            and not (folder / name).is_symlink()
            and isinstance(listed, dict)
            and isinstance(listed.get(name), str)
            and listed[name]
        ):
            text = text.replace(listed[name], sha256(folder / name))
    path.write_text(text)


def asked(case: tuple[int, Path, Path]) -> list[dict[str, Any]] | str:
    """What a tampered bundle answers, or the sentence with which it is refused."""
    torch.set_num_threads(1)  # the pool of a process that was forked has no threads
    number, sound, work = case
    chance = random.Random(f"bundle {number}")
    folder = Path(shutil.copytree(sound, work / f"{number}"))
    try:
        ATTACKS[number % len(ATTACKS)](folder, chance)
        if chance.random() < 0.85:
            resealed(folder)
        vectors = np.random.default_rng(number).normal(0, 0.1, (5, WIDTH)).astype(np.float32)
        return judge(bundle.load(folder, pictures=number % 3 == 0), vectors)
    except UserError as error:
        return str(error)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "bundle"
    torch.set_num_threads(1)
    serving.make_bundle(folder)
    return folder


def test_a_tampered_bundle_answers_in_finite_numbers_or_is_refused_in_one_sentence(
    watched: Any, cases: Any, sound: Path, tmp_path: Path
) -> None:
    count = cases(1200, 120)
    answered = 0
    for number, outcome in enumerate(watched(asked, [(n, sound, tmp_path) for n in range(count)])):
        attack = ATTACKS[number % len(ATTACKS)].__name__
        assert outcome.within_limits(), (number, attack, outcome)
        assert outcome.raised is None, (number, attack, outcome.raised)
        if isinstance(outcome.result, str):
            sentence = outcome.result
            assert str(tmp_path) in sentence or attack in ("in_json", "bytes_flipped"), (number, sentence)
            assert "\n" not in sentence, (number, sentence)
            assert len(sentence) < 1000, (number, len(sentence))
            continue
        answered += 1
        for row in outcome.result:
            numbers = [value for value in row.values() if isinstance(value, float)]
            assert all(map(math.isfinite, numbers)), (number, attack, row)
            assert row["lower"] <= row["prediction"] <= row["upper"], (number, attack, row)
            assert 0 <= row.get("probability_under", 0.5) <= 1, (number, attack, row)
            assert row["spread"] >= 0, (number, attack, row)
    assert 0 < answered < count / 2, "some changes are harmless, most are not"


@pytest.mark.parametrize("name", [*PARTS, "bundle.json"])
def test_a_pipe_in_a_files_place_is_not_waited_for(
    watched: Any, sound: Path, tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "b"))
    (folder / name).unlink()
    os.mkfifo(folder / name)
    (outcome,) = watched(partial(bundle.load, pictures=False), [folder])
    assert isinstance(outcome.raised, UserError), outcome
    assert re.search(
        rf"{re.escape(name)} is a folder, pipe, socket or device, not a file", str(outcome.raised)
    )
