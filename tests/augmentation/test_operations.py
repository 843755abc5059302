import random
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from pipeline.augmentation.operation_settings import SETTINGS
from pipeline.augmentation.operations import FACTORIES, TABLE_1, Attempts, Operation, augment, draw
from pipeline.core.errors import UserError

FACE = Image.fromarray(astronaut()[20:180, 140:300]).resize((224, 224))


EYES = np.array([(130, 95), (110, 95), (70, 96), (90, 96), (100, 130)], np.float32)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.float64)


@pytest.mark.parametrize("name", FACTORIES)
def test_depends_on_the_seed_alone_and_keeps_size_and_original(name: str) -> None:
    before = FACE.tobytes()
    first = augment(FACE, [Operation(name)], 5)
    random.seed(99)
    np.random.seed(99)
    second = augment(FACE, [Operation(name)], 5)
    assert first.tobytes() == second.tobytes()
    assert first.size == FACE.size
    assert first.mode == "RGB"
    assert first.tobytes() != before
    assert FACE.tobytes() == before


@pytest.mark.parametrize("name", ["rotation", "distortion", "erasing"])
def test_random_operations_differ_by_seed(name: str) -> None:
    pictures = {augment(FACE, [Operation(name)], seed).tobytes() for seed in range(6)}
    assert len(pictures) >= 4


def test_gives_the_global_generators_back_even_after_an_error() -> None:
    random.seed(1)
    np.random.seed(1)
    expected = (random.random(), np.random.rand())
    random.seed(1)
    np.random.seed(1)
    augment(FACE, [Operation("distortion")], 3)
    with pytest.raises(AttributeError):
        augment(None, [Operation("distortion")], 3)  # type: ignore[arg-type]
    assert (random.random(), np.random.rand()) == expected


def test_another_process_draws_the_same_picture() -> None:
    code = (
        "import hashlib; from PIL import Image; from skimage.data import astronaut;"
        "from pipeline.augmentation.operations import Operation, augment;"
        "face = Image.fromarray(astronaut()[20:180, 140:300]).resize((224, 224));"
        "print(hashlib.sha256(augment(face, [Operation('distortion'), Operation('erasing')], 7)"
        ".tobytes()).hexdigest())"
    )
    import hashlib

    here = hashlib.sha256(augment(FACE, [Operation("distortion"), Operation("erasing")], 7).tobytes())
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here.hexdigest()


def test_operations_do_what_their_names_say() -> None:
    assert np.array_equal(pixels(augment(FACE, [Operation("flip")], 0)), pixels(FACE)[:, ::-1])
    assert pixels(augment(FACE, [Operation("brightness")], 0)).mean() > 1.3 * pixels(FACE).mean()
    assert pixels(augment(FACE, [Operation("contrast")], 0)).std() > 1.3 * pixels(FACE).std()
    spread = lambda image: np.ptp(pixels(image), axis=2).mean()  # noqa: E731
    assert spread(augment(FACE, [Operation("colour")], 0)) > 1.5 * spread(FACE)
    erased = (pixels(augment(FACE, [Operation("erasing")], 0)) != pixels(FACE)).any(axis=2)
    assert 0.01 * 0.9 <= erased.mean() <= 0.2**2
    zoomed = pixels(augment(FACE, [Operation("zoom")], 0))
    centre = pixels(FACE.resize((448, 448), Image.Resampling.BICUBIC).crop((112, 112, 336, 336)))
    assert np.abs(zoomed - centre).max() == 0


def test_a_probability_is_a_share_of_the_seeds() -> None:
    half = Operation("flip", probability=0.5)
    flipped = sum(augment(FACE, [half], seed).tobytes() != FACE.tobytes() for seed in range(200))
    assert 75 <= flipped <= 125


def test_a_chain_applies_its_operations_in_order() -> None:
    chain = [Operation("zoom"), Operation("brightness")]
    by_hand = augment(augment(FACE, chain[:1], 0), chain[1:], 0)
    assert augment(FACE, chain, 0).tobytes() == by_hand.tobytes()


def test_names_what_is_unknown_and_what_is_allowed() -> None:
    with pytest.raises(UserError, match="unknown augmentation 'flop': choose one of flip, brightness"):
        Operation("flop")
    with pytest.raises(UserError, match=r"'zoom' has no setting 'factor': it takes min_factor, max_factor"):
        Operation("zoom", settings={"factor": 2})
    with pytest.raises(UserError, match=r"has the probability 0.0: it must be above 0"):
        Operation("flip", probability=0.0)


def test_a_picture_depends_on_root_seed_face_operations_and_number_alone() -> None:
    chains = [(Operation("flip"),), (Operation("erasing"),), (Operation("zoom"), Operation("rotation"))]
    attempts = Attempts(7, "face", chains, max_tries=10)
    assert attempts(3, 4) == Attempts(7, "face", chains, max_tries=10)(3, 4)
    seeds = {attempts(slot, attempt)[2] for slot in range(10) for attempt in range(10)}
    assert len(seeds) == 100
    assert attempts(0, 0) != Attempts(8, "face", chains, max_tries=10)(0, 0)
    assert attempts(0, 0) != Attempts(7, "other", chains, max_tries=10)(0, 0)
    names = [attempts(slot, 0)[0] for slot in range(300)]
    assert all(70 <= names.count(name) <= 130 for name in set(names))
    assert len(set(names)) == 3
    in_turn = Attempts(7, "face", chains, max_tries=10, in_turn=True)
    assert [in_turn(slot, 0)[1] for slot in range(3)] == chains


def test_draws_every_way_of_a_crop_with_its_landmarks() -> None:
    ways = [([Operation("flip")], 1), ([Operation("erasing")], 2)]
    drawn, points = draw(np.asarray(FACE), EYES, ways)
    for picture, (operations, seed) in zip(drawn, ways, strict=True):
        assert np.array_equal(picture, np.asarray(augment(FACE, operations, seed)))
    assert points[0].tolist() == moved([Operation("flip")], 1).tolist() != EYES.tolist()
    assert np.array_equal(points[1], EYES)
    assert [array.shape for array in draw(np.asarray(FACE), EYES, [])] == [(0, 224, 224, 3), (0, 5, 2)]


def moved(operations: list[Operation], seed: int) -> np.ndarray:
    return draw(np.asarray(FACE), EYES, [(operations, seed)])[1][0]


def test_landmarks_go_where_zoom_and_mirror_take_them() -> None:
    assert moved([Operation("zoom")], 1) == pytest.approx(2 * EYES - 111.5, abs=1.0)
    flipped = moved([Operation("flip")], 1)
    assert flipped == pytest.approx((np.array([223, 0]) + EYES * [-1, 1])[[2, 3, 0, 1, 4]], abs=0.05)
    both = moved([Operation("flip"), Operation("zoom")], 1)
    assert both == pytest.approx(2 * flipped - 111.5, abs=1.0)


@pytest.mark.parametrize("name", ["brightness", "contrast", "colour", "erasing"])
def test_landmarks_stay_where_nothing_moves(name: str) -> None:
    assert np.array_equal(moved([Operation(name)], 3), EYES)


@pytest.mark.parametrize("name", ["rotation", "distortion", "zoom", "flip"])
def test_landmarks_go_where_marks_in_the_picture_go(name: str) -> None:
    """A spot painted at a landmark of a black picture is found where the landmark is said to be."""
    y, x = np.mgrid[0:224, 0:224]
    for seed in range(4):
        there = moved([Operation(name)], seed)
        order = [2, 3, 0, 1, 4] if name == "flip" else [0, 1, 2, 3, 4]
        for (px, py), said in zip(EYES[order], there, strict=True):
            spot = 255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 3.0**2))
            picture = Image.fromarray(np.repeat(spot[:, :, None], 3, axis=2).astype(np.uint8))
            seen = np.asarray(augment(picture, [Operation(name)], seed), float)[:, :, 0]
            found = np.array([(seen * x).sum(), (seen * y).sum()]) / seen.sum()
            # a distortion bends the spot, whose middle is then only nearly that of its pixels
            assert np.linalg.norm(found - said) < (2 if name == "distortion" else 0.2)


def test_following_landmarks_changes_no_picture() -> None:
    chain = [Operation("rotation"), Operation("distortion"), Operation("erasing")]
    (picture,), _ = draw(np.asarray(FACE), EYES, [(chain, 5)])
    assert np.array_equal(picture, np.asarray(augment(FACE, chain, 5)))


def test_every_operation_of_table_1_is_here() -> None:
    assert list(TABLE_1) == list(FACTORIES) == list(SETTINGS)


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("end", ["low", "high"])
def test_both_ends_of_every_range_can_be_drawn_of_the_smallest_crop(name: str, end: str) -> None:
    values = {key: float(getattr(setting, end)) for key, setting in SETTINGS[name].items()}
    small = FACE.resize((32, 32))
    for seed in range(3):
        assert augment(small, [Operation(name, settings=values)], seed).size == (32, 32)


def test_a_whole_number_may_be_written_as_a_float() -> None:
    coarse = Operation("distortion", settings={"grid_width": 5.0})
    assert (
        augment(FACE, [coarse], 1).tobytes()
        == augment(FACE, [Operation("distortion", settings={"grid_width": 5})], 1).tobytes()
    )
    assert coarse.label == "distortion(grid_width=5,grid_height=10,magnitude=8)"
