from collections import Counter
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.faces import detectors
from pipeline.faces.detectors import Detection, build, detect, shrink
from pipeline.faces.landmarks import EYE_LEFT, EYE_RIGHT, NOSE, landmarks5

Pixels = npt.NDArray[np.uint8]
FACE = (79, 73, 167, 161)  # where HOG sees it; the others draw their boxes a little differently


def overlap(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Intersection over union."""

    def area(box: tuple[float, ...]) -> float:
        return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])

    inner = area((*np.maximum(first[:2], second[:2]), *np.minimum(first[2:], second[2:])))
    return inner / (area(first) + area(second) - inner)


@pytest.mark.parametrize("name", ["dlib_hog", "dlib_cnn", "mtcnn"])
def test_finds_the_face_of_a_portrait_and_the_same_one_again(name: str, portrait: Pixels) -> None:
    detector = build(name)
    found = detector.detect(portrait)
    assert overlap(found[0].box, FACE) > 0.5
    assert found[0].detector == detector.name == name
    assert found == detector.detect(portrait)


@pytest.mark.parametrize("name", ["dlib_hog", "dlib_cnn", "mtcnn"])
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 900, 3), (23, 400, 3), (90, 90, 3)])
def test_finds_nothing_in_tiny_or_empty_pictures(name: str, shape: tuple[int, int, int]) -> None:
    assert build(name, max_side=200).detect(np.full(shape, 90, dtype=np.uint8)) == []


def test_a_box_found_in_a_shrunk_picture_is_scaled_back(portrait: Pixels) -> None:
    wide = np.pad(portrait, ((0, 0), (0, 40), (0, 0)), mode="edge")
    large = np.asarray(Image.fromarray(wide).resize((2800, 2400)))
    (found,) = build("dlib_hog", max_side=400).detect(large)
    assert overlap(found.box, tuple(10 * edge for edge in FACE)) > 0.7


def test_shrinking_keeps_small_pictures_and_bounds_large_ones() -> None:
    picture = np.zeros((30, 300, 3), dtype=np.uint8)
    same, factors = shrink(picture, 300)
    assert same is picture
    assert factors == (1.0, 1.0)
    small, (across, down) = shrink(picture, 100)
    assert small.shape == (10, 100, 3)
    assert (across, down) == (3.0, 3.0)
    assert shrink(np.zeros((1, 5000, 3), dtype=np.uint8), 100)[0].shape == (1, 100, 3)


def test_either_program_computes_the_cnn_and_torch_does_unless_told_otherwise(
    portrait: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert build("dlib_cnn") == build("dlib_cnn", backend="torch")
    torch, dlib = Counter[str](), Counter[str]()
    monkeypatch.setattr(detectors, "_in_torch", lambda: lambda _: torch.update("x") or [((1, 2, 3, 4), 0.5)])
    monkeypatch.setattr(detectors, "_in_dlib", lambda _: dlib.update("x") or [((5, 6, 7, 8), 0.5)])
    assert build("dlib_cnn").detect(portrait) == [Detection((1, 2, 3, 4), 0.5, "dlib_cnn")]
    assert build("dlib_cnn", backend="dlib").detect(portrait) == [Detection((5, 6, 7, 8), 0.5, "dlib_cnn")]
    assert torch["x"] == dlib["x"] == 1


class Fixed:
    """Finds what it was told to, and counts how often it was asked."""

    name: ClassVar[str] = "fixed"

    def __init__(self, *found: Detection) -> None:
        self.found = list(found)
        self.asked = 0

    def detect(self, image: Pixels) -> list[Detection]:
        self.asked += 1
        return self.found


def test_the_second_detector_is_asked_only_where_the_first_finds_nothing() -> None:
    picture = np.zeros((9, 9, 3), dtype=np.uint8)
    face = Detection((0, 0, 5, 5), 1.0, "fixed")
    blind, seeing, unused = Fixed(), Fixed(face), Fixed(face)
    assert detect(picture, [blind, seeing, unused]) == [face]
    assert (blind.asked, seeing.asked, unused.asked) == (1, 1, 0)
    assert detect(picture, [blind]) == []


def test_faces_come_best_first_and_boxes_without_area_are_dropped() -> None:
    found = [((0, 0, 5, 5), 0.2), ((3, 3, 3, 9), 9.0), ((1, 1, 6, 6), 0.7)]
    assert [one.score for one in detectors._detections(found, (2.0, 2.0), "x")] == [0.7, 0.2]
    assert detectors._detections(found, (2.0, 2.0), "x")[0].box == (2.0, 2.0, 12.0, 12.0)


def test_unknown_names_and_settings_are_named() -> None:
    with pytest.raises(UserError, match="unknown detector 'haar': choose one of dlib_hog, dlib_cnn, mtcnn"):
        build("haar")
    with pytest.raises(UserError, match="detector 'dlib_hog' has no setting 'scale': it takes max_side"):
        build("dlib_hog", scale=2)
    with pytest.raises(UserError, match="max_side is 5, not a whole number of at least 24"):
        build("mtcnn", max_side=5)
    with pytest.raises(UserError, match="detector 'dlib_cnn': backend is 'onnx': choose one of torch, dlib"):
        build("dlib_cnn", backend="onnx")


def test_landmarks_are_eyes_above_the_nose_in_dlibs_order(portrait: Pixels) -> None:
    points = landmarks5(portrait, FACE)
    assert points.shape == (5, 2)
    assert points.dtype == np.float32
    outer_right, inner_right, outer_left, inner_left = points[[*EYE_RIGHT, *EYE_LEFT], 0]
    assert outer_left < inner_left < points[NOSE, 0] < inner_right < outer_right
    assert points[NOSE, 1] > points[:4, 1].max() + 10
    mirrored = landmarks5(
        np.ascontiguousarray(portrait[:, ::-1]), (240 - FACE[2], FACE[1], 240 - FACE[0], FACE[3])
    )
    np.testing.assert_allclose(239 - mirrored[[2, 3, 0, 1, 4], 0], points[:, 0], atol=4)
