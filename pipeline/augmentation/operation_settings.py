"""The eight operations by name: Table 1's settings, and what each setting may be.

Apart from what draws them, so that a settings file is checked without loading that library.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pipeline.core.errors import UserError


@dataclass(frozen=True)
class Setting:
    """One setting: its value in Table 1, its range (both ends allowed), and whether it is a whole number."""

    usual: float
    low: float
    high: float
    whole: bool = False

    def allows(self, value: float) -> bool:
        """Whether a value lies in the range and is whole where it must be; NaN does not."""
        return self.low <= value <= self.high and (not self.whole or value == round(value))

    def __str__(self) -> str:
        return f"a {'whole ' * self.whole}number from {self.low:g} to {self.high:g}"


FACTORS = {"min_factor": Setting(2.0, 0, 100), "max_factor": Setting(2.0, 0, 100)}
DEGREES = Setting(25, 0, 25, whole=True)  # the library's own limit: beyond it, it cuts out too little
CELLS = Setting(10, 2, 32, whole=True)  # of one cell nothing moves, and a crop has 32 pixels or more

# A single factor of Table 1 is a range of one value here.
SETTINGS: Mapping[str, Mapping[str, Setting]] = MappingProxyType(
    {
        "flip": {},
        "brightness": FACTORS,
        "rotation": {"max_left": DEGREES, "max_right": DEGREES},
        "zoom": {"min_factor": Setting(2.0, 1, 10), "max_factor": Setting(2.0, 1, 10)},
        "distortion": {
            "grid_width": CELLS,
            "grid_height": CELLS,
            "magnitude": Setting(8, 0, 100, whole=True),
        },
        "colour": FACTORS,
        "contrast": {"min_factor": Setting(5.0, 0, 100), "max_factor": Setting(5.0, 0, 100)},
        # Of a side; the library draws between a tenth and this.
        "erasing": {"rectangle_area": Setting(0.2, 0.1, 1)},
    }
)


def complete(name: str, settings: Mapping[str, float]) -> dict[str, float]:
    """Check an operation's settings and give all of them, Table 1's where none is given.

    Parameters
    ----------
    name
        flip, brightness, rotation, zoom, distortion, colour, contrast or erasing.
    settings
        What differs from Table 1: factors, degrees, grid cells and pixels, or a share of the side.

    Returns
    -------
    dict
        Every setting of the operation; those that must be whole are `int`.

    Raises
    ------
    UserError
        For an unknown operation or setting or a value out of range, with what is allowed.

    Examples
    --------
    >>> complete("rotation", {"max_left": 10.0})
    {'max_left': 10, 'max_right': 25}
    """
    if name not in SETTINGS:
        raise UserError(f"unknown augmentation {name!r}: choose one of {', '.join(SETTINGS)}")
    known = SETTINGS[name]
    for key, value in settings.items():
        if key not in known:
            raise UserError(
                f"augmentation {name!r} has no setting {key!r}: it takes {', '.join(known) or 'none'}"
            )
        if not known[key].allows(value):
            raise UserError(f"augmentation {name!r} has {key} {value:g}: it must be {known[key]}")
    values = {key: settings.get(key, setting.usual) for key, setting in known.items()}
    if "min_factor" in values and values["min_factor"] > values["max_factor"]:
        raise UserError(
            f"augmentation {name!r} has min_factor {values['min_factor']:g} above max_factor "
            f"{values['max_factor']:g}: give both, in order"
        )
    return {key: int(value) if known[key].whole else value for key, value in values.items()}
