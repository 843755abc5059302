"""Values as YAML text: in brackets, or in lines as where they come from."""

import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.config.yaml.text import Node

STEP = 2
"""Columns by which a block is indented."""
YAML_1_1 = re.compile(r"y|n|yes|no|on|off|[-+.\d][\d_.]*", re.IGNORECASE)
"""Text that other programs, which read YAML 1.1, take for something else."""


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal in type too.

    Examples
    --------
    >>> same({"a": [1]}, {"a": [1]}), same(1, 1.0), same(1, True)
    (True, False, False)
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def indented(lines: list[str], columns: int) -> list[str]:
    """Lines, moved to the right."""
    return [" " * columns + line for line in lines]


def scalar(value: Any) -> str:
    """A scalar as YAML that every reader takes for the same value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        found = repr(value)
        return found.replace("e", ".0e") if "e" in found and "." not in found else found
    if not isinstance(value, str):
        return str(value)
    if re.fullmatch(r"[\w./\\+-]([\w./\\+ -]*[\w./\\+-])?", value, re.ASCII):
        try:
            if not YAML_1_1.fullmatch(value) and same(
                YAML(typ="safe", pure=True).load(f"[{value}]"), [value]
            ):
                return value
        except (YAMLError, ValueError):
            pass
    return f'"{"".join(map(_escaped, value))}"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    return char if char.isprintable() else f"\\U{ord(char):08x}"


def flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{scalar(key)}: {flow(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(flow, value))}]"
    return scalar(value)


def _node_scalar(node: Node) -> str:
    """A scalar as it stood in its source, if that is one word or number."""
    if node.style is None:
        return node.text if re.fullmatch(r"[\w.+-]+", node.text, re.ASCII) else _plain_text(node.text)
    return scalar(node.text)


def _plain_text(text: str) -> str:
    """A plain scalar of several words: text, unless it is nothing."""
    return "null" if text in ("", "~") else scalar(text)


def node_in_brackets(node: Node) -> str:
    """A node on one line."""
    if node.kind == "alias" and node.target is not None:
        return node_in_brackets(node.target)
    if node.kind == "map":
        return f"{{{', '.join(f'{_node_scalar(key)}: {node_in_brackets(one)}' for key, one in node.pairs)}}}"
    if node.kind == "list":
        return f"[{', '.join(map(node_in_brackets, node.items))}]"
    return _node_scalar(node)


def node_in_lines(node: Node) -> list[str]:
    """A node as lines, what stands in brackets left there."""
    if node.kind == "alias" and node.target is not None:
        return node_in_lines(node.target)
    if node.flow or not node.items:
        return [node_in_brackets(node)]
    lines = []
    if node.kind == "list":
        for item in node.items:
            first, *rest = node_in_lines(item)
            lines += [f"- {first}", *indented(rest, STEP)]
        return lines
    for key, value in node.pairs:
        inner = node_in_lines(value)
        name = f"{_node_scalar(key)}:"
        stands = value.target if value.kind == "alias" else value
        if stands is not None and stands.items and not stands.flow:
            lines += [name, *indented(inner, STEP)]
        else:
            lines.append(f"{name} {inner[0]}")
    return lines
