"""Encoders behind their stores: ask for vectors, and only what is missing is encoded."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.backbones.views import Images, Landmarks
from pipeline.encoders.encoder import Combine, Encoder, Vectors, combine, widths
from pipeline.encoders.store import VectorStore


class StoredEncoders:
    """Encoders and views as one function from crops to joined vectors that never encodes a crop twice.

    Parameters
    ----------
    encoders
        As `build_all` gives them.
    store_root
        Where the stores lie.
    how
        How an encoder's views are joined.
    """

    def __init__(self, encoders: Sequence[Encoder], store_root: Path, how: Combine = "concatenate") -> None:
        self.encoders = list(encoders)
        self.stores = [VectorStore(store_root, e.fingerprint, e.dim) for e in self.encoders]
        self.how = how
        self.widths = widths(self.encoders, how)
        self.encoded = 0

    def __call__(self, keys: Sequence[str], images: Images, landmarks: Landmarks | None = None) -> Vectors:
        """Give the vectors, (N, total width), of N different crops with these keys."""
        arrays: dict[str, list[Vectors]] = {}
        for encoder, store in zip(self.encoders, self.stores, strict=True):
            absent = set(store.missing(keys))
            new = [row for row, key in enumerate(keys) if key in absent]
            old = [row for row, key in enumerate(keys) if key not in absent]
            vectors = np.empty((len(keys), encoder.dim), dtype=np.float32)
            if new:
                vectors[new] = encoder.encode(images[new], None if landmarks is None else landmarks[new])
                store.append([keys[row] for row in new], vectors[new])
                self.encoded += len(new)
            if old:
                vectors[old] = store.read([keys[row] for row in old])
            arrays.setdefault(encoder.name, []).append(vectors)
        return combine(arrays, self.how)

    def read(self, keys: Sequence[str]) -> Vectors:
        """Give the vectors of crops that were all encoded before, (N, total width)."""
        arrays: dict[str, list[Vectors]] = {}
        for encoder, store in zip(self.encoders, self.stores, strict=True):
            arrays.setdefault(encoder.name, []).append(store.read(keys))
        return combine(arrays, self.how)

    def compact(self) -> None:
        """Merge the stores' small files; call once, when the work is done."""
        for store in self.stores:
            store.compact()
