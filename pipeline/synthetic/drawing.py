"""A face drawn for the rendered sample: lit skin, and the features upon it.

The skin is lit as a relief: a height field with sockets, cheeks, nose, lips and chin gives normals, a key
light and the surroundings give its brightness. Sharp-edged features are painted over it as polygons.
"""

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
    paint,
    shade,
    stroke,
    within,
)
from pipeline.synthetic.traits import Moment, Person, Proportions


def face_outline(p: Proportions) -> Array:
    """The contour of cranium, cheeks, jaw and chin."""
    return curve(
        mirrored(
            [
                (0.0, -p.top),
                (0.64 * p.forehead, -0.88 * p.top),
                (0.97 * p.forehead, -0.52 * p.top),
                (0.99, -0.18),
                (p.cheek, 0.42 * p.mouth),
                (0.5 * (p.cheek + p.jaw) + 0.035, 0.74 * p.mouth),
                (p.jaw, 1.03 * p.mouth),
                (0.5 * (p.jaw + p.chin_width) + 0.05, 0.5 * (p.mouth + p.chin) + 0.03),
                (p.chin_width, p.chin - 0.10),
                (0.0, p.chin),
            ]
        )
    )


def draw_skin(
    canvas: Array, person: Person, moment: Moment, p: Proportions, pose: Pose, rng: np.random.Generator
) -> Mask:
    """Ears and the lit skin of the face; returns the face's mask."""
    base = linear(person.skin)
    key, ambient = np.asarray(moment.key, np.float32), np.asarray(moment.ambient, np.float32)
    turn = pose.yaw / 110
    ears = [ellipse(side * 1.01 - turn, 0.10, 0.13, 0.27) for side in (-1, 1)]
    paint(canvas, pose.mask(*ears, blur=0.008, on_face=False), base * moment.glow * 0.86)
    inner = [ellipse(side * 1.04 - turn, 0.08, 0.06, 0.16) for side in (-1, 1)]
    shade(canvas, pose.mask(*inner, blur=0.03, on_face=False), 0.66, 0.55, 0.52)

    face = pose.mask(face_outline(p), blur=0.008, on_face=False)
    u, v = pose.grid(face)
    across, down = pose.turned(u)
    relief, hollow, flush = skin_maps(person, moment, p, u, v, u - across, v - down)
    dy, dx = (g * pose.unit for g in np.gradient(relief))
    length = np.sqrt(1 + dx**2 + dy**2)
    x, y, z = (np.float32(part) for part in moment.light)
    facing = (z - x * dx - y * dy) / length
    diffuse = np.maximum(0, (facing + 0.22) / 1.22) * hollow
    gloss = np.maximum(0, 2 * facing / length - z)
    gloss = 0.035 * gloss**4 * gloss**4 * gloss**4 * (1 + hollow)
    pores = 1 + (0.012 + 0.002 * p.maturity) * rng.standard_normal(u.shape, np.float32)
    openness = hollow * (0.6 + 0.4 / length) * pores
    diffuse *= pores
    colours = np.empty((*u.shape, 3), np.float32)
    for channel, reddening in enumerate((0.0, 0.30, 0.26)):
        lit = diffuse * key[channel] + openness * ambient[channel]
        colours[..., channel] = base[channel] * (1 - reddening * flush) * lit + gloss * key[channel]
    paint(canvas, face, colours)
    draw_spots(canvas, person, p, pose, rng)
    return face


def skin_maps(
    person: Person, moment: Moment, p: Proportions, u: Array, v: Array, fu: Array, fv: Array
) -> tuple[Array, Array, Array]:
    """Height, openness to light (0-1) and redness (0-1) of the skin at head coordinates.

    `u`, `v` follow the outline of the head, `fu`, `fv` its features as the head turns.
    """
    child = float(np.clip(1 - (p.maturity - 1) / 15, 0, 1))
    side = np.abs(fu)

    def bump(x: float, y: float, sx: float, sy: float) -> Array:
        # Features off the middle come in pairs.
        gauss: Array = np.exp(-(((side - x) * (1 / sx)) ** 2) - ((fv - y) * (1 / sy)) ** 2)
        return gauss

    outline = face_outline(p)
    right = outline[outline[:, 0] >= 0]
    order = np.argsort(right[:, 1])
    width = np.interp(v.ravel(), right[order, 1], right[order, 0]).reshape(v.shape).astype(np.float32)
    middle, half = (p.chin - p.top) / 2, (p.chin + p.top) / 2
    far = np.square((v - middle) / half)
    rise = np.sqrt(np.clip(1.03 - far * np.sqrt(far) * np.sqrt(np.sqrt(far)), 0.0, None))
    relief = 0.80 * np.sqrt(np.clip(1.06 - (u / np.maximum(width, 0.05)) ** 2, 0.0, None)) * rise

    strong = 0.03 if person.male and p.maturity > 13 else 0.0
    relief += (0.035 + 0.03 * (1 - child) + strong) * bump(0.36, p.brow_y * -0.85, 0.30, 0.11)
    relief -= (0.05 + 0.05 * (1 - child)) * bump(p.eye_x * 0.92, -0.02, 0.25, 0.16)
    inner_corners = bump(0.195, -0.02, 0.095, 0.12)
    relief -= 0.05 * inner_corners
    ridge = np.clip((fv + 0.18) / (p.nose + 0.14), 0, 1)
    bridge = ridge * np.sqrt(ridge) / (1 + np.exp((fv - p.nose + 0.045) / 0.030))
    relief += (0.17 + 0.10 * (1 - child)) * bridge * np.exp(-((fu / (0.085 + 0.06 * bridge)) ** 2))
    relief += (0.05 + 0.02 * child) * bump(0, p.nose - 0.11, 0.11, 0.10)
    relief += 0.07 * bump(p.nose_width * 0.74, p.nose - 0.06, 0.075, 0.075)
    relief += 0.06 * bump(0, p.mouth, 0.34, 0.24)
    relief += 0.05 * bump(0, p.mouth + 0.55 * p.lips, p.mouth_width * 0.65, 0.055)
    below_lip = bump(0, p.mouth + 1.72 * p.lips, 0.185, 0.055)
    relief -= 0.035 * below_lip
    relief -= 0.02 * bump(0, (p.nose + p.mouth) / 2 - 0.02, 0.045, 0.09)
    relief += 0.06 * bump(0, p.chin - 0.17, 0.20 - 0.04 * child, 0.13)
    relief += (0.04 + 0.06 * child + 0.04 * moment.smile) * bump(0.55, 0.80 * p.nose, 0.26, 0.24)

    hollow = 1 - 0.38 * inner_corners - 0.22 * bump(p.eye_x, -0.10, 0.22, 0.09)
    lean = float(-0.22 * moment.light[0])
    hollow -= 0.42 * bump(0, p.nose + 0.045, 0.20, 0.05) + 0.22 * below_lip
    hollow -= 0.18 * np.exp(-(((fu - lean) / 0.22) ** 2) - ((fv - p.nose) / 0.16) ** 2)
    hollow -= 0.20 * bump(p.mouth_width + 0.03, p.mouth - 0.08 * moment.smile, 0.06, 0.06)
    flush = (0.25 + 0.45 * child) * bump(0.60, 0.95 * p.nose, 0.24, 0.19)
    flush += 0.25 * bump(0, p.nose - 0.10, 0.13, 0.10)
    return relief, np.clip(hollow, 0.2, 1.0), flush


def draw_spots(canvas: Array, person: Person, p: Proportions, pose: Pose, rng: np.random.Generator) -> None:
    """Freckles from about four years on, and a youth's pimples."""
    if person.freckles and p.maturity > 4:
        places = np.stack([rng.uniform(-0.7, 0.7, 34), 0.6 * p.nose + rng.normal(0, 0.13, 34)], axis=1)
        spots = [
            ellipse(x, y, r, r, 8) for (x, y), r in zip(places, rng.uniform(0.012, 0.022, 34), strict=True)
        ]
        shade(canvas, pose.mask(*spots, blur=0.012), 0.72, 0.58, 0.48)
    pimples = int(rng.integers(1, 9)) if p.maturity > 12.5 else 0
    if pimples:
        heights = rng.choice((-0.75, 0.85), pimples) * p.mouth + rng.uniform(-0.2, 0.2, pimples)
        spots = [
            ellipse(x, y, 0.022, 0.022, 8)
            for x, y in zip(rng.uniform(-0.7, 0.7, pimples), heights, strict=True)
        ]
        shade(canvas, pose.mask(*spots, blur=0.014), 0.95, 0.60, 0.58)


def draw_eyes(canvas: Array, person: Person, moment: Moment, p: Proportions, pose: Pose) -> None:
    """Both eyes with lids and lashes."""
    w = p.eye_width
    h = p.eye_height * (1 - moment.blink) * (1 - 0.22 * moment.smile)
    t = np.linspace(0, 1, 15, dtype=np.float32)
    # From the inner to the outer corner, which sits a little higher.
    x, tilt = p.eye_x - w + 2 * w * t, 0.025 - 0.05 * t
    upper = np.stack([x, tilt - h * np.abs(np.sin(np.pi * t**0.9)) ** 0.85], axis=1)
    lower = np.stack([x, tilt + 0.72 * h * np.abs(np.sin(np.pi * t**1.1)) ** 0.9], axis=1)
    opening = pose.mask(*both(np.vstack([upper, lower[::-1]])))

    socket = np.vstack([moved(upper, -0.045), moved(lower[::-1], 0.03)])
    shade(canvas, pose.mask(*both(socket), blur=0.035), 0.55, 0.42, 0.38)
    crease = stroke(moved(upper, -(0.055 + 0.015 * (p.maturity > 8))), (0.008, 0.026, 0.012))
    shade(canvas, pose.mask(*both(crease), blur=0.008), 0.52, 0.40, 0.36)
    paint(canvas, opening, linear((236, 230, 226)) * moment.glow)

    centres = [(side * p.eye_x + moment.gaze * 0.5 * p.iris, -0.12 * h) for side in (-1, 1)]

    def discs(radius: float, right: float = 0.0, down: float = 0.0, blur: float = 0.0) -> Mask:
        shapes = [ellipse(cx + right, cy + down, radius * p.iris, radius * p.iris) for cx, cy in centres]
        return within(pose.mask(*shapes, blur=blur), opening)

    paint(canvas, discs(1.0), linear(person.eyes) * moment.glow * 0.55)
    paint(canvas, discs(0.71, down=0.02, blur=0.012), linear(person.eyes) * moment.glow * 1.25, 0.8)
    paint(canvas, discs(0.46), linear((14, 12, 12)))
    veil = within(pose.mask(*both(stroke(moved(upper, 0.03), (0.06, 0.10, 0.06))), blur=0.025), opening)
    shade(canvas, veil, 0.40, 0.38, 0.38)
    spark = discs(0.22, right=0.35 * p.iris * float(np.sign(moment.light[0])), down=-0.36 * p.iris)
    paint(canvas, spark, np.ones(3, np.float32), 0.9)

    lashes = linear((34, 24, 22)) * moment.glow
    bold = 0.030 if person.male else 0.038
    line = stroke(upper, (0.015, bold, bold * 1.1, 0.022))
    paint(canvas, pose.mask(*both(line), blur=0.006), lashes, 0.92)
    paint(canvas, pose.mask(*both(stroke(lower, (0.006, 0.012, 0.016))), blur=0.008), lashes, 0.5)


def draw_brows(canvas: Array, person: Person, moment: Moment, p: Proportions, pose: Pose) -> None:
    """Brows: faint in the young, lower and thicker with age, most of all in boys."""
    thick, y = p.brow_thickness, -p.brow_y
    arch = 0.045 if person.male else 0.075
    middle = curve(
        [
            (0.19, y + 0.03),
            (p.eye_x * 0.85, y - 0.5 * arch),
            (p.eye_x + 0.55 * p.eye_width, y - arch * 0.8),
            (p.eye_x + 1.25 * p.eye_width, y + 0.07),
        ],
        closed=False,
    )
    brows = both(stroke(middle, (thick * 0.9, thick * 1.25, thick, thick * 0.35)))
    dark = np.minimum(linear(person.hair) * 0.5, linear(person.skin) * 0.28) * moment.glow
    paint(canvas, pose.mask(*brows, blur=0.014), dark, float(np.clip(0.45 + p.maturity / 18, 0, 0.92)))


def draw_nose(canvas: Array, person: Person, p: Proportions, pose: Pose) -> None:
    """Nostrils and the edge of the wings, which the relief leaves soft, and a youth's first moustache."""
    w = p.nose_width
    nostril = ellipse(w * 0.46, p.nose - 0.012, w * 0.27, 0.028)
    shade(canvas, pose.mask(*both(nostril), blur=0.013), 0.32, 0.20, 0.18)
    wing = curve([(w * 0.86, p.nose - 0.15), (w * 1.04, p.nose - 0.07), (w * 0.84, p.nose)], closed=False)
    shade(canvas, pose.mask(*both(stroke(wing, (0.01, 0.028, 0.02))), blur=0.014), 0.6, 0.46, 0.42)
    if person.male and p.maturity > 14.5:
        fuzz = ellipse(0, (p.nose + p.mouth) / 2, p.mouth_width * 0.85, (p.mouth - p.nose) * 0.26)
        shade(canvas, pose.mask(fuzz, blur=0.05), 1 - min(0.5, (p.maturity - 14.5) * 0.13))


def draw_mouth(canvas: Array, person: Person, moment: Moment, p: Proportions, pose: Pose) -> None:
    """Lips, and between them teeth where the smile opens; folds beside a wide smile."""
    w = p.mouth_width * (1 + 0.22 * moment.smile)
    up = 0.15 * moment.smile - 0.015
    gap = 0.16 * moment.mouth_open
    m, lip = p.mouth, p.lips
    left, right = (-w, m - up), (w, m - up)

    def across(side: float, middle: float, *between: tuple[float, float]) -> Array:
        inner = [
            (-0.5 * w, m + side),
            *between,
            (0, m + middle),
            *((-x, y) for x, y in between),
            (0.5 * w, m + side),
        ]
        return curve([left, *inner, right], closed=False)

    line = across(0.1 * up, 0.018)
    floor = across(gap, 0.018 + 1.25 * gap)
    bow = across(-0.62 * lip, -0.78 * lip, (-0.16 * w, m - lip))
    bottom = across(gap + 0.82 * lip, gap + 1.18 * lip)
    rosy = (0.78, 0.52, 0.49) if person.male else (0.80, 0.44, 0.44)
    shade(canvas, pose.mask(np.vstack([bow, line[::-1]]), blur=0.012), *(0.8 * channel for channel in rosy))
    shade(canvas, pose.mask(np.vstack([floor, bottom[::-1]]), blur=0.012), *rosy)
    shade(canvas, pose.mask(ellipse(0, m + gap + 0.55 * lip, 0.3 * w, 0.16 * lip), blur=0.03), 1.22)
    if gap > 0.01:
        inside = pose.mask(np.vstack([line, floor[::-1]]))
        paint(canvas, inside, linear((72, 26, 26)))
        teeth = pose.mask(np.vstack([line, moved(line[::-1], 0.75 * gap + 0.01)]), blur=0.006)
        paint(canvas, within(teeth, inside), linear((240, 234, 222)) * moment.glow, 0.95)
    shade(canvas, pose.mask(stroke(line, (0.02, 0.03, 0.024, 0.03, 0.02)), blur=0.008), 0.36, 0.24, 0.22)
    corner = (w + 0.10, m - up)
    fold = curve(
        [(p.nose_width * 1.1, p.nose - 0.06), (w * 0.5 + 0.24, (p.nose + m) / 2), corner], closed=False
    )
    depth = 0.90 - 0.28 * moment.smile
    folds = both(stroke(fold, (0.02, 0.045, 0.02)))
    shade(canvas, pose.mask(*folds, blur=0.025), depth, depth - 0.05, depth - 0.06)
