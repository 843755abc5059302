"""YAML text as plain values and as places in the text, with limits on what a file may ask for.

Settings need few of YAML's means. Anchors and merges are read, and count as often as they are used; tags and
directives are refused. The limits are checked on the stream of events, before anything is built.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
)

from pipeline.core.errors import UserError

LARGEST = 2**16
"""Bytes of a file: params.yaml has 15,000."""
LONGEST = 10_000
"""Bits of a whole number: Python refuses to show one of many more."""
MOST = 10_000
"""Values of a file, those behind an anchor as often as they are used: params.yaml has 600."""
DEEPEST = 50
"""Levels of a file: params.yaml has six."""
BEHIND = {mark: re.compile(rf"(?:\s|#[^\r\n]*)*{mark}") for mark in ":-"}
SHOWN = 200
"""Characters of a reason: some of the parser's repeat what they read."""


class NotYamlError(Exception):
    """Text that cannot be read as YAML; the message says why, in one line."""

    def __init__(self, why: str) -> None:
        why = " ".join(why.split())
        super().__init__(why if len(why) <= SHOWN else f"{why[:SHOWN]}...")


@dataclass
class Node:
    """A value and where it stands: `text[start:end]`, from its anchor on.

    `items` are a list's values, or a mapping's keys and values in turn; `target` is what an alias stands for.
    """

    kind: Literal["scalar", "map", "list", "alias"]
    start: int
    end: int
    anchor: str | None = None
    style: str | None = None
    flow: bool = False
    text: str = ""
    items: list["Node"] = field(default_factory=list)
    target: "Node | None" = None
    size: int = 1

    @property
    def pairs(self) -> Iterator[tuple["Node", "Node"]]:
        """A mapping's keys with their values."""
        return zip(self.items[::2], self.items[1::2], strict=True)


@dataclass(frozen=True)
class Document:
    """What a YAML text says, where it says it, and the text itself."""

    values: Any
    node: Node | None
    text: str


class _Constructor(SafeConstructor):
    """Dates stay the text that they are: no setting is a date, and a folder may be called like one."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


class _Events(deque[Event]):
    """Events that were checked, in the place of the parser that they came from: it is slow."""

    def recorded(self, events: Iterable[Event]) -> Iterator[Event]:
        """Events one by one, which are kept."""
        for event in events:
            self.append(event)
            yield event

    def check_event(self, *kinds: type[Event]) -> bool:
        """Whether the next event is of one of these kinds."""
        return isinstance(self[0], kinds)

    def peek_event(self) -> Event:
        """The next event, left where it is."""
        return self[0]

    def get_event(self) -> Event:
        """The next event."""
        return self.popleft()


def read_text(path: Path) -> str:
    """A YAML file's text, its line ends as they are."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(f"{path} is a pipe, a socket or a device: name a YAML file")
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise UserError(f"{path} has more than {LARGEST // 1024} KiB: settings take a few")
        return data.decode("utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run vec2age from the project's top folder") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: name a YAML file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start})") from None


def parsed(text: str) -> Document:
    """What YAML text stands for; `NotYamlError` whatever is wrong with it."""
    text = text.removeprefix("\ufeff")
    try:
        events = _Events()
        node = scanned(events.recorded(YAML(typ="safe", pure=True).parse(text)), text)
        yaml = YAML(typ="safe", pure=True)
        yaml.Constructor = _Constructor
        yaml.Parser = lambda loader: events
        return Document(plain(yaml.constructor.get_single_data()), node, text)
    except MarkedYAMLError as error:
        why = error.problem or error.context or "it cannot be read"
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f" in line {mark.line + 1}"
        raise NotYamlError(f"{why}{where}") from None
    except (YAMLError, ValueError) as error:
        raise NotYamlError(str(error)) from None


def plain(tree: Any) -> Any:
    """A copy in which no two places share a list or a mapping, as anchors let them."""
    if isinstance(tree, dict):
        return {plain(key): plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [plain(item) for item in tree]
    if isinstance(tree, int) and tree.bit_length() > LONGEST:
        raise ValueError(f"a whole number has more than {LONGEST:,} bits")
    return tree


def scanned(events: Iterable[Event], text: str) -> Node | None:
    """The nodes of a text, by its events, within the limits; None where it is empty."""
    open_nodes: list[Node] = []
    anchors: dict[str, Node] = {}
    top: Node | None = None
    documents = total = 0
    for event in events:
        if isinstance(event, DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise NotYamlError("it holds several documents (---): keep one")
            if event.version or event.tags:
                raise NotYamlError("it begins with a directive (%): take it out")
        node = _node(event, anchors, text)
        if node is not None:
            total += node.size
            if total > MOST:
                raise NotYamlError(
                    f"it holds more than {MOST:,} values, those behind anchors counted each time"
                )
            if open_nodes:
                open_nodes[-1].items.append(node)
            elif top is None:
                top = node
            if node.anchor is not None:
                anchors[node.anchor] = node
            if node.kind in ("map", "list"):
                open_nodes.append(node)
                if len(open_nodes) > DEEPEST:
                    raise NotYamlError("its brackets are nested too deeply to be read")
        elif event.__class__.__name__ in ("MappingEndEvent", "SequenceEndEvent"):
            closed = open_nodes.pop()
            closed.size += sum(item.size for item in closed.items)
            closed.text = "closed"
            _place_empty(closed, text)
            if closed.flow or not closed.items:
                closed.end = event.end_mark.index
            else:  # the parser counts on to whatever comes next
                closed.end = closed.items[-1].end
    return top


def _place_empty(node: Node, text: str) -> None:
    """Put what is not written behind its colon or dash: the parser has it before the next value."""
    before = node.start
    for number, item in enumerate(node.items):
        if item.kind == "scalar" and item.start == item.end:
            mark = ":" if node.kind == "map" else "-"
            is_key = node.kind == "map" and number % 2 == 0
            found = None if is_key or (node.flow and mark == "-") else BEHIND[mark].match(text, before)
            item.start = item.end = before if found is None else found.end()
        before = item.end


def _node(event: Event, anchors: dict[str, Node], text: str) -> Node | None:
    """What an event begins; None where it begins nothing."""
    start, end = event.start_mark.index, event.end_mark.index
    line = event.start_mark.line + 1
    if isinstance(event, AliasEvent):
        target = anchors.get(event.anchor)
        if target is None:
            raise NotYamlError(
                f"*{event.anchor} in line {line} stands for nothing: no &{event.anchor} is above it"
            )
        if target.kind in ("map", "list") and not target.text:
            raise NotYamlError(f"*{event.anchor} in line {line} stands for what it is a part of")
        return Node("alias", start, end, target=target, size=target.size)
    if not isinstance(event, ScalarEvent | MappingStartEvent | SequenceStartEvent):
        return None
    if event.tag is not None:
        raise NotYamlError(f"line {line} has the tag {event.tag}: write plain values, text in quotes")
    if isinstance(event, ScalarEvent):
        if event.style in ("|", ">"):
            end = start + len(text[start:end].rstrip())
        return Node("scalar", start, end, event.anchor, event.style, text=event.value)
    kind: Literal["map", "list"] = "map" if isinstance(event, MappingStartEvent) else "list"
    return Node(kind, start, end, event.anchor, flow=bool(event.flow_style))
