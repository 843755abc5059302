"""Whether heat maps tell the truth: cover where they are hot and where they are cold, and predict again."""

from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pipeline.core.errors import UserError
from pipeline.explain.gradcam import Heat, watched
from pipeline.explain.targets import Target, Value

Floats = npt.NDArray[np.float64]


class Effect(NamedTuple):
    """How far each picture's prediction moved when a part of it was covered; (N,) each."""

    hottest: Floats
    coldest: Floats


def covered(images: Tensor, heat: Heat, share: float = 0.25, hottest: bool = True) -> Tensor:
    """Pictures with their hottest or coldest part replaced by the picture's mean colour.

    Parameters
    ----------
    images
        (N, C, H, W).
    heat
        (N, H, W). Pixels equally hot are taken in the order of rows and columns.
    share
        Of the pixels; rounded to whole ones, and the same number in every picture.

    Examples
    --------
    >>> images = torch.tensor([[[[0.0, 4.0], [8.0, 0.0]]]])
    >>> heat = np.array([[[0.1, 0.2], [0.9, 0.3]]], dtype=np.float32)
    >>> covered(images, heat).tolist()
    [[[[0.0, 4.0], [3.0, 0.0]]]]
    """
    if heat.shape != (len(images), *images.shape[2:]):
        raise ValueError(f"heat has shape {heat.shape} for pictures of shape {tuple(images.shape)}")
    if not 0 < share < 1:
        raise UserError(f"share {share:g} of a picture to cover: it must be between 0 and 1")
    flat = heat.reshape(len(heat), -1)
    order = np.argsort(-flat if hottest else flat, axis=1, kind="stable")
    rows = torch.from_numpy(order[:, : max(1, round(share * flat.shape[1]))].copy())
    found = images.clone().flatten(2)
    means = images.flatten(2).mean(-1, keepdim=True)
    where = rows[:, None].expand(-1, images.shape[1], -1).to(images.device)
    found.scatter_(2, where, means.expand(-1, -1, rows.shape[1]))
    return found.view_as(images)


def effect_of_covering(
    network: nn.Module, images: Tensor, heat: Heat, target: Target | None = None, share: float = 0.25
) -> Effect:
    """How far the target moves when the hottest, and when the coldest part of every picture is covered.

    Parameters are those of `covered` and of `grad_cam`; the target is `Value()` if not given.
    """
    explained = target or Value()

    def values(pictures: Tensor) -> Floats:
        with torch.no_grad():
            outputs = network(pictures)
            found = torch.stack([explained(output) for output in outputs])
        return cast(Floats, found.double().cpu().numpy())

    with watched(network):
        network.eval()
        plain = values(images)
        hot, cold = (
            np.abs(values(covered(images, heat, share, hottest=hottest)) - plain) for hottest in (True, False)
        )
    return Effect(hot, cold)
