"""A large JSON object read entry by entry, in bounded memory, duplicate keys included."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

CHUNK = 1 << 20
LARGEST_ENTRY = 64 << 20
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


class Window:
    """The part of a text that is being looked at; reads on as far as the next value needs."""

    def __init__(self, path: Path, read: Any) -> None:
        self.path = path
        self.read = read
        self.decoder = json.JSONDecoder(parse_int=float)
        self.text = ""
        self.position = 0
        self.dropped = 0

    def error(self, problem: str) -> UserError:
        """What is wrong, with the character it is wrong at."""
        return UserError(f"{self.path}, character {self.dropped + self.position + 1}: {problem}")

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
