"""Heat maps against what covering a part of a picture does."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.core.errors import UserError
from pipeline.explain.gradcam import grad_cam
from pipeline.explain.occlusion import covered, effect_of_covering
from pipeline.explain.targets import Value


def test_the_same_number_of_pixels_is_covered_with_the_mean_in_every_picture():
    rng = np.random.default_rng(0)
    images = torch.rand(4, 3, 10, 10)
    heat = rng.random((4, 10, 10)).astype(np.float32)
    heat[1] = 0.5
    found = covered(images, heat, share=0.25)
    changed = (found != images).any(dim=1)
    assert changed.sum((1, 2)).tolist() == [25] * 4
    hottest = heat[0] >= np.sort(heat[0].ravel())[-25]
    np.testing.assert_array_equal(changed[0].numpy(), hottest)
    torch.testing.assert_close(found[0, :, hottest][:, 0], images[0].mean((1, 2)))
    coldest = (covered(images, heat, share=0.25, hottest=False) != images).any(dim=1)
    assert not (coldest & changed)[0].any()


def test_where_all_of_the_prediction_comes_from_one_corner_covering_it_moves_all():
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(64, 1, bias=False))
    network[0].weight.data.fill_(1.0)
    network[2].weight.data.zero_()
    network[2].weight.data[0, :2] = 1.0
    images = torch.zeros(2, 1, 8, 8)
    images[:, :, 0, :2] = 1.0
    heat = grad_cam(network, images, target=Value())
    effect = effect_of_covering(network, images, heat, share=2 / 64)
    assert effect.hottest.tolist() == pytest.approx([2 - 2 * 2 / 64] * 2)
    assert effect.coldest.tolist() == [0.0, 0.0]


def test_shapes_and_shares_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="heat has shape"):
        covered(torch.zeros(1, 1, 4, 4), np.zeros((1, 3, 4), np.float32))
    with pytest.raises(UserError, match="share 1"):
        covered(torch.zeros(1, 1, 4, 4), np.zeros((1, 4, 4), np.float32), share=1.0)


FACES = os.environ.get("VEC2AGE_UTKFACE", "")


@pytest.mark.skipif(
    not FACES, reason="private faces: set VEC2AGE_UTKFACE to a folder of UTKFace's photographs"
)
def test_on_an_age_model_the_hottest_quarter_of_100_faces_matters_more_than_the_coldest():
    from bench.accuracy.gradcam_occlusion import age_model, measure, photographs
    from pipeline.metrics.distributions import mean_interval

    pictures, ages = photographs(Path(FACES), 400)
    hot, cold = measure(age_model(pictures[100:], ages[100:]), pictures[:100], "level4")
    assert hot.mean() > cold.mean()
    assert mean_interval(hot - cold).low > 0
