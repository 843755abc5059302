"""Near-duplicates across splits."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from pipeline.core.errors import UserError
from pipeline.datasets import leaks as module
from pipeline.datasets.leaks import leaks


def example(seed: int = 0) -> tuple[np.ndarray, list[str], list[str]]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(90, 6)).astype(np.float32) + 3
    vectors[50:60] = vectors[:10] * rng.uniform(0.999, 1.001, (10, 6)).astype(np.float32)
    ids = [f"{n * 7919 % 1000:03d}" for n in range(90)]
    return vectors, ids, [("train", "validation", "test")[n % 3] for n in range(90)]


def slowly(
    vectors: np.ndarray, ids: list[str], splits: list[str], threshold: float, centre: bool
) -> list[tuple]:
    moved = vectors.astype(np.float64) - (vectors.astype(np.float64).mean(0) if centre else 0)
    found = []
    for i, j in itertools.combinations(sorted(range(len(ids)), key=ids.__getitem__), 2):
        cosine = moved[i] @ moved[j] / np.sqrt((moved[i] @ moved[i]) * (moved[j] @ moved[j]))
        if splits[i] != splits[j] and cosine >= threshold:
            found.append((ids[i], splits[i], ids[j], splits[j], cosine))
    return sorted(found, key=lambda pair: (pair[0], pair[2]))


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("block", [7, 4096])
def test_finds_what_a_plain_loop_finds(centre: bool, block: int) -> None:
    vectors, ids, splits = example()
    expected = slowly(vectors, ids, splits, 0.95, centre)
    table = leaks(vectors, ids, splits, 0.95, centre=centre, block=block)
    found = sorted((tuple(row.values()) for row in table.to_pylist()), key=lambda pair: (pair[0], pair[2]))
    assert len(expected) > 5
    assert [pair[:4] for pair in found] == [pair[:4] for pair in expected]
    assert np.allclose([pair[4] for pair in found], [pair[4] for pair in expected], atol=2e-6)


def test_the_most_alike_come_first_and_blocks_and_order_change_nothing() -> None:
    vectors, ids, splits = example()
    table = leaks(vectors, ids, splits, 0.8)
    cosines = table["cosine"].to_pylist()
    assert cosines == sorted(cosines, reverse=True)
    assert leaks(vectors, ids, splits, 0.8, block=5).equals(table)
    order = np.random.default_rng(1).permutation(len(ids))
    shuffled = leaks(vectors[order], [ids[k] for k in order], [splits[k] for k in order], 0.8)
    assert shuffled.select(["face_id_a", "face_id_b"]).equals(table.select(["face_id_a", "face_id_b"]))


def test_every_encoder_must_find_a_pair_alike_however_long_its_vectors_are() -> None:
    short = np.array([[1, 0], [0, 1], [1, 0.1]], dtype=np.float32)
    long = np.array([[100, 1], [100, 1], [100, 2]], dtype=np.float32)
    both = np.concatenate([short, long], axis=1)
    ids, splits = ["p", "q", "r"], ["train", "test", "test"]
    whole = leaks(both, ids, splits, 0.99, centre=False)
    assert whole.num_rows == 2, "in the whole vector only the long part counts"
    table = leaks(both, ids, splits, 0.99, centre=False, widths=[2, 2])
    assert table["face_id_b"].to_pylist() == ["r"]
    assert table["cosine"].to_pylist() == pytest.approx([1 / np.sqrt(1.01)], abs=1e-6)


def test_blocks_are_counted_while_they_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []

    def watched(items: list, text: str, total: int) -> list:
        counted.append((text, total))
        return items

    monkeypatch.setattr(module, "track", watched)
    vectors, ids, splits = example()
    leaks(vectors, ids, splits, block=15)
    assert counted == [("looking for near-duplicates", 12)]


def test_takes_table_columns() -> None:
    vectors, ids, splits = example()
    columns = pa.table({"face_id": ids, "split": splits})
    assert leaks(vectors, columns["face_id"], columns["split"]).equals(leaks(vectors, ids, splits))


def test_equal_faces_in_one_split_are_no_leak() -> None:
    vectors, ids, _ = example()
    assert leaks(vectors, ids, ["train"] * len(ids), 0.5).num_rows == 0


def test_a_vector_of_zeros_is_alike_to_nothing() -> None:
    vectors = np.array([[0, 0], [1, 1], [0, 0]], dtype=np.float32)
    table = leaks(vectors, ["a", "b", "c"], ["train", "test", "test"], 0.5, centre=False)
    assert table.num_rows == 0


def test_refuses_vectors_that_are_not_finite() -> None:
    vectors = np.array([[0, 1], [np.nan, 1]], dtype=np.float32)
    with pytest.raises(UserError, match="the vector of face b is not finite"):
        leaks(vectors, ["a", "b"], ["train", "test"])


def test_refuses_a_threshold_that_nearly_all_pairs_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, ids, splits = example()
    monkeypatch.setattr(module, "MOST_PAIRS", 100)
    with pytest.raises(
        UserError, match="more than 100 pairs of faces have a cosine of -1: raise the threshold"
    ):
        leaks(vectors, ids, splits, -1.0)


def test_refuses_columns_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="2 vectors, 1 face_ids and 2 splits"):
        leaks(np.eye(2, dtype=np.float32), ["a"], ["train", "test"])
