"""vec2age: labelled face photographs in, a regression model with an honest error out."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("vec2age")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0+unknown"
