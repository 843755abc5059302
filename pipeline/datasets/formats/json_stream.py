"""A large JSON object read entry by entry, in bounded memory, duplicate keys included."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError

CHUNK = 1 << 20
LARGEST_ENTRY = 64 << 20
LONGEST_WHOLE = 4000
BLANK = " \t\r\n"


def entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of the one object that a JSON file holds, in the file's order.

    Unlike `json.load`, it shows a key that occurs twice as often as it occurs, and holds one entry at a
    time. Integers come as floats.

    Raises
    ------
    UserError
        The file is not a JSON object, is cut short, is not UTF-8, or holds an entry of more than 64 MiB.
    """
    with open(path, encoding="utf-8") as file:
        reader = Window(path, file.read)
        try:
            reader.expect("{")
            if reader.peek() != "}":
                while True:
                    key = reader.value()
                    if not isinstance(key, str):
                        raise reader.error(f"the key {key!r:.40} is not text")
                    reader.expect(":")
                    yield key, reader.value()
                    if reader.peek() != ",":
                        break
                    reader.expect(",")
            reader.expect("}")
            if reader.peek():
                raise reader.error("there is more after the object's end")
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 text: {error.reason}") from None


def items(path: Path) -> Iterator[Any]:
    """Yield the items of the one list that a JSON file holds; errors as of `entries`."""
    with open(path, encoding="utf-8-sig") as file:
        reader = Window(path, file.read, whole)
        try:
            if reader.peek() == "{":
                raise UserError(f"{path} must hold a list of records, not dict")
            reader.expect("[")
            if reader.peek() != "]":
                while True:
                    yield reader.value()
                    if reader.peek() != ",":
                        break
                    reader.expect(",")
            reader.expect("]")
            if reader.peek():
                raise reader.error("there is more after the list's end")
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 text: {error.reason}") from None


def whole(digits: str) -> float:
    """A number without a point: as it is, or a float where it has more digits than Python converts."""
    return int(digits) if len(digits) < LONGEST_WHOLE else float(digits)


class Window:
    """The part of a text that is being looked at; reads on as far as the next value needs."""

    def __init__(self, path: Path, read: Any, parse_int: Callable[[str], Any] = float) -> None:
        self.path = path
        self.read = read
        self.decoder = json.JSONDecoder(parse_int=parse_int, object_pairs_hook=self.once)
        self.text = ""
        self.position = 0
        self.dropped = 0

    def error(self, problem: str) -> UserError:
        """What is wrong, with the character it is wrong at."""
        return UserError(f"{self.path}, character {self.dropped + self.position + 1}: {problem}")

    def once(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """An object; one that has a key twice is refused, since which value is meant cannot be told."""
        made = dict(pairs)
        if len(made) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise self.error(f"the key {twice!r:.60} occurs twice in the object that begins here: keep one")
        return made

    def more(self) -> bool:
        """Read on, forgetting what is behind; False at the file's end."""
        chunk = self.read(max(CHUNK, len(self.text) - self.position))
        self.dropped += self.position
        self.text = self.text[self.position :] + chunk
        self.position = 0
        return bool(chunk)

    def peek(self) -> str:
        """The next character that is not blank, or nothing at the file's end."""
        while True:
            while self.position < len(self.text) and self.text[self.position] in BLANK:
                self.position += 1
            if self.position < len(self.text) or not self.more():
                return self.text[self.position : self.position + 1]

    def expect(self, character: str) -> None:
        """Step over one character, which must be there."""
        found = self.peek()
        if found != character:
            raise self.error(f"expected {character!r}, found {found!r}" if found else "the file is cut short")
        self.position += 1

    def value(self) -> Any:
        """Decode one value and step over it."""
        self.peek()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.position)
            except json.JSONDecodeError as error:
                problem = error.msg
            except RecursionError:
                raise self.error("too many nested brackets") from None
            else:
                if end < len(self.text):
                    self.position = end
                    return value
                # A number at the window's edge may go on behind it.
                if not self.more():
                    self.position = len(self.text)
                    return value
                continue
            if len(self.text) - self.position > LARGEST_ENTRY:
                raise self.error(f"an entry of more than {LARGEST_ENTRY >> 20} MiB, or not JSON ({problem})")
            if not self.more():
                raise self.error(f"not JSON, or cut short ({problem})")
