"""The pickle instructions that a DataFrame is made of, followed without calling anything."""

import io
import pickletools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

# Exactly what pandas (0.25 to 3.x), NumPy (1.x and 2.x) and pyarrow write for such a frame. A name that is
# not here is refused where it occurs; a name that is here is noted down and never imported.
ALLOWED: Final = frozenset(
    [
        ("builtins", "bytearray"),
        ("builtins", "bytes"),
        ("builtins", "slice"),
        ("__builtin__", "bytearray"),
        ("__builtin__", "bytes"),
        ("__builtin__", "slice"),
        ("_codecs", "encode"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.numeric", "_frombuffer"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.numeric", "_frombuffer"),
        ("pandas", "DataFrame"),
        ("pandas", "Index"),
        ("pandas", "RangeIndex"),
        ("pandas", "StringDtype"),
        ("pandas._libs.internals", "_unpickle_block"),
        ("pandas.arrays", "ArrowStringArray"),
        ("pandas.core.arrays.string_", "StringDtype"),
        ("pandas.core.arrays.string_arrow", "ArrowStringArray"),
        ("pandas.core.arrays.string_arrow", "ArrowStringArrayNumpySemantics"),
        ("pandas.core.frame", "DataFrame"),
        ("pandas.core.indexes.base", "Index"),
        ("pandas.core.indexes.base", "_new_Index"),
        ("pandas.core.indexes.numeric", "Float64Index"),
        ("pandas.core.indexes.numeric", "Int64Index"),
        ("pandas.core.indexes.numeric", "UInt64Index"),
        ("pandas.core.indexes.range", "RangeIndex"),
        ("pandas.core.internals.managers", "BlockManager"),
        ("pyarrow.lib", "_restore_array"),
        ("pyarrow.lib", "py_buffer"),
        ("pyarrow.lib", "type_for_alias"),
    ]
)
CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
# Instructions whose argument is the value: numbers, text and bytes.
VALUES: Final = frozenset(
    ["BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"]
    + ["BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"]
)
TUPLES: Final = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
FLOAT_BYTES: Final = 9
RUN: Final = 4096


class Refused(Exception):
    """The pickle holds something that a table of vectors does not need."""


@dataclass(frozen=True, slots=True)
class Name:
    """A global that the pickle names; never imported."""

    name: str


@dataclass(slots=True, eq=False)
class Call:
    """A call that the pickle asks for, noted down and not made."""

    name: str
    arguments: tuple[Any, ...]
    state: Any = None


class Mark:
    """Where a list's, tuple's or dictionary's items begin on the stack."""


MARK: Final = Mark()


def decode(data: bytes) -> object:
    """Follow a pickle's instructions to a tree of scalars, lists, tuples, dictionaries and `Call` notes.

    Raises
    ------
    Refused
        An instruction or a name that a DataFrame does not need.
    ValueError, TypeError, IndexError, KeyError, OverflowError
        A damaged pickle.
    """
    stream = io.BytesIO(data)
    numbers = np.frombuffer(data, np.uint8)
    machine = Machine(spare=len(data))
    stack, memo = machine.stack, machine.memo
    argument: Any
    for opcode, argument, position in pickletools.genops(stream):
        name = opcode.name
        machine.position = position or 0
        if name == "BINFLOAT":
            stack.append(argument)
            # Vectors are long runs of floats: take them at once. genops goes on where the stream stands.
            start = stream.tell()
            run = float_run(numbers[start : start + RUN * FLOAT_BYTES])
            stack.extend(run)
            stream.seek(start + len(run) * FLOAT_BYTES)
        elif name in VALUES:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in TUPLES:
            stack.append(machine.take(TUPLES[name]))
        elif name == "MARK":
            stack.append(MARK)
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            machine.name(*argument.split(" ", 1))
        elif name in STEPS:
            STEPS[name](machine)
        elif name == "STOP":
            (value,) = machine.take(1)
            return value
        elif name not in ("PROTO", "FRAME"):
            raise machine.refusal(f"the instruction {name} does not occur in a pickled DataFrame")
    raise ValueError("the pickle has no end")


def float_run(ahead: np.ndarray[Any, np.dtype[np.uint8]]) -> list[float]:
    """The floats of the BINFLOAT instructions that directly follow one another."""
    rows = ahead[: len(ahead) // FLOAT_BYTES * FLOAT_BYTES].reshape(-1, FLOAT_BYTES)
    other = np.flatnonzero(rows[:, 0] != ord("G"))
    rows = rows[: other[0]] if other.size else rows
    floats: list[float] = rows[:, 1:].copy().view(">f8").ravel().tolist()
    return floats


@dataclass(slots=True)
class Machine:
    """The stack and memo of a pickle, and the instructions that work on them.

    `spare` is how many bytes may still be made of others: no more than the file has, so that a small file
    cannot ask for a large memory by using the same bytes again and again.
    """

    spare: int
    position: int = 0
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def refusal(self, problem: str) -> Refused:
        """What is wrong, with the byte it is wrong at."""
        return Refused(f"byte {self.position}: {problem}")

    def take(self, count: int) -> tuple[Any, ...]:
        """Pop the topmost values."""
        start = len(self.stack) - count
        taken = tuple(self.stack[max(start, 0) :])
        if start < 0 or any(value is MARK for value in taken):
            raise IndexError("the stack is too short")
        del self.stack[start:]
        return taken

    def to_mark(self) -> list[Any]:
        """Pop the values above the topmost mark, and the mark."""
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise IndexError("there is no mark")

    def name(self, module: object, name: object) -> None:
        """Push a named global, if it is on the list."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise self.refusal("it asks for something whose name is not text")
        if (module, name) not in ALLOWED:
            raise self.refusal(
                f"it asks for {f'{module}.{name}':.80}, which a table of vectors does not need"
            )
        self.stack.append(Name(name))

    def stack_name(self) -> None:
        """Push the global whose module and name are on the stack."""
        self.name(*self.take(2))

    def make_tuple(self) -> None:
        """Make a tuple of everything above the mark."""
        self.stack.append(tuple(self.to_mark()))

    def make_list(self) -> None:
        """Push an empty list."""
        self.stack.append([])

    def make_dict(self) -> None:
        """Push an empty dictionary."""
        self.stack.append({})

    def append(self) -> None:
        """Append one value to a list."""
        self.grow(self.take(1))

    def extend(self) -> None:
        """Append everything above the mark to a list."""
        self.grow(self.to_mark())

    def grow(self, items: Sequence[Any]) -> None:
        """Append values to what is on top of the stack, which must be a list."""
        if not isinstance(self.stack[-1], list):
            raise self.refusal("it appends to something that is not a list")
        self.stack[-1].extend(items)

    def set_item(self) -> None:
        """Put one pair in a dictionary."""
        self.fill(self.take(2))

    def set_items(self) -> None:
        """Put the pairs above the mark in a dictionary."""
        self.fill(self.to_mark())

    def fill(self, items: Sequence[Any]) -> None:
        """Put pairs in what is on top of the stack, a dictionary; keys are text, whose hash is harmless."""
        if not isinstance(self.stack[-1], dict) or len(items) % 2:
            raise self.refusal("it sets items of something that is not a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                raise self.refusal("a dictionary's key is not text")
            self.stack[-1][key] = value

    def call(self) -> None:
        """Note down a call. Only text to bytes and bytes to bytes are done at once, and not by the file."""
        function, arguments = self.take(2)
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise self.refusal("it calls something that is not a name")
        if function.name == "encode":
            self.stack.append(self.encoded(*arguments))
        elif function.name in ("bytes", "bytearray"):
            # Nothing but bytes: bytes(10**12) would be a terabyte of zeros.
            content = arguments[0] if arguments else b""
            if not isinstance(content, bytes | bytearray):
                raise self.refusal("it makes bytes of something other than bytes")
            self.stack.append(content)
        else:
            self.stack.append(Call(function.name, arguments))

    def encoded(self, text: object, encoding: object) -> bytes:
        """Bytes that old protocols write as text."""
        if not isinstance(text, str) or encoding != "latin1":
            raise self.refusal("it encodes something other than bytes")
        self.spare -= len(text)
        if self.spare < 0:
            raise self.refusal("it makes more bytes than the file has")
        return text.encode("latin1")

    def build(self) -> None:
        """Note down the state of what a call would have made, once."""
        (state,) = self.take(1)
        if not isinstance(self.stack[-1], Call) or self.stack[-1].state is not None:
            raise self.refusal("it sets the state of something that has none")
        self.stack[-1].state = state


STEPS: Final[dict[str, Callable[[Machine], None]]] = {
    "STACK_GLOBAL": Machine.stack_name,
    "TUPLE": Machine.make_tuple,
    "EMPTY_LIST": Machine.make_list,
    "EMPTY_DICT": Machine.make_dict,
    "APPEND": Machine.append,
    "APPENDS": Machine.extend,
    "SETITEM": Machine.set_item,
    "SETITEMS": Machine.set_items,
    "REDUCE": Machine.call,
    "NEWOBJ": Machine.call,
    "BUILD": Machine.build,
}
