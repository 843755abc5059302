import dlib
import numpy as np
import pytest
from skimage.data import astronaut

from pipeline.dlib.chips import chips, mirrored, predict_landmarks

# A face in the middle of a crop with a margin of 0.25.
CROP = np.ascontiguousarray(astronaut()[20:244, 115:339])


@pytest.fixture(scope="module")
def landmarks():
    return predict_landmarks(CROP, 0.25)[None]


def by_dlib(image, points, padding):
    parts = [dlib.point(int(x), int(y)) for x, y in points]
    box = dlib.rectangle(0, 0, 223, 223)
    return dlib.get_face_chip(image, dlib.full_object_detection(box, parts), 150, padding)


@pytest.mark.parametrize("padding", [0.1, 0.25, 0.45])
def test_chips_are_dlibs_own(landmarks, padding):
    chip = chips(CROP[None], landmarks, padding=padding)[0].astype(int)
    difference = np.abs(chip - by_dlib(CROP, landmarks[0], padding).astype(int))
    assert difference.max() <= 1, "the same similarity, up to the rounding of its last bit"
    assert (difference != 0).mean() < 1e-3, "and hardly ever that"


def test_landmarks_between_pixels_are_not_rounded(landmarks):
    chip = chips(CROP[None], landmarks)
    assert (chips(CROP[None], landmarks + np.float32(0.4)) != chip).any(), "a shift of 0.4 pixels shows"


def test_mirrored_chips_are_those_of_the_flipped_crop(landmarks):
    flipped = np.ascontiguousarray(CROP[:, ::-1])
    points = [(223 - x, y) for x, y in landmarks[0]]
    outer, inner, outer_2, inner_2, nose = points
    expected = by_dlib(flipped, [outer_2, inner_2, outer, inner, nose], 0.25)
    assert np.abs(chips(CROP[None], landmarks, mirror=True)[0].astype(int) - expected).max() <= 1, (
        "the crop is flipped and the eyes change places"
    )


def test_mirroring_landmarks_twice_changes_nothing(landmarks):
    assert (mirrored(mirrored(landmarks, 224), 224) == landmarks).all(), "a flip is its own inverse"


def test_missing_landmarks_are_found_from_the_box_in_the_middle(landmarks):
    assert (chips(CROP[None], margin=0.25) == chips(CROP[None], landmarks)).all(), (
        "the same model, the same box"
    )


def test_refuses_landmarks_of_another_shape(landmarks):
    with pytest.raises(ValueError, match=r"landmarks have the shape \(1, 4, 2\), not \(1, 5, 2\)"):
        chips(CROP[None], landmarks[:, :4])


def test_refuses_landmarks_that_are_not_finite(landmarks):
    broken = np.concatenate([landmarks, landmarks])
    broken[1, 2, 0] = np.nan
    with pytest.raises(ValueError, match="landmarks of crop 1 are not finite"):
        chips(np.stack([CROP, CROP]), broken)


def test_no_crops_give_no_chips():
    assert chips(np.empty((0, 224, 224, 3), np.uint8)).shape == (0, 150, 150, 3), "an empty batch"
