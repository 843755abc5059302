"""Names to factories: what every `build(name, **settings)` looks its name up in."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar

from pipeline.core.errors import UserError

T = TypeVar("T")


class Registry(Generic[T]):
    """A table of names and the dotted places of their factories.

    Places are text (`"pipeline.encoders.facenet:FaceNet"`) and imported on first use, so that
    naming an encoder costs nothing until somebody builds it. Adding one is a new file and one line.

    Parameters
    ----------
    kind
        What messages call them.
    places
        By name.
    given
        Settings that `build` is handed by code of ours, never by a user.

    Examples
    --------
    >>> shapes = Registry("shape", {"counter": "collections:Counter"})
    >>> shapes.build("counter", a=2)
    Counter({'a': 2})
    >>> shapes.build("circle")
    Traceback (most recent call last):
        ...
    pipeline.core.errors.UserError: unknown shape 'circle': choose one of counter
    >>> Registry("average", {"mean": "statistics:mean"}).build("mean")
    Traceback (most recent call last):
        ...
    pipeline.core.errors.UserError: average 'mean' needs the setting 'data'
    """

    def __init__(self, kind: str, places: Mapping[str, str], given: Collection[str] = ()) -> None:
        self.kind = kind
        self.places = dict(places)
        self.given = frozenset(given)

    def names(self) -> tuple[str, ...]:
        """Every registered name, in the order of registration."""
        return tuple(self.places)

    def known(self, name: str) -> str:
        """The name itself, if something is registered under it; nothing is imported."""
        if name not in self.places:
            raise UserError(f"unknown {self.kind} {name!r}: choose one of {', '.join(self.places)}")
        return name

    def factory(self, name: str) -> Callable[..., T]:
        """The class or function behind a name, imported now."""
        module, _, attribute = self.places[self.known(name)].partition(":")
        factory: Callable[..., T] = getattr(import_module(module), attribute)
        return factory

    def settings(self, name: str) -> list[str]:
        """The names of the settings that a factory takes."""
        parameters = inspect.signature(self.factory(name)).parameters.values()
        return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]

    def build(self, name: str, **settings: Any) -> T:
        """Build what is registered under a name; a setting that is unknown or missing is named."""
        self.check(name, [key for key in settings if key not in self.given])
        factory = self.factory(name)
        for one in inspect.signature(factory).parameters.values():
            needed = one.default is one.empty and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
            if needed and one.name not in settings and one.name not in self.given:
                raise UserError(f"{self.kind} {name!r} needs the setting {one.name!r}")
        return factory(**settings)

    def check(self, name: str, settings: Iterable[str]) -> None:
        """Refuse a user's setting that a factory does not take; its module is imported."""
        parameters = inspect.signature(self.factory(name)).parameters.values()
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            return
        allowed = [key for key in self.settings(name) if key not in self.given]
        unknown = [key for key in settings if key not in allowed]
        if unknown:
            raise UserError(
                f"{self.kind} {name!r} has no setting {unknown[0]!r}: it takes {', '.join(allowed) or 'none'}"
            )
