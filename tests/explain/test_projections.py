import numpy as np
import pytest
from scipy.spatial import cKDTree

from pipeline.core.errors import UserError
from pipeline.explain.projections import project


def clusters(width=60):
    rng = np.random.default_rng(0)
    centres = 10 * rng.normal(size=(4, width))
    groups = np.repeat(np.arange(4), 20)
    return (centres[groups] + rng.normal(size=(80, width))).astype(np.float32), groups


@pytest.fixture
def uncompiled(monkeypatch):
    """UMAP's preparations as the Python that they are: to compile them takes ten times what 80 vectors do."""
    from umap import umap_

    for name in ("fast_knn_indices", "smooth_knn_dist", "compute_membership_strengths"):
        monkeypatch.setattr(umap_, name, getattr(umap_, name).py_func)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_what_is_near_stays_near_and_the_same_seed_gives_the_same_plane(method):
    vectors, groups = clusters()
    plane = project(vectors, method, seed=3, neighbours=8)
    assert plane.shape == (80, 2)
    assert plane.dtype == np.float32
    nearest = cKDTree(plane).query(plane, k=2)[1][:, 1]
    assert (groups[nearest] == groups).mean() > 0.95
    np.testing.assert_array_equal(plane, project(vectors, method, seed=3, neighbours=8))


def test_few_vectors_can_be_laid_out_and_fewer_are_refused():
    vectors, _ = clusters(3)
    assert project(vectors[:5]).shape == (5, 2)
    with pytest.raises(UserError, match="4 vectors are too few"):
        project(vectors[:4])


def test_broken_vectors_and_unknown_methods_are_named():
    vectors, _ = clusters(3)
    with pytest.raises(UserError, match="unknown projection 'pca'"):
        project(vectors, "pca")  # type: ignore[arg-type]
    vectors[7, 1] = np.nan
    with pytest.raises(UserError, match="vector 7 is not finite"):
        project(vectors)
