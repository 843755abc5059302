"""YAML that was edited, broken or made to hang: `use` and loading read it, or refuse it in a sentence."""

import itertools
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import config
from pipeline.config.profiles import use
from pipeline.config.yaml.text import LARGEST
from pipeline.core.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]
BLANK = "{}\n"
SIZE = LARGEST - 100
"""Characters of the longest texts that are read at all."""
BITS = [
    *(
        "[",
        "]",
        "{",
        "}",
        ":",
        ": ",
        "- ",
        "#",
        " #",
        "&a ",
        "*a",
        "<<: *a\n",
        "!!",
        "!!set ",
        "!!python/name:os.system ",
    ),
    *(
        "|",
        ">",
        "|+\n",
        "'",
        '"',
        "\t",
        "\n",
        "\r",
        "\r\n",
        "\0",
        "\x85",
        "\u2028",
        "\ufeff",
        "%YAML 1.1\n---\n",
        "---\n",
    ),
    *(
        "...\n",
        "? ",
        "? [a]\n: b\n",
        "~",
        "null",
        "yes",
        "1e999",
        ".nan",
        "-.inf",
        "0x",
        "1_0",
        "2001-99-99",
        "@",
        "`",
    ),
    *(
        "\ud800",
        "☺",
        "=",
        "<<",
        "<<: [*a, *a]\n",
        "!<x> ",
        "&a &b ",
        "* ",
        "& ",
        "9" * 5000,
        "a" * 5000,
        "\n" * 500,
    ),
]


def structures() -> Iterator[tuple[str, str]]:
    """Files that cost more than they look like, and tags that would build something."""
    nine = "".join(f"{chr(c + 1)}: &{chr(c + 1)} [{', '.join([f'*{chr(c)}'] * 9)}]\n" for c in range(97, 120))
    yield "laughs", f"a: &a [1, 1]\n{nine}"
    yield (
        "laughing merges",
        "a: &a {x: 1}\n"
        + "".join(
            f"m{k}: &m{k} {{<<: [*{'a' if not k else f'm{k - 1}'}, *{'a' if not k else f'm{k - 1}'}]}}\n"
            for k in range(60)
        ),
    )
    yield "100,000 anchors", "".join(f"k{k}: &a{k} 1\n" for k in range(100_000))
    yield "4,000 anchors", "".join(f"k{k}: &a{k} 1\n" for k in range(4_000))
    yield "a comment of 50 MB", "a: 1 #" + "x" * 50_000_000
    yield "comments", "#\n" * (SIZE // 2)
    yield "a long comment", "a: 1 #" + "x" * SIZE
    yield "comments everywhere", "".join(f"k{k}: 1 # {k}\n# {k}\n" for k in range(2_500))
    for name, text in {
        "blank lines": "\n" * SIZE,
        "a long text": "a: " + "a " * (SIZE // 2),
        "a folded text": "a: >\n" + " x\n" * (SIZE // 3),
        "a quoted text": 'a: "' + "x\n\n" * (SIZE // 3) + '"',
        "escapes": 'a: "' + "\\n" * (SIZE // 2) + '"',
        "digits": "a: " + "9" * SIZE,
        "a fraction": "a: " + "9" * SIZE + ".5",
        "sixties": "a: 1" + ":59" * (SIZE // 3),
        "underscores": "a: 1" + "_" * SIZE,
        "hexadecimal": "a: 0x" + "f" * SIZE,
        "brackets": "[" * SIZE,
        "braces": "{a: " * (SIZE // 4),
        "dashes": "- " * (SIZE // 2),
        "question marks": "? " * (SIZE // 2),
        "colons": ": " * (SIZE // 2),
        "a list": "a: [" + "1, " * (SIZE // 3) + "1]",
        "lines": "- a\n" * (SIZE // 4),
        "keys": "".join(f"k{k}: 1\n" for k in range(SIZE // 10)),
        "the same key": "a: 1\n" * (SIZE // 5),
        "a long key": "k" * SIZE + ": 1",
        "a long anchor": "a: &" + "a" * (SIZE // 2) + " *" + "a" * (SIZE // 2),
        "a long tag": "a: !" + "t" * SIZE + " 1",
        "holds itself": "a: &a [*a]\n",
        "merges itself": "a: &a {<<: *a}\n",
        "merges itself twice": "&a a: 1\n<<: *a\n",
        "merges a text": "<<: text\n",
        "merges nothing": "<<:\n",
        "merges a list of texts": "a: {<<: [a, b]}\n",
        "a set": "a: !!set {b, c}\n",
        "a set in brackets": "a: [!!set {b}, !!omap [c: 1]]\n",
        "pairs": "a: !!pairs [b: 1, b: 2]\n",
        "an object": "a: !!python/object/apply:os.system [id]\n",
        "binary": "a: !!binary aGk=\n",
        "a number by tag": "a: !!int x\n",
        "a float by tag": "a: !!float ''\n",
        "null by tag": "a: !!null x\n",
        "a map by tag": "a: !!map [1]\n",
        "a date": "a: 2001-99-99\n",
        "another date": "a: 2001-01-01 99:99:99\n",
        "two documents": "a: 1\n---\nb: 2\n",
        "a directive": "%TAG ! tag:x,2000:\n---\na: !b 1\n",
        "version 9": "%YAML 9.9\n---\na: 1\n",
        "keys of lists": "? [a, b]\n: 1\n",
        "keys of maps": "? {a: b}\n: 1\n",
        "a number as key": "1: 2\ncrop: {3: 4}\n",
        "null as key": "~: 2\ncrop: {~: 4}\n",
        "an alias as key": "a: &a b\n*a : 3\n",
        "an alias as section": "crop: &a {size: 64}\nsplit: *a\n",
        "NUL": "a: \0\n",
        "a surrogate": "a: '\\ud800'\n",
        "half a pair": 'a: "\\ud83d"\n',
        "a BOM within": "a: \ufeffb\n",
        "only a BOM": "\ufeff",
        "nothing": "",
        "tabs": "\t\t\t\ta: 1\n",
        "starts_from itself": "starts_from: profile.yaml\n",
        "starts_from a folder": "starts_from: .\n",
        "starts_from a device": "starts_from: /dev/zero\n",
        "starts_from NUL": 'starts_from: "\\0"\n',
        "starts_from far": f"starts_from: {'x' * 5000}\n",
        "half of UTF-16": "a: 1\n".encode("utf-16").decode("latin-1"),
    }.items():
        yield name, text
        yield f"{name}, in a section", "crop:\n" + "".join(f"  {line}\n" for line in text.split("\n")[:5000])


def edited(random_: random.Random) -> str:
    """One of the project's YAML files with a few edits."""
    paths = [PROJECT / "params.yaml", *sorted((PROJECT / "profiles").glob("*.yaml"))]
    text = random_.choice(paths).read_text()
    for _ in range(random_.randint(1, 4)):
        place, other = random_.randrange(len(text) + 1), random_.randrange(len(text) + 1)
        match random_.randrange(6):
            case 0:
                text = text[:place] + random_.choice(BITS) + text[place:]
            case 1:
                text = text[:place] + text[place + random_.randrange(30) :]
            case 2:
                text = text[:place] + text[min(place, other) : min(place, other) + 300] + text[place:]
            case 3:
                lines = text.splitlines(keepends=True)
                lines.insert(random_.randrange(len(lines) + 1), random_.choice(lines or [""]))
                text = "".join(lines)
            case 4:
                words = re.findall(r"(?<=: )\S+", text) or [""]
                text = text.replace(random_.choice(words), random_.choice(BITS), 1)
            case _:
                text = text[:place]
    return text


def corpus() -> Iterator[tuple[str, str]]:
    """All attacks, structures first."""
    yield from structures()
    for number in itertools.count():
        yield f"edit {number}", edited(random.Random(number))


def unharmed(target: Path, before: bytes, sentence: str) -> None:
    """A refusal is one line, and leaves the file as it was."""
    assert target.read_bytes() == before
    assert len(sentence) < 1500
    assert "\n" not in sentence


@pytest.fixture
def attacked(tmp_path: Path):
    """Attack both files with a text; what was refused, and a fault if there is one."""
    sound = (PROJECT / "params.yaml").read_bytes()
    target, profile = tmp_path / "params.yaml", tmp_path / "profile.yaml"

    def attack(case: tuple[str, str]) -> list[str]:
        _, text = case
        content = text.encode("utf-8", "surrogatepass")
        said = []
        for as_profile in (True, False):
            target.write_bytes(sound if as_profile else content)
            profile.write_bytes(content if as_profile else BLANK.encode())
            before = target.read_bytes()
            acts = [lambda: use(profile, ["crop.margin=0.31"], target)]
            if not as_profile:
                acts.append(lambda: config.load(target))
            for act in acts:
                try:
                    act()
                except UserError as error:
                    said.append(str(error))
                    unharmed(target, before, said[-1])
            if target.read_bytes() != before:
                assert config.load(target).crop.margin == 0.31
                after = target.read_bytes()
                assert use(profile, ["crop.margin=0.31"], target) == []
                assert target.read_bytes() == after
        if len(text) < 50_000 and "\0" not in text:
            try:
                target.write_bytes(sound)
                profile.write_bytes(BLANK.encode())
                use(profile, [f"data.settings={text}"], target)
            except UserError:
                assert target.read_bytes() == sound
        return said

    return attack


def test_hostile_yaml_ends_in_a_sentence_and_leaves_params_yaml_as_it_was(watched, cases, attacked) -> None:
    count = cases(400, 40)
    made = list(itertools.islice(corpus(), 400))
    chosen = made if count == 400 else made[:: len(made) // count]
    faults, refused, slowest, largest = [], 0, 0.0, 0
    for (name, _), outcome in zip(chosen, watched(attacked, chosen), strict=True):
        slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.rise)
        refused += bool(outcome.result)
        if outcome.raised is not None or not outcome.within_limits():
            faults.append((name, outcome))
    print(f"{len(chosen)} files, {refused} refused, {slowest:.1f} s, {largest / 2**20:.0f} MiB")  # noqa: T201
    assert faults == []
    assert refused > len(chosen) / 4
