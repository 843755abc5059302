"""Hair for the rendered sample: what falls behind the head, and the cap with its hairline or fringe."""

import numpy as np

from pipeline.synthetic.canvas import (
    Array,
    Mask,
    Pose,
    both,
    curve,
    ellipse,
    linear,
    mirrored,
    moved,
    noise,
    paint,
    shade,
    within,
)
from pipeline.synthetic.traits import Colour, Person, Proportions

VOLUME = {
    "fuzz": 0.025,
    "crop": 0.05,
    "short": 0.13,
    "bob": 0.11,
    "long": 0.09,
    "pigtails": 0.06,
    "ponytail": 0.04,
    "curly": 0.26,
}
BURNS = {"fuzz": -0.45, "crop": -0.1, "short": 0.12, "curly": 0.15}
"""How far down the hair grows before the ears; level with them where a style is not named."""


def style_of(person: Person, p: Proportions) -> str:
    """How the hair is worn: what grows on a baby is the same for all, and long hair takes years."""
    if p.maturity < 2.4:
        return "fuzz"
    if p.maturity < 3.8 and person.style in ("long", "pigtails", "ponytail"):
        return "bob"
    return person.style


def strands(
    area: Mask, person: Person, p: Proportions, pose: Pose, rng: np.random.Generator, key: Colour
) -> Array:
    """Colours of hair that fans out from the parting, with a sheen across it."""
    u, v = pose.grid(area)
    if person.style == "curly":
        grain = 0.5 * noise(rng, 34, pose.size) + 0.4 * noise(rng, 60, pose.size)
        texture = grain[area.rows, area.columns]
    else:
        fan = (u - person.parting) / (0.5 + np.clip(v + p.top, 0, 1.7))
        waves = np.convolve(rng.standard_normal(460), [0.25, 0.5, 0.7, 0.5, 0.25], "same")
        place = np.clip(fan * 62 + 230 + 1.5 * np.sin(3 * v), 0, 459)
        texture = 0.8 * np.interp(place.ravel(), np.arange(460), waves).reshape(u.shape)
    sheen = np.exp(-(((np.hypot(u * 0.9, v + 0.35 * p.top) - 0.62 * p.top) / 0.16) ** 2))
    tone = 0.50 + 0.15 * texture + 0.28 * sheen * (1 + 0.25 * texture)
    light = np.asarray(key, np.float32) * np.float32(1 + 0.25 * max(0.0, 1 - p.maturity / 8))
    colours: Array = np.maximum(tone, 0.08)[..., None] * (linear(person.hair) * light)
    colours += (0.012 * sheen)[..., None] * light
    return colours


def back_hair(
    canvas: Array, person: Person, p: Proportions, pose: Pose, rng: np.random.Generator, key: Colour
) -> None:
    """Hair seen behind the face: long falls, pigtails, a bun."""
    style = style_of(person, p)
    top, shapes = p.top + VOLUME[style], []
    if style in ("bob", "long"):
        end = p.chin + (0.85 if style == "long" else -0.12)
        fall = [
            (0.0, -top),
            (0.9, -0.75 * top),
            (1.2, -0.2),
            (1.24, 0.5 * end),
            (1.16, end),
            (0.6, end + 0.06),
        ]
        shapes = [curve(mirrored([*fall, (0.0, end)]))]
    elif style == "pigtails":
        tail = curve([(0.9, -0.3), (1.25, -0.35), (1.5, 0.2), (1.42, 0.9), (1.2, 1.1), (1.15, 0.5)])
        shapes = list(both(tail))
    elif style == "ponytail":
        shapes = [ellipse(0.3 * person.parting, -top - 0.06, 0.42, 0.27)]
    if shapes:
        area = pose.mask(*shapes, blur=0.025, on_face=False)
        paint(canvas, area, 0.62 * strands(area, person, p, pose, rng, key))


def front_hair(
    canvas: Array,
    person: Person,
    p: Proportions,
    pose: Pose,
    rng: np.random.Generator,
    key: Colour,
    head: Mask,
) -> None:
    """The cap of hair over the skull, its shadow on the forehead, and locks beside the face."""
    style = style_of(person, p)
    outline = np.vstack([rim(style, p, rng), hem(style, person, p, rng)])
    shadow = within(pose.mask(moved(outline, 0.07), blur=0.06, on_face=False), head)
    shade(canvas, shadow, 0.62, 0.54, 0.52)
    soft = {"fuzz": 0.07, "crop": 0.03}.get(style, 0.014)
    cap = pose.mask(outline, blur=soft, on_face=False)
    paint(canvas, cap, strands(cap, person, p, pose, rng, key), 0.6 if style == "fuzz" else 1.0)
    if style in ("bob", "long"):
        area = pose.mask(*both(lock(style, p)), blur=0.02, on_face=False)
        paint(canvas, area, 0.92 * strands(area, person, p, pose, rng, key))
    elif style == "pigtails":
        bands = pose.mask(*both(ellipse(1.1, -0.28, 0.10, 0.12)), blur=0.012, on_face=False)
        paint(canvas, bands, linear((214, 84, 110)) * np.asarray(key, np.float32) * 0.8)


def rim(style: str, p: Proportions, rng: np.random.Generator) -> Array:
    """The outer line of the cap, from one temple over the crown to the other."""
    volume, burns = VOLUME[style], BURNS.get(style, 0.0)
    line = curve(
        [
            (1.0 + 0.3 * volume, burns),
            (1.03 + 0.9 * volume, -0.40),
            (0.97 * p.forehead + volume, -0.53 * p.top),
            (0.65 * p.forehead + 0.7 * volume, -0.89 * p.top - 0.7 * volume),
            (0.0, -p.top - volume),
            (-0.65 * p.forehead - 0.7 * volume, -0.89 * p.top - 0.7 * volume),
            (-0.97 * p.forehead - volume, -0.53 * p.top),
            (-1.03 - 0.9 * volume, -0.40),
            (-1.0 - 0.3 * volume, burns),
        ],
        False,
    )
    if style == "curly":
        turns = np.linspace(0, 2 * np.pi, len(line))
        waves = [np.sin(k * turns + rng.uniform(0, 2 * np.pi)) for k in (9, 14, 21)]
        line *= 1 + 0.018 * np.sum(waves, axis=0, dtype=np.float32).reshape(-1, 1)
    return line


def hem(style: str, person: Person, p: Proportions, rng: np.random.Generator) -> Array:
    """The inner line of the cap, back across the forehead: a hairline, or the edge of a fringe."""
    burns = BURNS.get(style, 0.0)
    fringe = person.fringe and style not in ("fuzz", "crop", "ponytail")
    height = p.brow_y + 0.13 if fringe else p.hairline + (0.12 if style == "fuzz" else 0.0)
    edge = 0.88 if fringe else 0.66 if style == "fuzz" else 0.80
    lift = 0.0 if fringe else 0.10
    line = curve(
        [
            (-0.94, burns),
            (-0.90, -0.45),
            (-edge * 0.86, -height * 0.93),
            (-0.42, -height - 0.4 * lift * (person.parting > 0)),
            (person.parting, -height - lift),
            (0.42, -height - 0.4 * lift * (person.parting < 0)),
            (edge * 0.86, -height * 0.93),
            (0.90, -0.45),
            (0.94, burns),
        ],
        False,
        12,
    )
    tufts = rng.uniform(-1, 1, len(line)) * (0.045 if fringe else 0.022)
    tufts[[0, -1]] = 0
    wavy: Array = (line + np.stack([0.3 * tufts, tufts], axis=1)).astype(np.float32)
    return wavy


def lock(style: str, p: Proportions) -> Array:
    """Hair that falls beside the cheek, on one side."""
    end = p.chin + (0.7 if style == "long" else -0.15)
    return curve(
        [
            (0.86, -0.8),
            (0.93, -0.3),
            (0.95, 0.3),
            (0.88, 0.75 * end),
            (0.93, end),
            (1.14, 0.9 * end),
            (1.18, 0.3),
            (1.1, -0.6),
        ]
    )
