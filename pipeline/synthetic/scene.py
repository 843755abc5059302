"""Whole pictures for the rendered sample: a background, one or two people, and what makes a picture hard."""

from dataclasses import replace

import numpy as np
from PIL import Image, ImageFilter

from pipeline.core.seeds import derive_seed
from pipeline.synthetic.canvas import (
    Array,
    Pose,
    curve,
    displayed,
    ellipse,
    enlarged,
    linear,
    mask,
    mirrored,
    noise,
    paint,
    polygon,
    shade,
    stroke,
)
from pipeline.synthetic.drawing import draw_brows, draw_eyes, draw_mouth, draw_nose, draw_skin
from pipeline.synthetic.hair import back_hair, front_hair
from pipeline.synthetic.traits import (
    CLOTHES,
    WALLS,
    FaceSpecification,
    Moment,
    Person,
    Proportions,
    moment_of,
    person_of,
    proportions,
)

SIZE = 256


def draw(specification: FaceSpecification) -> Image.Image:
    """Draw one picture of the sample.

    Parameters
    ----------
    specification
        Who, how old and in what moment; see `pipeline.synthetic.rendered.specifications`.

    Returns
    -------
    PIL.Image.Image
        256 x 256 pixels, RGB; equal specifications give equal pixels.

    Examples
    --------
    >>> specification = FaceSpecification("x.jpg", 7, "s", "female", "II", "normal", 1, 2)
    >>> draw(specification).size
    (256, 256)
    """
    rng = np.random.default_rng(derive_seed(specification.picture_seed, "drawing"))
    person, moment = person_of(specification), moment_of(specification)
    canvas = background(rng, moment)
    condition = specification.condition
    if condition == "no_face":
        still_life(canvas, moment, rng)
    elif condition == "two_faces":
        other = replace(
            specification,
            age=int(rng.integers(1, 19)),
            subject_seed=derive_seed(specification.picture_seed, "second person"),
            picture_seed=derive_seed(specification.picture_seed, "second moment"),
        )
        draw_person(canvas, person_of(other), moment_of(other), other.age, rng, 0.56, 60.0, 8.0)
        draw_person(canvas, person, moment, specification.age, rng, 0.64, -48.0, 12.0)
    elif condition == "small":
        across, down = rng.uniform(-70, 70, 2)
        draw_person(
            canvas, person, moment, specification.age, rng, float(rng.uniform(0.16, 0.26)), across, down
        )
    else:
        draw_person(canvas, person, moment, specification.age, rng)
    if condition == "covered":
        cover(canvas, moment, rng)
    elif condition == "dark":
        canvas *= np.float32(rng.uniform(0.006, 0.03))
    grain = rng.uniform(0.8, 2.2) * rng.standard_normal((SIZE, SIZE), np.float32)
    picture = Image.fromarray(displayed(canvas, grain))
    if condition == "blurred":
        # After the grain, which would make the picture look sharp to every measure of sharpness.
        return picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(6, 10))))
    return picture


def background(rng: np.random.Generator, moment: Moment) -> Array:
    """An out-of-focus room or garden: a gradient between two muted colours, with soft patches of light."""
    coarse = SIZE // 4
    first, second = np.array(WALLS)[rng.permutation(len(WALLS))[:2]] * rng.uniform(0.65, 1.1)
    ramp = np.linspace(0, 1, coarse, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    mix = ramp[None, :] * np.cos(angle) + ramp[:, None] * np.sin(angle)
    mix = (mix - mix.min()) / (mix.max() - mix.min())
    mix = np.clip(mix + 0.16 * noise(rng, 5, coarse) + 0.05 * noise(rng, 12, coarse), 0, 1)[..., None]
    canvas = linear(first) * (1 - mix) + linear(second) * mix
    for _ in range(int(rng.integers(0, 5))):
        x, y = rng.uniform(0, coarse, 2)
        patch = mask([ellipse(x, y, *rng.uniform(3.5, 11, 2))], coarse, float(rng.uniform(1.5, 3.5)))
        shade(canvas, patch, rng.uniform(0.7, 1.45))
    canvas *= np.asarray(moment.key, np.float32) * 0.8 + 0.2
    bands = [enlarged(canvas[..., channel], SIZE) for channel in range(3)]
    return np.stack(bands, axis=2)


def draw_person(
    canvas: Array,
    person: Person,
    moment: Moment,
    age: float,
    rng: np.random.Generator,
    size: float = 1.0,
    across: float = 0.0,
    down: float = 0.0,
) -> None:
    """Paint a person onto the canvas, `size` times as large as a portrait, moved by some pixels."""
    p = proportions(person, age)
    unit = 196 * moment.scale / (p.top + p.chin) * size
    # The middle of the head, not the eyes, is what a photographer centres.
    x = SIZE / 2 + across + moment.x * size
    y = SIZE / 2 + down + moment.y * size + unit * (p.top - p.chin) / 2
    pose = Pose(SIZE, unit, x, y, moment.roll, moment.yaw, moment.pitch)
    back_hair(canvas, person, p, pose, rng, moment.key)
    draw_body(canvas, person, moment, p, pose)
    head = draw_skin(canvas, person, moment, p, pose, rng)
    draw_eyes(canvas, person, moment, p, pose)
    draw_brows(canvas, person, moment, p, pose)
    draw_nose(canvas, person, p, pose)
    draw_mouth(canvas, person, moment, p, pose)
    front_hair(canvas, person, p, pose, rng, moment.key, head)


def draw_body(canvas: Array, person: Person, moment: Moment, p: Proportions, pose: Pose) -> None:
    """Neck and clothes, with the shadow that the chin throws on them."""
    shoulder = p.chin + 0.22 + 0.011 * p.maturity
    neck = polygon(
        (-p.neck, p.chin - 0.5),
        (p.neck, p.chin - 0.5),
        (p.neck * 1.08, shoulder),
        (p.neck * 1.7, shoulder + 0.2),
        (-p.neck * 1.7, shoulder + 0.2),
        (-p.neck * 1.08, shoulder),
    )
    # The trunk follows the head's tilt only a little, and its turn not at all.
    trunk = replace(pose, roll=pose.roll * 0.4, yaw=0.0, pitch=0.0)
    paint(canvas, trunk.mask(neck, blur=0.02, on_face=False), linear(person.skin) * moment.glow * 0.8)
    broad = 1.35 + 0.5 * (p.neck - 0.4)
    half = [
        (0.0, shoulder + 0.22),
        (p.neck * 0.95, shoulder - 0.06),
        (broad, shoulder + 0.22),
        (broad + 0.35, shoulder + 0.9),
        (broad + 0.4, shoulder + 2.5),
    ]
    cloth = trunk.mask(curve(mirrored(half)), blur=0.012, on_face=False)
    u, v = trunk.grid(cloth)
    fold = 0.88 + 0.20 * np.cos(u * 1.1 - moment.light[0]) - 0.06 * np.sin(5 * u + 2 * v)
    paint(canvas, cloth, fold[..., None] * (linear(moment.clothes) * moment.glow))
    collar = curve([(-p.neck, shoulder - 0.07), half[0], (p.neck, shoulder - 0.07)], closed=False)
    shade(canvas, trunk.mask(stroke(collar, (0.06, 0.08, 0.06)), blur=0.01, on_face=False), 0.72)
    under = ellipse(-0.25 * moment.light[0], p.chin + 0.02, p.jaw * 0.78, 0.34)
    shade(canvas, pose.mask(under, blur=0.10, on_face=False), 0.50, 0.44, 0.42)


def cover(canvas: Array, moment: Moment, rng: np.random.Generator) -> None:
    """Hide a part of the face: dark glasses and a scarf, or a ball held before it."""
    cloth = linear(CLOTHES[rng.integers(len(CLOTHES))]) * np.asarray(moment.key, np.float32)
    x, y = SIZE / 2 + moment.x, SIZE / 2 + moment.y
    if rng.random() < 0.5:
        draw_ball(
            canvas, x + rng.uniform(-26, 26), y + rng.uniform(16, 36), rng.uniform(50, 60), cloth, moment
        )
        return
    upper = [(x - 76, y + 32), (x, y + 26), (x + 76, y + 32)]
    scarf = curve([*upper, (x + 72, y + 84), (x, y + 112), (x - 72, y + 84)])
    paint(canvas, mask([scarf], SIZE, 1.5), cloth)
    for fold in (44, 58, 76):
        crease = curve([(x - 66, y + fold), (x, y + fold + 12), (x + 66, y + fold)], closed=False)
        shade(canvas, mask([stroke(crease, (3, 7, 3))], SIZE, 2.5), 0.6)
    glasses = [ellipse(x + side * 32, y + 6, 27, 22) for side in (-1, 1)]
    paint(canvas, mask(glasses, SIZE, 0.8), linear((14, 14, 16)))


def still_life(canvas: Array, moment: Moment, rng: np.random.Generator) -> None:
    """A table with balls and boxes: a picture in which there is nobody."""
    light = np.asarray(moment.key, np.float32)
    edge = rng.uniform(150, 190)
    far = SIZE + 9
    table = polygon((-9, edge), (far, edge + rng.uniform(-14, 14)), (far, far), (-9, far))
    paint(canvas, mask([table], SIZE, 0.8), linear((142, 108, 78)) * light)
    count = int(rng.integers(3, 6))
    tints = np.array(CLOTHES)[rng.permutation(len(CLOTHES))[:count]]
    # The lower on the table, the nearer, and the later drawn.
    for tint, foot in zip(tints, np.sort(edge + rng.uniform(0, 40, count)), strict=True):
        colour, x, y, r = linear(tint) * light, rng.uniform(24, SIZE - 24), float(foot), rng.uniform(18, 42)
        shade(canvas, mask([ellipse(x + 6, y, r * 1.1, r * 0.22)], SIZE, 5), 0.5)
        if rng.random() < 0.5:
            draw_ball(canvas, x, y - r, r, colour, moment)
        else:
            draw_box(canvas, x, y, r, colour)


def draw_ball(canvas: Array, x: float, y: float, radius: float, colour: Array, moment: Moment) -> None:
    """A shaded ball around a point."""
    paint(canvas, mask([ellipse(x, y, radius, radius, 64)], SIZE, 0.6), colour * 0.55)
    x, y = x + radius * 0.3 * moment.light[0], y + radius * 0.5 * moment.light[1]
    for share, glow in ((0.72, 1.35), (0.45, 1.25), (0.16, 1.5)):
        spot = ellipse(x, y, radius * share, radius * share)
        shade(canvas, mask([spot], SIZE, radius * 0.13), glow)


def draw_box(canvas: Array, x: float, y: float, r: float, colour: Array) -> None:
    """A box standing on a point, 2 r wide."""
    left, right, back, top, lid = x - r, x + r, x + 1.4 * r, y - 1.5 * r, y - 1.7 * r
    front = polygon((left, top), (right, top), (right, y), (left, y))
    side = polygon((right, top), (back, lid), (back, y - 0.2 * r), (right, y))
    plate = polygon((left, top), (x - 0.6 * r, lid), (back, lid), (right, top))
    for face, light in ((front, 0.7), (side, 0.4), (plate, 0.95)):
        paint(canvas, mask([face], SIZE, 0.6), colour * np.float32(light))
