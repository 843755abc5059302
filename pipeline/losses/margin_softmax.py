"""Softmax losses with a margin: the target's score is lowered while a network trains.

Equation numbers are those of the EmoSynthNet thesis. Two kinds:

- on scores, (N, C): `SoftMarginSoftmaxLoss` and `MAMSoftmaxLoss` stand where cross-entropy stands;
- on features, (N, D): the losses on angles own the last layer, whose weights must be free of bias and
  normalised. A network puts out D features, and the loss is trained with it (`loss.parameters()`);
  `loss.logits(features)` are the scores to predict with. The arithmetic is pytorch-metric-learning's.
"""

import math
from abc import abstractmethod
from typing import Literal

import torch
from pytorch_metric_learning.losses import (
    ArcFaceLoss,
    CosFaceLoss,
    LargeMarginSoftmaxLoss,
    SphereFaceLoss,
)
from pytorch_metric_learning.reducers import DoNothingReducer
from torch import Tensor

from pipeline.core.errors import UserError
from pipeline.losses.class_losses import ClassificationLoss, of_target, one_hot


class ScoreMarginLoss(ClassificationLoss):
    """Cross-entropy after a margin is taken from the score of the sample's own class."""

    @abstractmethod
    def margin(self, logits: Tensor) -> Tensor:
        """How much each sample's target loses, (..., N) for scores (..., N, C)."""

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """-ln of the target's probability under its margin, by log-sum-exp."""
        lowered = output - one_hot(target, output) * self.margin(output).unsqueeze(-1)
        return -of_target(lowered.log_softmax(-1), target)


class SoftMarginSoftmaxLoss(ScoreMarginLoss):
    """The same margin for every sample (equations 2.19 to 2.21, 4.13).

    Source: Liang et al., Soft-margin softmax for deep classification, 2017.

    Examples
    --------
    >>> SoftMarginSoftmaxLoss(margin=1.0)(torch.tensor([[0.0, 1.0]]), torch.tensor([1]))
    tensor(0.6931)
    """

    def __init__(self, margin: float = 0.5, classes: int | None = None) -> None:
        super().__init__(classes)
        self.constant = not_negative("margin", margin)

    def margin(self, logits: Tensor) -> Tensor:
        """The constant."""
        return torch.full_like(logits[..., 0], self.constant)


class MAMSoftmaxLoss(ScoreMarginLoss):
    """Maximised adaptable margin: the further a sample's largest score is ahead, the larger its margin.

    Source: equations 4.14 to 4.16 and the algorithm of Figure 4.1, which differ: choose by `form`. Scores
    are first shifted to a mean of zero over the classes (the thesis's prior normalisation), so that the loss
    is as blind to a common shift as the softmax is, and margins are never negative. With x so shifted:

    - `equations`: ln(max x + initial), kept within 0 and `maximum`;
    - `algorithm`: ln(mean exp x + ln(1 + m)), where m is max x + initial, kept within 0 and `maximum`.
      This margin grows with the scores without bound, and is never quite 0.

    Parameters
    ----------
    initial
        The thesis's epsilon, 0.2.
    maximum
        The upper end of the clipping, 4. In `equations` 0 makes it plain cross-entropy.
    form
        Which of the two.
    classes
        How many there are; None leaves it to the scores.

    Examples
    --------
    Mean 0 and maximum 3 give the margin ln 3.2:

    >>> loss = MAMSoftmaxLoss()
    >>> loss.margin(torch.tensor([[3.0, -1.0, -2.0]]))
    tensor([1.1632])
    >>> loss(torch.tensor([[3.0, -1.0, -2.0]]), torch.tensor([0]))
    tensor(0.0771)
    """

    def __init__(
        self,
        initial: float = 0.2,
        maximum: float = 4.0,
        form: Literal["equations", "algorithm"] = "equations",
        classes: int | None = None,
    ) -> None:
        super().__init__(classes)
        self.initial = not_negative("initial", initial)
        self.maximum = not_negative("maximum", maximum)
        if form not in ("equations", "algorithm"):
            raise UserError(f"MAM-SoftMax has no form {form!r}: choose equations or algorithm")
        self.form = form

    def margin(self, logits: Tensor) -> Tensor:
        """The margin M_v of each sample."""
        centred = logits - logits.mean(-1, keepdim=True)
        upper = centred.amax(-1) + self.initial
        if self.form == "equations":
            # from 1 on, where the logarithm leaves zero; below, the clipping would cut it off
            return upper.clamp_min(1).log().clamp_max(self.maximum)
        bounded = upper.clamp(0, self.maximum).log1p()
        mean_exp = centred.logsumexp(-1) - math.log(logits.shape[-1])
        return torch.logaddexp(mean_exp, bounded.clamp_min(torch.finfo(bounded.dtype).tiny).log())


class FeatureMarginLoss(ClassificationLoss):
    """A margin on the angle between features (N, D) and the class vectors, (D, C), that the loss owns.

    Parameters
    ----------
    classes, features
        C and D.
    inner
        The loss of pytorch-metric-learning that does the arithmetic; `inner.W` are the class vectors.
    """

    def __init__(self, classes: int, features: int, inner: LargeMarginSoftmaxLoss) -> None:
        super().__init__(classes)
        self.features = features
        self.inner = inner
        self.inner.reducer = DoNothingReducer()  # the mean over samples is `Loss`'s

    @property
    def outputs(self) -> int | None:
        """The number of features."""
        return self.features

    def logits(self, output: Tensor) -> Tensor:
        """Scaled cosines (or products) of features and class vectors, (N, C), without the margin."""
        output = self._checked(output)
        scores: Tensor = self.inner.get_logits(output.to(self.inner.W.dtype))
        return scores

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of each sample."""
        losses: Tensor = self.inner(self._checked(output), target.long())["loss"]["losses"]
        return losses

    def _checked(self, output: Tensor) -> Tensor:
        if output.ndim != 2 or output.shape[1] != self.features:
            raise ValueError(f"features have shape {tuple(output.shape)}, not (N, {self.features})")
        return output


class LSoftmaxLoss(FeatureMarginLoss):
    """The angle to the own class, times a whole number (equation 2.18); lengths count, as in the softmax.

    Source: Liu et al., Large-margin softmax loss for convolutional neural networks, 2016. With margin 1 it
    is cross-entropy without a bias.
    """

    def __init__(self, classes: int, features: int, margin: int = 2) -> None:
        inner = LargeMarginSoftmaxLoss(classes, features, margin=whole_margin(margin))
        super().__init__(classes, features, inner)


class ASoftmaxLoss(FeatureMarginLoss):
    """As `LSoftmaxLoss`, with class vectors of length 1 (equations 2.15 and 2.22).

    Source: Liu et al., SphereFace, 2017.
    """

    def __init__(self, classes: int, features: int, margin: int = 2) -> None:
        super().__init__(classes, features, SphereFaceLoss(classes, features, margin=whole_margin(margin)))


class AMSoftmaxLoss(FeatureMarginLoss):
    """A constant taken from the cosine to the own class: s (cos theta - margin) (equation 2.23).

    Source: Wang et al., Additive margin softmax for face verification, 2018.

    Examples
    --------
    >>> loss = AMSoftmaxLoss(classes=10, features=64)
    >>> features = torch.ones(5, 64)
    >>> loss.logits(features).shape, bool(loss(features, torch.arange(5)) > 0)
    (torch.Size([5, 10]), True)
    """

    def __init__(self, classes: int, features: int, margin: float = 0.35, scale: float = 30.0) -> None:
        cosine = CosFaceLoss(
            classes, features, margin=not_negative("margin", margin), scale=checked_scale(scale)
        )
        super().__init__(classes, features, cosine)


class LMCLLoss(AMSoftmaxLoss):
    """Large margin cosine loss (equations 2.28, 2.29): `AMSoftmaxLoss` with the scale of its own paper.

    Source: Wang et al., CosFace, 2018.
    """

    def __init__(self, classes: int, features: int, margin: float = 0.35, scale: float = 64.0) -> None:
        super().__init__(classes, features, margin, scale)


class DoubleMarginSoftmaxLoss(AMSoftmaxLoss):
    """A margin taken from the own cosine and given to all others (equations 2.30 and 2.31).

    Source: Zhou et al., reference [63] of the thesis. A softmax sees differences only, so this is
    `AMSoftmaxLoss` with twice the margin.
    """

    def __init__(self, classes: int, features: int, margin: float = 0.2, scale: float = 30.0) -> None:
        super().__init__(classes, features, 2 * margin, scale)


class AAMSoftmaxLoss(FeatureMarginLoss):
    """A constant added to the angle to the own class: s cos(theta + margin) (equations 2.24 to 2.26).

    Source: Deng et al., ArcFace, 2019. Beyond pi - margin the cosine would rise again; there the target's
    score is cos(theta) - margin sin(margin), which goes on falling.

    Parameters
    ----------
    margin
        In radians, at most a right angle.
    """

    def __init__(self, classes: int, features: int, margin: float = 0.5, scale: float = 30.0) -> None:
        if not 0 <= margin <= math.pi / 2:
            raise UserError(f"margin {margin:g} of AAM-Softmax: it must be from 0 to pi / 2 (in radians)")
        inner = SmoothArcFace(classes, features, margin=math.degrees(margin), scale=checked_scale(scale))
        super().__init__(classes, features, inner)


class SmoothArcFace(ArcFaceLoss):  # type: ignore[misc]
    """ArcFace whose slope stays finite where a feature points exactly along its class vector."""

    def get_angles(self, cosine_of_target_classes: Tensor) -> Tensor:
        """Angles in radians; the arc cosine has no slope at its ends."""
        end = 1 - 2 * torch.finfo(cosine_of_target_classes.dtype).eps
        return cosine_of_target_classes.clamp(-end, end).acos()


class DAMSoftmaxLoss(FeatureMarginLoss):
    """A larger margin for samples further from their class: s (cos - margin exp(1 - cos) / decay).

    Source: Zhou et al., Dynamic margin softmax loss for speaker verification, 2020, whose settings are the
    defaults; the thesis describes it in Figure 2.11 without a formula.
    """

    def __init__(
        self, classes: int, features: int, margin: float = 0.2, decay: float = 2.0, scale: float = 30.0
    ) -> None:
        if decay <= 0:
            raise UserError(f"decay {decay:g} of DAM-Softmax: it must be above 0")
        strength = not_negative("margin", margin) / decay
        super().__init__(
            classes, features, DynamicCosine(classes, features, margin=strength, scale=checked_scale(scale))
        )


class DynamicCosine(CosFaceLoss):  # type: ignore[misc]
    """CosFace with a margin that depends on the cosine."""

    def modify_cosine_of_target_classes(self, cosine_of_target_classes: Tensor) -> Tensor:
        """The cosines less their margins."""
        margins: Tensor = self.margin * (1 - cosine_of_target_classes).exp()
        return cosine_of_target_classes - margins


def not_negative(name: str, value: float) -> float:
    """A setting that may be 0."""
    if not value >= 0:
        raise UserError(f"{name} {value:g} of a margin softmax: it must not be negative")
    return value


def whole_margin(value: float) -> int:
    """A factor of angles."""
    if value != int(value) or value < 1:
        raise UserError(f"margin {value:g}: angles are multiplied by a whole number from 1")
    return int(value)


def checked_scale(value: float) -> float:
    """What cosines are multiplied by."""
    if not value > 0:
        raise UserError(f"scale {value:g} of a margin softmax: it must be above 0")
    return value
