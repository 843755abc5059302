"""Changing values in YAML text: everything else, comments above all, stays as it is, byte for byte.

Each changed value is written over the old one in the text. What comes out is read again, and given back only
if it says exactly what was wanted.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pipeline.config.yaml.text import Document, Node, NotYamlError, parsed
from pipeline.config.yaml.write import STEP, flow, indented, node_in_brackets, node_in_lines, same, scalar

ROUNDS = 40
"""How often the text is read again: added keys and what aliases shared follow one after the other."""
COMMENT = re.compile(r"(?:^|(?<=\s))#[^\r\n]*", re.MULTILINE)
REST_OF_LINE = re.compile(r"[ \t]*(#[^\r\n]*)?(?=[\r\n]|$)")
ANCHOR = re.compile(r"&[^\s,\[\]{}]+\s*")

Path = tuple[str, ...]


class Edit(NamedTuple):
    """New text in the place of `text[start:end]`."""

    start: int
    end: int
    text: str


def rewritten(text: str, wanted: dict[str, Any], styles: Sequence[Document] = ()) -> str:
    r"""The text with other values, its comments kept.

    Parameters
    ----------
    text
        YAML of a mapping.
    wanted
        What the new text is to say.
    styles
        Documents that new values came from, in order: they are written as there, in lines or in brackets.

    Raises
    ------
    NotYamlError
        The text is written in a way that cannot be changed.

    Examples
    --------
    >>> rewritten("a: # why\n  - 1\n  - 2\nb: {c: 1} # and\n", {"a": [3], "b": {"c": 1, "d": "x"}})
    'a: [3] # why\nb: {c: 1, d: x} # and\n'
    """
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    body = text.removeprefix(mark)
    try:
        return mark + _Writer(wanted, styles).write(body)
    except NotYamlError:  # an anchor may have gone that was still in use
        return mark + _Writer(wanted, styles).write(_without_aliases(body))


class _Writer:
    """What is wanted, and how its parts are written."""

    def __init__(self, wanted: dict[str, Any], styles: Sequence[Document]) -> None:
        self.wanted = wanted
        self.styles = [one for one in styles if one.node is not None]
        self.text = ""

    def write(self, text: str) -> str:
        """Edit until the text says what is wanted."""
        for _ in range(ROUNDS):
            document = parsed(text)
            if same(document.values, self.wanted):
                return text
            if document.node is None:
                return self.lines("", "", self.wanted, ())
            self.text = text
            edits = self.mapping(document.node, document.values, self.wanted, ())
            if not edits:
                break
            for edit in sorted(edits, reverse=True):
                text = text[: edit.start] + edit.text + text[edit.end :]
        raise NotYamlError("it is written in a way that cannot be changed without harm: change it by hand")

    def mapping(self, node: Node, now: Any, wanted: Any, path: Path) -> list[Edit] | None:
        """The edits within a mapping; None where it has to be written anew."""
        if node.kind != "map" or not node.items or not (isinstance(now, dict) and isinstance(wanted, dict)):
            return None
        if not now.keys() <= wanted.keys():
            return None
        places = {key.text: (key, value) for key, value in node.pairs}
        edits: list[Edit] = []
        for name, value in wanted.items():
            if name in now and name in places and not same(now[name], value):
                edits += self.entry(node, *places[name], now[name], value, (*path, name))
        if edits:
            return edits
        return [
            self.added(node, name, value, (*path, name))
            for name, value in wanted.items()
            if name not in places and not (name in now and same(now[name], value))
        ][:1]

    def entry(self, parent: Node, key: Node, node: Node, now: Any, wanted: Any, path: Path) -> list[Edit]:
        """The edits that give a key another value."""
        inner = self.mapping(node, now, wanted, path)
        if inner is None:
            inner = self.listing(node, now, wanted, path)
        return [self.replaced(parent, key, node, wanted, path)] if inner is None else inner

    def listing(self, node: Node, now: Any, wanted: Any, path: Path) -> list[Edit] | None:
        """The edits within a list of the same length; None where it has to be written anew."""
        if node.kind != "list" or not (isinstance(now, list) and isinstance(wanted, list)):
            return None
        if len(now) != len(wanted) or len(now) != len(node.items):
            return None
        edits: list[Edit] = []
        for item, old, new in zip(node.items, now, wanted, strict=True):
            if same(old, new):
                continue
            inner = self.mapping(item, old, new, (*path, "-"))
            if inner is None:
                if (
                    isinstance(new, dict | list)
                    or item.kind not in ("scalar", "alias")
                    or item.style in ("|", ">")
                ):
                    return None
                gap = " " if item.start == item.end else ""
                inner = [Edit(self.inside(item), item.end, gap + flow(new))]
            edits += inner
        return edits

    def replaced(self, parent: Node, key: Node, node: Node, wanted: Any, path: Path) -> Edit:
        """A key's value written anew; comments among the old one's lines go to its key."""
        text, last = self.text, node.end
        between = text[key.end : node.start]
        colon = key.end + between.find(":") + 1 if ":" in between else None
        one_line = self.bracketed(wanted, path)
        if colon is None:  # a key alone, as in {a}
            return Edit(key.end, last, f": {one_line}")
        if parent.flow:
            said = [f"{comment}\n " for comment in self.comments(node.start, last, node)]
            gap = " " if node.start == node.end else ""
            return Edit(self.inside(node), last, gap + " ".join([one_line, *said]))
        block = self.blocked(wanted, path)
        if block is None and not re.search(r"[\r\n]", text[colon:last]):
            gap = " " if node.start == node.end else ""
            return Edit(self.inside(node), last, gap + one_line)
        rest = REST_OF_LINE.match(text, last)
        end = rest.end() if rest else last
        comments = self.comments(colon, end, node)
        anchor = "" if node.anchor is None else f" &{node.anchor}"
        head = f"{anchor} {one_line}" if block is None else anchor
        head = " ".join([head, *comments])
        if block is None:
            return Edit(colon, end, head)
        indent = self.column(key) + STEP
        return Edit(colon, end, head + self.newline + self.newline.join(indented(block, indent)))

    def added(self, node: Node, name: str, value: Any, path: Path) -> Edit:
        """A key that a mapping lacks, after its last one."""
        last = node.items[-1].end
        if node.flow:
            return Edit(last, last, f", {scalar(name)}: {self.bracketed(value, path)}")
        rest = REST_OF_LINE.match(self.text, last)
        last = rest.end() if rest else last
        indent = " " * self.column(node.items[0])
        return Edit(last, last, self.newline + self.lines(indent, name, value, path))

    def lines(self, indent: str, name: str, value: Any, path: Path) -> str:
        """A key and its value, as lines."""
        if not path:
            return "".join(self.lines("", key, inner, (key,)) + "\n" for key, inner in value.items())
        block = self.blocked(value, path)
        if block is None:
            return f"{indent}{scalar(name)}: {self.bracketed(value, path)}"
        inner = indented(block, len(indent) + STEP)
        return self.newline.join([f"{indent}{scalar(name)}:", *inner])

    def source(self, wanted: Any, path: Path) -> Node | None:
        """The place in a document of `styles` that a value was taken from."""
        for document in reversed(self.styles):
            node, values = document.node, document.values
            for name in path:
                found = {key.text: value for key, value in node.pairs} if node and node.kind == "map" else {}
                node = found.get(name)
                values = values.get(name) if isinstance(values, dict) else None
            if node is not None and same(values, wanted):
                return node.target if node.kind == "alias" else node
        return None

    def bracketed(self, wanted: Any, path: Path) -> str:
        """A value on one line, its numbers written as in its source."""
        source = self.source(wanted, path)
        return flow(wanted) if source is None else node_in_brackets(source)

    def blocked(self, wanted: Any, path: Path) -> list[str] | None:
        """A value as lines, where its source has lines too."""
        source = self.source(wanted, path)
        if source is None or source.kind not in ("map", "list") or source.flow or not source.items:
            return None
        return node_in_lines(source)

    def inside(self, node: Node) -> int:
        """Where a value begins, behind its anchor."""
        found = ANCHOR.match(self.text, node.start) if node.anchor is not None else None
        return node.start if found is None else min(found.end(), node.end)

    def comments(self, start: int, end: int, node: Node) -> list[str]:
        """The comments in a part of the text that holds one value."""
        part = list(self.text[start:end])
        for leaf in _leaves(node):
            first = leaf.start
            if leaf.style in ("|", ">"):  # its first line may have a comment
                first += len(self.text[leaf.start : leaf.end].split("\n")[0])
            for place in range(max(first, start), min(leaf.end, end)):
                part[place - start] = part[place - start] if part[place - start] in "\r\n" else "x"
        return [found.group().rstrip() for found in COMMENT.finditer("".join(part))]

    def column(self, key: Node) -> int:
        """How far a key stands from the beginning of its line."""
        return key.start - 1 - max(self.text.rfind("\n", 0, key.start), self.text.rfind("\r", 0, key.start))

    @property
    def newline(self) -> str:
        """How lines of the text end."""
        return "\r\n" if "\r\n" in self.text else "\n"


def _leaves(node: Node) -> Iterator[Node]:
    if node.kind in ("scalar", "alias"):
        yield node
    for item in node.items:
        yield from _leaves(item)


def _without_aliases(text: str) -> str:
    """The text with what each alias stands for in its place."""
    document = parsed(text)
    if document.node is None:
        return text
    aliases = [leaf for leaf in _leaves(document.node) if leaf.kind == "alias"]
    for leaf in sorted(aliases, key=lambda one: one.start, reverse=True):
        text = text[: leaf.start] + node_in_brackets(leaf) + text[leaf.end :]
    return text
