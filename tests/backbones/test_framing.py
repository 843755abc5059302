import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from pipeline.backbones.framing import frame
from pipeline.backbones.views import View


@pytest.fixture(scope="module")
def crops():
    picture = astronaut()
    return np.stack([picture[:224, 100:324], picture[100:324, 200:424]])


def test_whole_crops_are_resized_as_pillow_does_it(crops):
    expected = np.stack([np.asarray(Image.fromarray(c).resize((160, 160), Image.BILINEAR)) for c in crops])
    difference = np.abs(frame(crops, View(), 0.25, 160).astype(int) - expected.astype(int))
    assert difference.max() <= 1, "bilinear with antialiasing, up to rounding"


@pytest.mark.parametrize(("padding", "first"), [(0.0, 37), (0.1, 22), (0.25, 0)])
def test_padding_shows_the_detected_box_and_so_much_around_it(padding, first):
    # Columns count themselves. With a margin of 0.25 the box is the middle 149 of 224 pixels.
    columns = np.broadcast_to(np.arange(224, dtype=np.uint8)[:, None], (1, 224, 224, 3)).copy()
    side = 224 - 2 * first
    seen = frame(columns, View(padding=padding), 0.25, side)
    assert seen[0, 0, :, 0].tolist() == list(range(first, first + side)), (
        "centred, of side (1 + 2p) / (1 + 2m)"
    )


def test_padding_beyond_the_crop_repeats_its_edge(crops):
    seen = frame(crops, View(padding=0.5), 0.25, 298)
    assert (seen[:, 37:-37, 37:-37] == crops).all(), "the crop lies in the middle"
    assert (seen[:, 37:-37, :37] == crops[:, :, :1]).all(), "its left edge is repeated outwards"


def test_mirror_flips_left_and_right(crops):
    assert (frame(crops, View(mirror=True), 0.25, 224) == crops[:, :, ::-1]).all(), "columns in reverse"


def test_a_crop_is_framed_alike_alone_and_among_others(crops):
    view = View(mirror=True, padding=0.1)
    together = frame(crops, view, 0.25, 160)
    assert (frame(crops[1:], view, 0.25, 160) == together[1:]).all(), "neighbours must not matter"


def test_no_crops_give_no_pictures():
    assert frame(np.empty((0, 224, 224, 3), np.uint8), View(), 0.25, 160).shape[0] == 0, "an empty batch"
