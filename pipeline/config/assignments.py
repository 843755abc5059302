"""Single values from the command line, `data.root=photos #2`: the setting's type says how the text is read.

Text is text, whatever YAML would make of it: a hash, a colon, `yes` or `123`. A list of names holds texts.
Anything else is read as YAML, and never in part: where YAML would pass over the rest as a comment, the whole
is taken for text, which a number's setting then refuses.
"""

import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from pipeline.config.yaml.text import NotYamlError, parsed
from pipeline.core.credentials import masked
from pipeline.core.errors import UserError

LONGEST = 200
"""Characters of an assignment that a message repeats."""
NOTHING = ("null", "~")


def parse_assignment(text: str, root: type[BaseModel]) -> tuple[list[str], Any]:
    """`a.b=1` as `(["a", "b"], 1)`, by the types of a model's settings."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {shown(text)} is not an assignment: write --set key.in.params=value")
    path = key.strip().split(".")
    try:
        return path, read(value, list(alternatives(annotation_at(path, root))))
    except NotYamlError as error:
        raise UserError(f"--set {shown(text)}: the value is not YAML: {error}") from None


def shown(text: str) -> str:
    """An assignment as a message repeats it."""
    told = masked(text)  # before a cut that could leave no credential to be seen, but most of one
    return repr(told if len(told) <= LONGEST else f"{told[:LONGEST]}...")


def read(text: str, kinds: Sequence[Any]) -> Any:
    """A value of one of some types; nothing, where nothing is given.

    Examples
    --------
    >>> read("/x/photos #2", [str]), read("1e3", [str]), read("1e3", [float])
    ('/x/photos #2', '1e3', 1000.0)
    >>> read("[1, yes]", [list[str]]), read("null", [str, type(None)])
    (['1', 'yes'], None)
    """
    if not text.strip(" "):
        return None
    given = [kind for kind in kinds if kind is not type(None)]
    if len(given) < len(kinds) and text.strip(" ") in NOTHING:
        return None
    if given and all(map(is_text, given)):
        return text
    document = parsed(text)
    node = document.node
    if node is None or (document.text[node.end :].strip() and (node.flow or node.kind == "scalar")):
        return text  # the rest would be lost as a comment
    if isinstance(document.values, str) and node.style is None:
        return text
    if given and all(is_texts(kind) for kind in given) and node.kind == "list":
        items = [item.target or item for item in node.items]
        if all(item.kind == "scalar" for item in items):
            return [item.text for item in items]
    return document.values


def annotation_at(path: Sequence[str], root: type[BaseModel]) -> Any:
    """The type of a setting; `Any` where the model leaves it open."""
    found: Any = root
    for part in path:
        inner: Any = Any
        for kind in alternatives(found):
            if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
                inner = kind.model_fields[part].annotation
            elif get_origin(kind) is dict:
                inner = get_args(kind)[1]
        found = inner
    return found


def alternatives(annotation: Any) -> Iterator[Any]:
    """The types that a type allows, without what only restricts their values."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for one in get_args(annotation):
            yield from alternatives(one)
    else:
        yield annotation


def is_text(kind: Any) -> bool:
    """Whether a type takes nothing but text."""
    return kind is str or (
        get_origin(kind) is Literal and all(isinstance(one, str) for one in get_args(kind))
    )


def is_texts(kind: Any) -> bool:
    """Whether a type is a list of nothing but texts."""
    return get_origin(kind) is list and all(map(is_text, alternatives(get_args(kind)[0])))
