"""With a drawing and an encoder that are functions of their input, so that every outcome is known."""

from collections.abc import Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.augmentation.augmenting import GROUP, UNDER_WAY, Face, Kept, Tally, augment_faces
from pipeline.augmentation.similarity import cosine
from pipeline.core.seeds import derive_seed
from pipeline.encoders.stored import StoredEncoders


class Angle:
    """The vector of a picture is the unit vector at the angle, in degrees, of its first pixel."""

    name = "angle"
    dim = 2
    fingerprint = "angle/1"

    def __init__(self) -> None:
        self.seen: list[int] = []

    def encode(self, images: Any, landmarks: Any = None) -> Any:
        if landmarks is not None:  # each picture comes with those of its own face
            assert np.array_equal(landmarks[:, 4, 1], images[:, 1, 1, 0] * 256.0 + images[:, 1, 1, 1])
        angles = images[:, 0, 0, 0].astype(np.float64)
        self.seen += angles.astype(int).tolist()
        return np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], axis=1).astype(np.float32)


def draw(image: Any, landmarks: Any, ways: Sequence[tuple[int, int]]) -> Any:
    """Turn the face's angle by up to `most` degrees, as the seed says; the rest tells faces apart."""
    drawn = np.repeat(image[None], len(ways), axis=0)
    for picture, (most, seed) in zip(drawn, ways, strict=True):
        picture[0, 0, 0] += seed % (most + 1)
    return drawn, np.repeat(landmarks[None], len(ways), axis=0)


def picture(number: int) -> Any:
    image = np.zeros((2, 2, 3), np.uint8)
    image[1, 1] = [number // 256, number % 256, 7]
    return image


def faces(count: int, slots: int, most: int = 90) -> list[Face[int]]:
    def make(number: int) -> Face[int]:
        face_id = f"{number:04d}"
        return Face(
            face_id,
            picture(number),
            np.full((5, 2), number, np.float32),
            np.array([1, 0], np.float32),
            slots,
            lambda slot, attempt: (f"turn{most}", most, derive_seed(5, face_id, slot, attempt)),
        )

    return [make(number) for number in range(count)]


def run(
    store: Path, workers: Executor, count: int = 300, slots: int = 3, most: int = 90, tries: int = 50
) -> tuple[list[list[Kept]], Tally, Angle]:
    encoder, tally = Angle(), Tally()
    vectors = StoredEncoders([encoder], store)
    kept = list(
        augment_faces(
            faces(count, slots, most),
            draw,
            vectors,
            workers,
            min_similarity=np.cos(np.radians(60.5)),
            max_similarity=np.cos(np.radians(9.5)),
            max_tries=tries,
            tally=tally,
        )
    )
    return kept, tally, encoder


def rows(kept: list[list[Kept]]) -> list[tuple[str, str, float, bytes]]:
    return [(k.parent_id, k.key, k.similarity, k.vector.tobytes()) for face in kept for k in face]


def test_keeps_what_changed_enough_and_not_too_much(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as workers:
        kept, tally, _ = run(tmp_path, workers)
    assert [face[0].parent_id for face in kept] == [f"{i:04d}" for i in range(300)]
    assert all(len(face) == 3 for face in kept)
    for face in kept:
        for one in face:
            angle = round(np.degrees(np.arctan2(one.vector[1], one.vector[0])))
            assert 10 <= angle <= 60
            assert one.similarity == pytest.approx(np.cos(np.radians(angle)), abs=1e-6)
    assert tally.kept["turn90"] == 900
    assert {reason for _, reason in tally.rejected} == {"too_similar", "too_different", "repeated"}
    assert not +tally.unfilled


def test_one_face_never_gets_the_same_picture_twice(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as workers:
        kept, tally, _ = run(tmp_path, workers, count=20, slots=40, most=60, tries=400)
    for face in kept:
        assert len({one.key for one in face}) == len(face) == 40
    assert tally.rejected["turn60", "repeated"] > 0


def test_counts_what_cannot_be_filled(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as workers:
        kept, tally, _ = run(tmp_path, workers, count=5, slots=2, most=5, tries=4)
    assert kept == [[]] * 5
    assert tally.unfilled == {f"{i:04d}": 2 for i in range(5)}
    assert sum(tally.rejected.values()) == 5 * 2 * 4


def test_the_result_does_not_depend_on_workers_their_order_or_the_company(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as one:
        expected, tally, _ = run(tmp_path / "1", one)
    with ProcessPoolExecutor(2) as two:
        again, tally_again, _ = run(tmp_path / "2", two)
    assert rows(again) == rows(expected)
    assert tally_again == tally
    with ThreadPoolExecutor(1) as alone:
        few, _, _ = run(tmp_path / "3", alone, count=3)
    assert rows(few) == rows(expected)[:9]


def test_a_run_that_was_killed_encodes_only_what_it_had_not(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    class Breaking(ThreadPoolExecutor):
        left = 350

        def submit(self, *work: Any) -> Future[Any]:  # type: ignore[override]
            self.left -= 1
            if self.left < 0:
                raise Killed
            return super().submit(*work)

    with ThreadPoolExecutor(1) as workers:
        expected, _, whole = run(tmp_path / "whole", workers)
    with Breaking(1) as workers, pytest.raises(Killed):
        run(tmp_path / "broken", workers)
    with ThreadPoolExecutor(1) as workers:
        resumed, _, second = run(tmp_path / "broken", workers)
    assert rows(resumed) == rows(expected)
    assert 0 < len(second.seen) < len(whole.seen)
    with ThreadPoolExecutor(1) as workers:
        _, _, third = run(tmp_path / "broken", workers)
    assert third.seen == []


def test_memory_is_bounded_because_faces_are_taken_as_they_are_needed(tmp_path: Path) -> None:
    taken = 0

    def stream() -> Any:
        nonlocal taken
        for face in faces(2000, 1):
            taken += 1
            yield face

    with ThreadPoolExecutor(1) as workers:
        results = augment_faces(
            stream(),
            draw,
            StoredEncoders([Angle()], tmp_path),
            workers,
            min_similarity=-1,
            max_similarity=1,
            max_tries=1,
            tally=Tally(),
        )
        next(results)
        assert taken < 500


@pytest.mark.parametrize("keep_images", [True, False])
def test_memory_is_bounded_however_many_pictures_each_face_wants(tmp_path: Path, keep_images: bool) -> None:
    drawn = 0

    def counted(image: Any, landmarks: Any, ways: Sequence[tuple[int, int]]) -> Any:
        nonlocal drawn
        drawn += len(ways)
        pictures, points = draw(image, landmarks, ways)
        pictures[:, 0, 1, 0] = range(len(ways))  # no two alike, so that nothing is drawn twice
        pictures[:, 0, 1, 1:] = [[seed >> 8 & 255, seed >> 16 & 255] for _, seed in ways]
        return pictures, points

    with ThreadPoolExecutor(1) as workers:
        results = augment_faces(
            faces(300, 139),
            counted,
            StoredEncoders([Angle()], tmp_path),
            workers,
            min_similarity=-1.01,
            max_similarity=1.01,
            max_tries=1,
            tally=Tally(),
            keep_images=keep_images,
        )
        first = next(results)
        workers.submit(int).result()  # everything that was sent to the worker is drawn by then
        assert 139 <= drawn <= UNDER_WAY + 4 * GROUP < 12 * 139
        assert [one.image is None for one in first] == [not keep_images] * 139
        if keep_images:
            assert all(one.image is not None and one.image.base is None for one in first)


def test_a_vector_of_zeros_is_like_nothing_and_never_kept(tmp_path: Path) -> None:
    class Blank(Angle):
        def encode(self, images: Any, landmarks: Any = None) -> Any:
            return super().encode(images) * (images[:, 0, 0, 0] % 2)[:, None]

    tally = Tally()
    with ThreadPoolExecutor(1) as workers:
        kept = list(
            augment_faces(
                faces(30, 2),
                draw,
                StoredEncoders([Blank()], tmp_path),
                workers,
                min_similarity=-1,
                max_similarity=1,
                max_tries=20,
                tally=tally,
            )
        )
    assert tally.rejected["turn90", "no_direction"] > 10
    assert all(np.isfinite(one.similarity) and one.vector.any() for face in kept for one in face)


def test_every_encoder_is_asked_apart_however_long_its_vectors_are(tmp_path: Path) -> None:
    class Long(Angle):
        """Sees next to nothing of what the other one sees."""

        name, fingerprint = "long", "long/1"

        def encode(self, images: Any, landmarks: Any = None) -> Any:
            angles = np.radians(images[:, 0, 0, 0].astype(np.float64) / 1000)
            return 100 * np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    vectors, tally = StoredEncoders([Angle(), Long()], tmp_path), Tally()
    assert vectors.widths == [2, 2]
    both = [replace(face, vector=np.array([1, 0, 100, 0], np.float32)) for face in faces(50, 2)]
    limits = {"min_similarity": np.cos(np.radians(60.5)), "max_similarity": np.cos(np.radians(9.5))}
    with ThreadPoolExecutor(1) as workers:
        kept = list(augment_faces(both, draw, vectors, workers, **limits, max_tries=50, tally=tally))
    turns = [np.degrees(np.arctan2(one.vector[1], one.vector[0])) for face in kept for one in face]
    assert len(turns) == 100
    assert 9.5 < min(turns) < 20
    assert 50 < max(turns) < 60.5
    assert [one.similarity for face in kept for one in face] == pytest.approx(np.cos(np.radians(turns)))


def test_cosine_is_equation_1_on_raw_vectors() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50, 16)).astype(np.float32) * 7
    slow = [
        sum(float(x) * float(y) for x, y in zip(u, v, strict=True))
        / (sum(float(x) ** 2 for x in u) ** 0.5 * sum(float(y) ** 2 for y in v) ** 0.5)
        for u, v in zip(a, b, strict=True)
    ]
    assert np.allclose(cosine(a, b), slow, atol=1e-12)
    assert cosine(a, -a) == pytest.approx(-1)
