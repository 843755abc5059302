"""Who is drawn, how old and in what moment: the numbers behind each picture of the rendered sample.

Lengths are in half face widths, measured from the point between the eyes, y downwards. Their course
with age follows craniofacial growth: the cranium is nearly full-grown at birth, the face below the eyes
is not, so with age the eyes climb from low on the head to its middle, and nose, jaw and chin lengthen.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.core.seeds import derive_seed

AGES = range(1, 19)
GENDERS = ("female", "male")
SKIN_TONES = ("I", "II", "III", "IV", "V", "VI")
CONDITIONS = ("normal", "dark", "blurred", "small", "covered", "no_face", "two_faces")

Array = npt.NDArray[np.float32]
Colour = tuple[float, float, float]

SKINS: dict[str, Colour] = {
    "I": (241, 207, 189),
    "II": (234, 192, 166),
    "III": (224, 176, 144),
    "IV": (198, 145, 108),
    "V": (156, 106, 76),
    "VI": (112, 74, 54),
}
LIGHT_HAIR: tuple[Colour, ...] = ((214, 178, 120), (176, 132, 84), (168, 86, 46), (120, 82, 54), (78, 54, 40))
DARK_HAIR: tuple[Colour, ...] = ((70, 48, 36), (46, 34, 30), (34, 28, 30))
LIGHT_EYES: tuple[Colour, ...] = (
    (86, 122, 158),
    (96, 128, 108),
    (112, 132, 140),
    (104, 74, 46),
    (82, 54, 34),
)
DARK_EYES: tuple[Colour, ...] = ((70, 44, 28), (56, 36, 26), (44, 30, 24))
CLOTHES: tuple[Colour, ...] = (
    (196, 72, 66),
    (226, 168, 72),
    (88, 142, 104),
    (74, 118, 170),
    (128, 98, 160),
    (232, 226, 214),
    (70, 78, 96),
    (222, 140, 150),
)
WALLS: tuple[Colour, ...] = (
    (206, 190, 168),
    (176, 190, 204),
    (150, 170, 140),
    (196, 176, 184),
    (120, 130, 144),
)
HAIR_STYLES = {
    "female": ("bob", "long", "long", "pigtails", "ponytail", "curly"),
    "male": ("short", "short", "crop", "curly"),
}


@dataclass(frozen=True)
class FaceSpecification:
    """Everything that decides one picture; equal specifications give equal bytes.

    Attributes
    ----------
    name
        The file name, which also carries the settings of the folder.
    age, subject, gender, skin_tone, condition
        The labels: years (1-18), who it is, and the group columns. Skin tones are Fitzpatrick's types.
    subject_seed, picture_seed
        What the person, and this picture of the person, are drawn from.
    """

    name: str
    age: int
    subject: str
    gender: str
    skin_tone: str
    condition: str
    subject_seed: int
    picture_seed: int


@dataclass(frozen=True)
class Person:
    """What stays with a subject at every age."""

    male: bool
    skin: Colour
    hair: Colour
    eyes: Colour
    style: str
    fringe: bool
    parting: float
    freckles: bool
    maturity: float
    shape: tuple[float, ...]


@dataclass(frozen=True)
class Moment:
    """What belongs to one picture: pose (degrees, pixels), expression and light."""

    roll: float
    yaw: float
    pitch: float
    scale: float
    x: float
    y: float
    smile: float
    mouth_open: float
    gaze: float
    blink: float
    light: tuple[float, float, float]
    key: Colour
    ambient: Colour
    clothes: Colour

    @property
    def glow(self) -> Array:
        """The light (3,) on a surface that faces the viewer."""
        return np.asarray(self.key, np.float32) * np.float32(0.6) + np.asarray(self.ambient, np.float32)


@dataclass(frozen=True)
class Proportions:
    """A head's measures at one age, in half face widths from the point between the eyes."""

    maturity: float
    top: float
    chin: float
    forehead: float
    cheek: float
    jaw: float
    chin_width: float
    eye_x: float
    eye_width: float
    eye_height: float
    iris: float
    brow_y: float
    brow_thickness: float
    nose: float
    nose_width: float
    mouth: float
    mouth_width: float
    lips: float
    neck: float
    hairline: float

    @property
    def eye_line(self) -> float:
        """How far down the head the eyes are: 0 at the crown, 1 at the chin."""
        return self.top / (self.top + self.chin)


def person_of(specification: FaceSpecification) -> Person:
    """The subject of a picture, the same in all of the subject's pictures."""
    rng = np.random.default_rng(derive_seed(specification.subject_seed, "person"))
    fair = specification.skin_tone in ("I", "II", "III")
    hairs, eyes = (LIGHT_HAIR, LIGHT_EYES) if fair else (DARK_HAIR, DARK_EYES)
    male = specification.gender == "male"
    pale = rng.normal(0, 4)
    red, green, blue = (v + pale + rng.normal(0, 2) for v in SKINS[specification.skin_tone])
    return Person(
        male=male,
        skin=(red, green, blue),
        hair=hairs[rng.integers(len(hairs))],
        eyes=eyes[rng.integers(len(eyes))],
        style=str(rng.choice(HAIR_STYLES[specification.gender])),
        fringe=bool(rng.random() < (0.4 if male else 0.5)),
        parting=float(rng.choice((-1, 1)) * rng.uniform(0.1, 0.5)),
        freckles=bool(specification.skin_tone in ("I", "II") and rng.random() < 0.4),
        maturity=float(np.clip(rng.normal(0, 0.7), -1.5, 1.5)),
        shape=tuple(float(v) for v in np.clip(rng.normal(0, 1, 12), -2, 2)),
    )


def moment_of(specification: FaceSpecification) -> Moment:
    """The pose, expression and light of a picture."""
    rng = np.random.default_rng(derive_seed(specification.picture_seed, "moment"))
    azimuth, elevation = np.radians(rng.uniform(-45, 45)), np.radians(rng.uniform(15, 50))
    warmth, brightness = rng.uniform(-0.06, 0.08), rng.uniform(0.80, 1.15)
    smile = float(rng.beta(1.2, 1.2))
    return Moment(
        roll=float(np.clip(rng.normal(0, 4), -9, 9)),
        yaw=float(np.clip(rng.normal(0, 6), -13, 13)),
        pitch=float(np.clip(rng.normal(0, 3), -6, 6)),
        scale=float(rng.uniform(0.94, 1.06)),
        x=float(rng.uniform(-10, 10)),
        y=float(rng.uniform(-5, 7)),
        smile=smile,
        mouth_open=float(max(0.0, smile - 0.45) * rng.uniform(0.4, 1.6)),
        gaze=float(np.clip(rng.normal(0, 0.25), -0.5, 0.5)),
        blink=float(rng.uniform(0, 0.2)),
        light=(
            float(np.sin(azimuth) * np.cos(elevation)),
            float(-np.sin(elevation)),
            float(np.cos(azimuth) * np.cos(elevation)),
        ),
        key=(brightness * (0.80 + warmth), brightness * 0.78, brightness * (0.76 - warmth)),
        ambient=(brightness * (0.26 - warmth / 2), brightness * 0.26, brightness * (0.27 + warmth / 2)),
        clothes=CLOTHES[rng.integers(len(CLOTHES))],
    )


def proportions(person: Person, age: float) -> Proportions:
    """The measures of a person's head at an age in years.

    Examples
    --------
    >>> specification = FaceSpecification("x.jpg", 2, "s", "female", "II", "normal", 1, 2)
    >>> toddler, youth = (proportions(person_of(specification), age) for age in (2, 17))
    >>> toddler.eye_line > youth.eye_line and toddler.nose < youth.nose
    True
    """
    # Growth is fast at first, and puberty adds to the lower face, in boys later and more.
    years = float(np.clip(age + person.maturity, 0.5, 19.0))
    grown = float(((years - 0.5) / 18.5) ** 0.8)
    puberty = float(1 / (1 + np.exp(-(years - (14.0 if person.male else 12.5)) / 1.3)))
    mannish = puberty if person.male else 0.0
    shape = person.shape

    def between(child: float, adult: float, spread: float, which: int) -> float:
        return (child + (adult - child) * grown) * (1 + spread * shape[which])

    nose = between(0.37, 0.67, 0.04, 0) + 0.04 * mannish
    chin = between(1.20, 1.62, 0.02, 1) + 0.10 * mannish
    return Proportions(
        maturity=years,
        top=between(1.88, 1.55, 0.015, 2),
        chin=chin,
        forehead=between(1.07, 0.93, 0.012, 3),
        cheek=between(1.03, 0.94, 0.012, 4),
        jaw=between(0.87, 0.70, 0.03, 5) + 0.08 * mannish,
        chin_width=between(0.40, 0.30, 0.06, 6) + 0.07 * mannish,
        eye_x=between(0.47, 0.44, 0.025, 7),
        eye_width=between(0.280, 0.208, 0.03, 8),
        eye_height=between(0.172, 0.088, 0.06, 9),
        iris=between(0.134, 0.088, 0.02, 9),
        brow_y=between(0.42, 0.32, 0.05, 10) - 0.06 * mannish,
        brow_thickness=between(0.035, 0.060, 0.12, 11) + 0.030 * mannish,
        nose=nose,
        nose_width=between(0.215, 0.235, 0.05, 3) + 0.025 * mannish,
        mouth=nose + (chin - nose) * 0.385,
        mouth_width=between(0.26, 0.38, 0.04, 0),
        lips=between(0.080, 0.105, 0.10, 4),
        neck=between(0.42, 0.50, 0.03, 5) + 0.10 * mannish,
        hairline=between(1.28, 0.96, 0.03, 10),
    )
