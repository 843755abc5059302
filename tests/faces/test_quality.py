from itertools import pairwise

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.faces.quality import (
    NOSE_BEFORE,
    NOSE_BELOW,
    Quality,
    Thresholds,
    failures,
    luma,
    measure,
    pose,
    sharpness,
)

LEVEL = np.array([(70, 40), (50, 40), (10, 40), (30, 40), (40, 71)], dtype=np.float32)


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    grey = np.random.default_rng(3).uniform(0, 255, (9, 13))
    values = [
        grey[y - 1, x] + grey[y + 1, x] + grey[y, x - 1] + grey[y, x + 1] - 4 * grey[y, x]
        for y in range(1, 8)
        for x in range(1, 12)
    ]
    mean = sum(values) / len(values)
    assert sharpness(grey) == pytest.approx(sum((v - mean) ** 2 for v in values) / len(values))
    assert sharpness(np.zeros((2, 2))) == 0


def test_luma_weighs_green_most() -> None:
    primaries = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], dtype=np.uint8)
    np.testing.assert_allclose(luma(primaries)[0], [76.245, 149.685, 29.07, 255])


def test_exposure_and_shares_of_black_and_white() -> None:
    face = np.full((10, 10, 3), 51, dtype=np.uint8)
    face[:3] = 15
    face[9] = 240
    quality = measure(face, LEVEL, 123.0)
    assert quality.exposure == pytest.approx((30 * 15 + 60 * 51 + 10 * 240) / 100 / 255)
    assert quality.dark_fraction == pytest.approx(0.3)
    assert quality.bright_fraction == pytest.approx(0.1)
    assert quality.face_size == 123.0
    face[:3], face[9] = 16, 239
    assert measure(face, LEVEL, 1.0).dark_fraction == measure(face, LEVEL, 1.0).bright_fraction == 0


def projected(roll: float, yaw: float, pitch: float) -> np.ndarray:
    """The model's five points, turned in space by pitch, yaw and roll, and seen from far away."""
    r, y, p = np.radians([roll, yaw, pitch])
    points = np.array(
        [(0.7, 0, 0), (0.3, 0, 0), (-0.7, 0, 0), (-0.3, 0, 0), (0, NOSE_BELOW, NOSE_BEFORE)], dtype=float
    )
    down = np.array([(1, 0, 0), (0, np.cos(p), np.sin(p)), (0, -np.sin(p), np.cos(p))])
    aside = np.array([(np.cos(y), 0, np.sin(y)), (0, 1, 0), (-np.sin(y), 0, np.cos(y))])
    plane = np.array([(np.cos(r), -np.sin(r), 0), (np.sin(r), np.cos(r), 0), (0, 0, 1)])
    return (points @ (plane @ aside @ down).T)[:, :2] * 60 + 100


@pytest.mark.parametrize("roll", [-40.0, 0.0, 25.0])
@pytest.mark.parametrize("yaw", [-50.0, -10.0, 0.0, 30.0])
def test_roll_and_yaw_of_the_model_are_recovered(roll: float, yaw: float) -> None:
    found = pose(projected(roll, yaw, 0))
    assert found.roll == pytest.approx(roll, abs=1e-3)
    assert found.yaw == pytest.approx(yaw, abs=1e-3)
    assert found.pitch == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("pitch", [-15.0, -8.0, 0.0, 8.0, 15.0])
@pytest.mark.parametrize("yaw", [0.0, 15.0])
def test_pitch_is_recovered_to_within_a_few_degrees(pitch: float, yaw: float) -> None:
    found = pose(projected(5, yaw, pitch))
    assert found.roll == pytest.approx(5, abs=1e-3)
    assert found.pitch == pytest.approx(pitch, abs=4 if yaw == 0 else 8)


def test_pitch_rises_with_looking_down_and_never_leaves_its_range() -> None:
    found = [pose(projected(0, 0, pitch)).pitch for pitch in range(-60, 25, 5)]
    assert all(a <= b for a, b in pairwise(found))
    assert -90 <= found[0] < found[-1] <= 90


def test_eyes_at_one_place_are_a_profile() -> None:
    points = np.array([(40, 40)] * 4 + [(60, 70)], dtype=np.float32)
    assert pose(points).yaw == 90


GOOD = Quality(100.0, 0.5, 0.1, 0.1, 100.0, -10.0, 10.0, -10.0)


@pytest.mark.parametrize(
    ("limit", "value", "reason", "detail"),
    [
        ("min_sharpness", 101, "blurred", "sharpness 100 is under 101"),
        ("min_exposure", 0.51, "too_dark", "exposure 0.5 is under 0.51"),
        ("max_exposure", 0.49, "too_bright", "exposure 0.5 is over 0.49"),
        ("max_dark", 0.05, "dark_areas", "dark_fraction 0.1 is over 0.05"),
        ("max_bright", 0.05, "bright_areas", "bright_fraction 0.1 is over 0.05"),
        ("min_face_size", 101, "small_face", "face_size 100 is under 101"),
        ("max_roll", 9, "rolled", "roll 10 is over 9"),
        ("max_yaw", 9, "turned", "yaw 10 is over 9"),
        ("max_pitch", 9, "tilted", "pitch 10 is over 9"),
    ],
)
def test_every_limit_has_its_reason_and_sentence(limit: str, value: float, reason: str, detail: str) -> None:
    assert failures(GOOD, Thresholds(**{limit: value})) == [(reason, detail)]


def test_a_value_at_its_limit_passes_and_no_limit_rejects_nothing() -> None:
    at_the_limit = Thresholds(100, 0.5, 0.5, 0.1, 0.1, 100, 10, 10, 10)
    assert failures(GOOD, at_the_limit) == []
    assert failures(Quality(0, 0, 1, 1, 0, 90, 90, 90), Thresholds()) == []


def test_all_broken_limits_are_named() -> None:
    broken = failures(GOOD, Thresholds(min_sharpness=200, max_yaw=5))
    assert [name for name, _ in broken] == ["blurred", "turned"]


def test_thresholds_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match="unknown threshold 'min_light': choose from min_sharpness, "):
        Thresholds.of({"min_light": 1})
    with pytest.raises(UserError, match="threshold max_yaw is -3: it must be a number from 0, or null"):
        Thresholds.of({"max_yaw": -3})
    with pytest.raises(UserError, match="threshold max_yaw is 'wide'"):
        Thresholds(max_yaw="wide")  # type: ignore[arg-type]
    assert Thresholds.of({"max_yaw": None}) == Thresholds()
