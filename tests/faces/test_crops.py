import numpy as np
import numpy.typing as npt
import pytest

from pipeline.core.boxes import Box
from pipeline.faces.crops import choose, side_of, square, to_crop
from pipeline.faces.detectors import Detection
from pipeline.faces.images import ImageRejected

Pixels = npt.NDArray[np.uint8]


def blank(height: int, width: int) -> Pixels:
    return np.zeros((height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("margin", [0.1, 0.25, 0.7])
@pytest.mark.parametrize(("scale", "size"), [(1, 224), (10, 224), (1, 64), (40, 96)])
def test_the_box_lies_centred_in_the_crop_whatever_margin_and_scale(
    margin: float, scale: int, size: int
) -> None:
    picture = blank(100 * scale, 120 * scale)
    picture[30 * scale : 70 * scale, 40 * scale : 80 * scale] = 255
    box = (40.0 * scale, 30.0 * scale, 80.0 * scale, 70.0 * scale)
    crop = square(picture, box, size=size, margin=margin)
    assert crop.shape == (size, size, 3)
    share = 1 / (1 + 2 * margin)
    inset = (1 - share) / 2 * size
    white = crop[..., 0].astype(float) / 255
    assert white.sum() == pytest.approx((share * size) ** 2, rel=0.01)
    middle = white[size // 2]
    assert middle.sum() == pytest.approx(share * size, abs=0.3)
    assert (middle * (np.arange(size) + 0.5)).sum() / middle.sum() == pytest.approx(size / 2, abs=0.15)
    assert middle[int(inset) - 4] < 0.1
    assert middle[int(inset) + 4] > 0.9


def test_a_box_that_is_not_square_is_squared_by_its_longer_side() -> None:
    assert side_of((10, 20, 40, 80), 0.25) == 90
    picture = blank(100, 100)
    picture[20:80, 35:65] = 255
    crop = square(picture, (35, 20, 65, 80), size=120, margin=0.0)
    assert crop[..., 0].mean() == pytest.approx(255 / 2, rel=0.02)
    assert crop[60, 60, 0] == 255
    assert crop[60, 10, 0] == 0


def test_outside_the_picture_its_border_is_repeated() -> None:
    picture = np.repeat(np.repeat(np.arange(60, dtype=np.uint8)[:, None, None] * 4, 60, axis=1), 3, axis=2)
    picture[:, :30, 1] = 200
    crop = square(picture, (0, 0, 60, 60), size=120, margin=0.5)
    np.testing.assert_array_equal(crop[:28], np.broadcast_to(crop[0], (28, 120, 3)))
    np.testing.assert_array_equal(crop[92:], np.broadcast_to(crop[-1], (28, 120, 3)))
    np.testing.assert_array_equal(crop[:, :28], np.broadcast_to(crop[:, :1], (120, 28, 3)))
    assert crop[0, 5].tolist() == picture[0, 0].tolist()
    assert crop[-1, -5].tolist() == picture[-1, -1].tolist()


@pytest.mark.parametrize(
    "box", [(-90.0, -90.0, -20.0, -20.0), (70.0, 10.0, 160.0, 100.0), (-30.0, -30.0, 90.0, 90.0)]
)
@pytest.mark.parametrize("turn", [0.0, 30.0])
def test_a_box_beyond_the_picture_still_gives_a_crop(box: Box, turn: float) -> None:
    picture = np.full((60, 60, 3), 77, dtype=np.uint8)
    crop = square(picture, box, size=50, margin=0.25, turn=turn)
    np.testing.assert_array_equal(crop, np.full((50, 50, 3), 77))


@pytest.mark.parametrize("turn", [0.0, 20.0, -35.0, 90.0])
@pytest.mark.parametrize("scale", [1, 12])
def test_points_move_with_the_pixels(turn: float, scale: int) -> None:
    box = (60.0 * scale, 50.0 * scale, 130.0 * scale, 120.0 * scale)
    for x, y in ((75, 70), (110, 72), (92, 101)):
        picture = blank(180 * scale, 200 * scale)
        picture[y * scale : (y + 3) * scale, x * scale : (x + 3) * scale] = 255
        centre = np.array([[x * scale + (3 * scale - 1) / 2, y * scale + (3 * scale - 1) / 2]], np.float32)
        crop = square(picture, box, size=200, margin=0.25, turn=turn)[..., 0].astype(float)
        rows, columns = np.indices(crop.shape)
        seen = [(columns * crop).sum() / crop.sum(), (rows * crop).sum() / crop.sum()]
        np.testing.assert_allclose(to_crop(centre, box, size=200, margin=0.25, turn=turn)[0], seen, atol=0.35)


def test_a_turn_by_the_slope_of_two_points_makes_them_level() -> None:
    points = np.array([(70, 60), (110, 80)], dtype=np.float32)
    slope = float(np.degrees(np.arctan2(20, 40)))
    turned = to_crop(points, (50, 40, 130, 120), size=224, margin=0.25, turn=slope)
    assert turned[0, 1] == pytest.approx(turned[1, 1], abs=1e-4)
    assert turned[0, 0] < turned[1, 0]


def test_the_largest_face_is_chosen() -> None:
    small = Detection((0, 0, 30, 30), 3.0, "x")
    large = Detection((50, 0, 110, 60), 0.1, "x")
    assert choose([small, large], "largest") is large
    better = Detection((150, 0, 210, 60), 0.9, "x")
    assert choose([large, better], "largest") is better
    assert choose([better, large], "largest") is better


def test_no_face_and_where_asked_several_faces_are_rejected() -> None:
    one = Detection((0, 0, 30, 30), 3.0, "dlib_hog")
    with pytest.raises(ImageRejected, match="no_face: no detector finds a face"):
        choose([], "largest")
    with pytest.raises(ImageRejected, match="several_faces: dlib_hog finds 2 faces"):
        choose([one, one], "reject")
    assert choose([one], "reject") is one
