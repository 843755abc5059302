"""Vectors and features on a plane: t-SNE and UMAP."""

from typing import Literal, cast

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from pipeline.core.errors import UserError

Points = npt.NDArray[np.float32]
Method = Literal["tsne", "umap"]
WIDEST = 50
"""Wider vectors are reduced to this many principal components first, as t-SNE's authors advise."""


def project(
    vectors: npt.NDArray[np.floating], method: Method = "tsne", seed: int = 0, neighbours: float = 30.0
) -> Points:
    """Lay vectors out on a plane so that near ones stay near.

    Source: van der Maaten and Hinton, Visualizing data using t-SNE, 2008 (Barnes-Hut, by scikit-learn);
    McInnes et al., UMAP, 2018 (by umap-learn). Distances between far groups mean little in either.

    Parameters
    ----------
    vectors
        (N, D), finite.
    method
        `tsne` or `umap`.
    seed
        The same seed gives the same plane.
    neighbours
        t-SNE's perplexity, or UMAP's number of neighbours; less for fewer vectors.

    Returns
    -------
    ndarray
        (N, 2) float32.

    Raises
    ------
    UserError
        If there are fewer than five vectors, or one is not finite.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> project(rng.normal(size=(20, 3))).shape
    (20, 2)
    """
    values = np.asarray(vectors, dtype=np.float32)
    if values.ndim != 2 or len(values) < 5:
        raise UserError(f"{len(values)} vectors are too few to lay out: five are needed")
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if broken.size:
        raise UserError(f"vector {broken[0]} is not finite: it cannot be laid out")
    if values.shape[1] > WIDEST and len(values) > WIDEST:
        values = PCA(WIDEST, random_state=seed).fit_transform(values).astype(np.float32)
    near = min(neighbours, (len(values) - 1) / 3)
    if method == "tsne":
        plane = TSNE(perplexity=near, init="pca", random_state=seed).fit_transform(values)
    elif method == "umap":
        from umap import UMAP  # numba takes seconds to come up

        plane = UMAP(n_neighbors=max(2, round(near)), random_state=seed, n_jobs=1).fit_transform(values)
    else:
        raise UserError(f"unknown projection {method!r}: choose tsne or umap")
    return cast(Points, np.asarray(plane, dtype=np.float32))
