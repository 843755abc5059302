"""The source code of this package: results that are kept to go on from belong to the code that made them."""

from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


@cache
def source_of(*places: str, package: Path = PACKAGE) -> bytes:
    """The text of modules (`cnn/fit`) and of whole packages (`cnn`), one after the other.

    It is read once: code that is edited while a process runs is not what the process runs.

    Examples
    --------
    >>> source_of("core/seeds") in source_of("core/bins", "core/seeds")
    True
    >>> source_of("losses/base") in source_of("losses")
    True
    """
    found = [package / f"{place}.py" for place in places]
    files = [[file] if file.is_file() else sorted(file.with_suffix("").rglob("*.py")) for file in found]
    missing = [place for place, some in zip(places, files, strict=True) if not some]
    if missing:
        raise FileNotFoundError(f"{package} has no module or package {missing[0]}")
    return b"".join(file.read_bytes() for some in files for file in some)
