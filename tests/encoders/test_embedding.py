import hashlib
import io
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.encoders import embedding
from pipeline.encoders.embedding import Count, embed, settle, vectors_of
from pipeline.encoders.store import VectorStore

SCHEMA = pa.schema(
    {
        "face_id": pa.string(),
        "crop_id": pa.string(),
        "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        "landmarks": pa.list_(pa.float32(), 10),
    }
)


@dataclass
class Means:
    """The mean colour, and the sum of the landmarks: what it was given can be read off the vector."""

    name: str = "means"
    dim: int = 4
    fingerprint: str = "means/1"
    calls: list[int] = field(default_factory=list)
    dies_at: int | None = None

    def encode(self, images, landmarks=None):
        if self.dies_at is not None and len(self.calls) >= self.dies_at:
            raise KeyboardInterrupt
        self.calls.append(len(images))
        total = np.full(len(images), -1.0) if landmarks is None else landmarks.sum(axis=(1, 2))
        return np.column_stack([images.mean(axis=(1, 2)), total]).astype(np.float32)


def crop(number, side=8, points=True):
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    landmarks = np.arange(10, dtype=np.float32) + number
    return {
        "face_id": f"{number:064x}",
        "crop_id": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "image": {"bytes": buffer.getvalue(), "path": None},
        "landmarks": landmarks.tolist() if points else None,
    }


def table(rows):
    return pa.Table.from_pylist(list(rows), SCHEMA)


def expected(number):
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return [*pixels.mean(axis=(0, 1)), (np.arange(10) + number).sum()]


def stored_bytes(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*.parquet")}


def test_every_crop_gets_its_own_vector(tmp_path):
    faces = table(crop(number) for number in range(25))
    counts = embed([faces.slice(0, 9), faces.slice(9)], [Means()], tmp_path, batch_size=4)
    assert counts == {"means/1": Count(encoded=25, found=0)}
    found = vectors_of(faces.column("crop_id").to_pylist(), [Means()], tmp_path)
    np.testing.assert_allclose(found, [expected(number) for number in range(25)], rtol=1e-5)


def test_adding_faces_encodes_only_them(tmp_path):
    faces = table(crop(number) for number in range(5010))
    embed([faces.slice(0, 5000)], [Means()], tmp_path, batch_size=500)
    encoder = Means()
    assert embed([faces], [encoder], tmp_path) == {"means/1": Count(encoded=10, found=5000)}
    assert sum(encoder.calls) == 10, "the five thousand that were there are not encoded again"


def test_adding_a_view_encodes_only_that_view(tmp_path, monkeypatch):
    faces = table(crop(number) for number in range(5))
    embed([faces], [Means()], tmp_path)
    old, new = Means(), Means(fingerprint="means/mirror")
    embed([faces], [old, new], tmp_path)
    assert (old.calls, new.calls) == ([], [5]), "each view has its own key"
    monkeypatch.setattr(embedding, "decode", lambda *_: pytest.fail("decoded for nothing"))
    embed([faces], [old, new], tmp_path)


def test_a_picture_is_decoded_once_for_all_encoders(tmp_path, monkeypatch):
    decoded = []
    real = embedding.decode
    monkeypatch.setattr(embedding, "decode", lambda key, data: decoded.append(key) or real(key, data))
    embed([table(crop(n) for n in range(7))], [Means(), Means(fingerprint="means/2")], tmp_path)
    assert len(decoded) == 7, "seven pictures, two encoders"


def test_the_store_does_not_depend_on_batches_workers_or_shards(tmp_path):
    faces = table(crop(number) for number in range(30))
    embed([faces], [Means()], tmp_path / "a", batch_size=30, workers=1)
    embed([faces.slice(20), faces.slice(0, 20)], [Means()], tmp_path / "b", batch_size=7, workers=3)
    assert stored_bytes(tmp_path / "a") == stored_bytes(tmp_path / "b"), "the same vectors, the same bytes"


def test_an_interrupted_run_keeps_what_it_encoded_and_ends_alike(tmp_path):
    faces = table(crop(number) for number in range(30))
    embed([faces], [Means()], tmp_path / "whole", batch_size=5)
    with pytest.raises(KeyboardInterrupt):
        embed([faces], [Means(dies_at=4)], tmp_path / "resumed", batch_size=5)
    encoder = Means()
    embed([faces], [encoder], tmp_path / "resumed", batch_size=5)
    assert sum(encoder.calls) == 10, "the four batches that were done are not done again"
    assert stored_bytes(tmp_path / "whole") == stored_bytes(tmp_path / "resumed"), "no trace of the break"


def test_from_files_only_row_groups_with_something_new_are_read(tmp_path, monkeypatch):
    faces = [crop(number) for number in range(12)]
    path = tmp_path / "00000.parquet"
    pq.write_table(table(faces), path, row_group_size=4, write_page_checksum=True)
    embed([table(faces[:9])], [Means()], tmp_path / "store")
    read = []
    real = pq.ParquetFile.read_row_group

    def spy(self, group, columns=None, **options):
        read.extend([group] if "image" in columns else [])
        return real(self, group, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spy)
    assert embed([path], [Means()], tmp_path / "store") == {"means/1": Count(encoded=3, found=9)}
    assert read == [2], "the pictures of the first two row groups stay on the disk"


def test_names_a_damaged_shard(tmp_path):
    path = tmp_path / "00000.parquet"
    pq.write_table(table(crop(n) for n in range(9)), path, compression="none", write_page_checksum=True)
    content = bytearray(path.read_bytes())
    place = content.index(b"IDAT")
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"00000\.parquet is damaged \(.*\): run the crop stage again"):
        embed([path], [Means()], tmp_path / "store")


def test_the_same_crop_twice_is_encoded_once(tmp_path):
    encoder = Means()
    faces = table([crop(1), crop(2), crop(1)])
    assert embed([faces, faces], [encoder], tmp_path, batch_size=1) == {"means/1": Count(encoded=2, found=0)}
    assert sum(encoder.calls) == 2, "two different crops"


def test_crops_without_landmarks_do_not_take_them_from_the_others(tmp_path):
    faces = table([crop(1), crop(2, points=False), crop(3)])
    embed([faces], [Means()], tmp_path)
    sums = vectors_of(faces.column("crop_id").to_pylist(), [Means()], tmp_path)[:, 3]
    assert sums.tolist() == [55, -1, 75], "a neighbour without landmarks changes nothing, and the reverse"


def test_names_the_crop_that_cannot_be_decoded_and_keeps_the_others(tmp_path):
    broken = crop(3)
    broken["image"]["bytes"] = broken["image"]["bytes"][:40]
    with pytest.raises(
        UserError, match=f"crop {broken['crop_id']} cannot be decoded .*run the crop stage again"
    ):
        embed([table([crop(1), crop(2), broken])], [Means()], tmp_path, batch_size=1)
    assert len(VectorStore(tmp_path, "means/1", 4)) == 2, "what was encoded before is stored"


def test_names_crops_of_different_sizes(tmp_path):
    with pytest.raises(UserError, match=r"differ in size, \(8, 8\) and \(9, 9\): run the crop stage again"):
        embed([table([crop(1), crop(2, side=9)])], [Means()], tmp_path)


def test_views_and_encoders_are_joined_in_their_order(tmp_path):
    faces = table(crop(number) for number in range(3))
    encoders = [Means(), Means(fingerprint="means/2"), Means(name="other", fingerprint="other/1")]
    embed([faces], encoders, tmp_path)
    ids = faces.column("crop_id").to_pylist()
    one = vectors_of(ids, encoders[:1], tmp_path)
    assert (vectors_of(ids, encoders, tmp_path) == np.hstack([one, one, one])).all(), "side by side"
    assert (vectors_of(ids[::-1], encoders, tmp_path, "average") == np.hstack([one, one])[::-1]).all(), (
        "two views averaged, then the other encoder, in the order of the crops asked for"
    )


def test_settling_tests_the_first_64_faces_and_keeps_the_order_of_encoders(tmp_path, monkeypatch):
    faces = table(crop(number) for number in range(70))
    shuffled = [faces.slice(40), faces.slice(0, 40)]
    encoders = [Means(name="b", fingerprint="b/1"), Means(name="a", fingerprint="a/1"), Means(name="b")]
    asked = []

    def choose(views, vectors, count):
        asked.append((views[0].name, len(views), count, vectors(views[0]).shape))
        return views, f"{views[0].name} said"

    monkeypatch.setattr(embedding, "choose_precision", choose)
    settled, sentences = settle(encoders, shuffled, tmp_path)
    assert asked == [("b", 2, 64, (64, 4)), ("a", 1, 64, (64, 4))], "every name once, with all its views"
    assert [e.name for e in settled] == ["b", "b", "a"], "views of one encoder stay together"
    assert sentences == ["b said", "a said"]
    settle(encoders, shuffled, tmp_path)
    assert len(VectorStore(tmp_path, "b/1", 4)) == 64, "the other six are not needed for the test"
    assert not VectorStore(tmp_path, "b/1", 4).missing(faces.column("crop_id").to_pylist()[:64]), (
        "the first in the order of face_id, wherever they lie"
    )
    assert sum(encoders[0].calls) == 64, "the second time its vectors are in the store"
