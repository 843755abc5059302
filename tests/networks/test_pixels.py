"""The cache of decoded crops: the right pictures, decoded once, named after what decides them."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.backbones.input_transforms import Look
from pipeline.core.errors import UserError
from pipeline.dlib.chips import chips
from pipeline.training.networks import pixels
from pipeline.training.networks.pixels import Pixels, decoded

CACHE = Path("data/pixels")


def made(project: Any, look: Look, ids: list[str] | None = None, workers: int = 1) -> Pixels:
    wanted = project.ids if ids is None else ids
    return decoded(project.crops, wanted, look, margin=project.margin, cache=CACHE, workers=workers)


def test_every_row_is_the_picture_of_its_face(project: Any) -> None:
    found = made(project, Look("crop", 48))
    assert len(found) == len(project.ids)
    for row, number in enumerate(project.numbers):
        np.testing.assert_array_equal(found[np.array([row])][0], project.picture(number))


def test_some_faces_are_taken_in_their_order(project: Any) -> None:
    some = project.ids[3:30:4]
    found = made(project, Look("crop", 24), some, workers=2)
    whole = made(project, Look("crop", 24))
    np.testing.assert_array_equal(found[np.arange(len(some))], whole[np.arange(3, 30, 4)])
    np.testing.assert_array_equal(whole.take(np.arange(3, 30, 4))[np.array([1])], found[np.array([1])])


def test_aligned_pictures_are_dlibs_chips(project: Any) -> None:
    found = made(project, Look("aligned", 150))[np.array([0])]
    landmarks = np.array([[36, 19], [30, 20], [12, 19], [18, 20], [24, 32]], np.float32)[None]
    np.testing.assert_array_equal(found, chips(project.picture(project.numbers[0])[None], landmarks))


def test_nothing_is_decoded_twice_and_another_look_is_another_file(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(project, Look("crop", 24))
    for look in (Look("crop", 32), Look("crop", 24, padding=0.1)):
        assert made(project, look).path != first.path
    assert made(project, Look("crop", 24), project.ids[:7]).path != first.path
    monkeypatch.setattr(pixels, "blocks", lambda *words: pytest.fail("it was decoded again"))
    assert made(project, Look("crop", 24)).path == first.path


def test_an_interrupted_decoding_leaves_no_file(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*words: Any) -> Any:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(pixels, "blocks", broken)
    with pytest.raises(KeyboardInterrupt):
        made(project, Look("crop", 24))
    assert not list(CACHE.iterdir())


def test_a_full_disk_is_told_before_anything_is_written(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match=r"lacks room for 0\.0 GiB of decoded pictures"):
        made(project, Look("crop", 24))


def test_a_face_without_a_crop_is_named(project: Any) -> None:
    with pytest.raises(UserError, match="1 values of 'face_id' are missing from a table, first 'nobody'"):
        made(project, Look("crop", 24), ["nobody"])


def test_pixels_are_pickled_as_a_name_and_not_as_pictures(project: Any) -> None:
    found = made(project, Look("crop", 48))
    packed = pickle.dumps(found.take(np.array([4, 2])))
    assert len(packed) < 1000
    np.testing.assert_array_equal(pickle.loads(packed)[np.array([0, 1])], found[np.array([4, 2])])
