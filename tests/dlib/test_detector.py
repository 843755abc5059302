from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.core.package_data import dlib_model
from pipeline.dlib.mmod.detector import load_mmod
from pipeline.dlib.mmod.parameters import FILE_NAME, read_mmod_weights
from pipeline.faces.detectors import Detection, build
from pipeline.synthetic.rendered import specifications
from pipeline.synthetic.scene import draw

Pixels = npt.NDArray[np.uint8]


def both(picture: Pixels) -> tuple[list[Detection], list[Detection]]:
    """What torch finds and what dlib finds, in the picture as it is."""
    ours, theirs = (build("dlib_cnn", backend=backend, max_side=9999) for backend in ("torch", "dlib"))
    return ours.detect(picture), theirs.detect(picture)


def assert_the_same(ours: list[Detection], theirs: list[Detection]) -> None:
    assert [one.box for one in ours] == [one.box for one in theirs], "to the pixel"
    assert [one.score for one in ours] == pytest.approx([one.score for one in theirs], abs=1e-4)


def resized(picture: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(Image.fromarray(picture).resize((width, height)))


def test_finds_what_dlib_finds_in_rendered_faces() -> None:
    faces = 0
    for specification in specifications(seed=7, per_age=1)[::3]:
        ours, theirs = both(np.asarray(draw(specification).crop((28, 28, 228, 228))))
        assert_the_same(ours, theirs)
        faces += len(theirs)
    assert faces >= 3, "there was something to find"


@pytest.mark.parametrize(("width", "height"), [(240, 240), (97, 131), (300, 90), (110, 260), (331, 187)])
def test_finds_what_dlib_finds_in_a_photograph_of_any_shape(
    portrait: Pixels, width: int, height: int
) -> None:
    """What the network sees beside a face, other sizes of the picture among it, is part of its score."""
    canvas = np.full((height, width, 3), (200, 120, 40), dtype=np.uint8)
    face = portrait[40:200, 50:200]
    canvas[: min(160, height), : min(150, width)] = face[:height, :width]
    ours, theirs = both(canvas)
    assert len(theirs) == 1
    assert_the_same(ours, theirs)


def test_finds_what_dlib_finds_of_several_faces_and_of_those_that_leave_the_picture(
    portrait: Pixels,
) -> None:
    face = portrait[40:200, 50:200]
    large = resized(face, 220, 235)
    canvas = np.full((310, 330, 3), 128, dtype=np.uint8)
    canvas[:140, :125] = face[20:, 25:]
    canvas[75:, 110:] = large
    ours, theirs = both(canvas)
    assert len(theirs) >= 2
    assert min(min(one.box) for one in theirs) < 0, "a box reaches beyond the picture"
    assert_the_same(ours, theirs)


def test_finds_nothing_where_dlib_finds_nothing() -> None:
    noise = np.random.default_rng(3).integers(0, 256, (150, 180, 3), dtype=np.uint8)
    for picture in (noise, np.zeros((24, 24, 3), dtype=np.uint8), np.full((90, 120, 3), 255, dtype=np.uint8)):
        assert both(picture) == ([], [])


def test_folding_and_splitting_change_no_score() -> None:
    """The network layer by layer as dlib has it, normalised after every convolution, in double precision."""
    weights = {
        name: torch.from_numpy(np.array(values)).double()
        for name, values in read_mmod_weights(dlib_model(FILE_NAME)).items()
    }
    maps = torch.randn(1, 3, 90, 75, generator=torch.Generator().manual_seed(0)).double()
    expected = maps
    for number in range(1, 7):
        stride, padding = (2, 0) if number <= 3 else (1, 2)
        expected = torch.nn.functional.conv2d(
            expected, weights[f"conv{number}.weight"], weights[f"conv{number}.bias"], stride, padding
        )
        gain, offset, mean, variance = (
            weights[f"norm{number}.{kind}"] for kind in ("gain", "offset", "mean", "variance")
        )
        expected = torch.nn.functional.batch_norm(
            expected, mean, variance, gain, offset, training=False, eps=1e-4
        ).relu()
    expected = torch.nn.functional.conv2d(expected, weights["score.weight"], weights["score.bias"], padding=4)
    with torch.inference_mode():
        found = load_mmod(dlib_model(FILE_NAME))(maps.float())
    np.testing.assert_allclose(found, expected[:, 0], rtol=0, atol=1e-5)


def test_a_damaged_file_of_weights_is_refused(tmp_path: Path) -> None:
    data = dlib_model(FILE_NAME).read_bytes()
    (tmp_path / "cut.dat").write_bytes(data[:9_999])
    with pytest.raises(UserError, match=r"cut\.dat ends at byte 9999, within conv2\.weight: it is truncated"):
        load_mmod(tmp_path / "cut.dat")
