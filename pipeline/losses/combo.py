"""ComboLoss: a regression value and a distribution over classes, trained together.

Source: Xu and Xiang, ComboLoss for facial attractiveness analysis with squeeze-and-excitation networks, 2020.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.core.errors import UserError
from pipeline.losses.base import widened
from pipeline.losses.labels import LabelledLoss, Labels, nearest


class ComboOutput(NamedTuple):
    """What a network with ComboLoss's two branches puts out: `value` (..., N) and `logits` (..., N, C).

    Examples
    --------
    >>> both = ComboOutput(torch.tensor([3.5]), torch.tensor([[0.0, 1.0]]))
    >>> both.packed(), ComboOutput.unpacked(both.packed()).value
    (tensor([[3.5000, 0.0000, 1.0000]]), tensor([3.5000]))
    """

    value: Tensor
    logits: Tensor

    def packed(self) -> Tensor:
        """Both side by side in one tensor (..., N, 1 + C), the value first.

        Raises
        ------
        ValueError
            If their shapes do not belong together; both are named.
        """
        if self.value.shape != self.logits.shape[:-1]:
            raise ValueError(
                f"value has shape {tuple(self.value.shape)} and logits {tuple(self.logits.shape)}: "
                "not (N,) and (N, C)"
            )
        return torch.cat([self.value.unsqueeze(-1), self.logits], -1)

    @classmethod
    def unpacked(cls, output: Tensor) -> "ComboOutput":
        """What `packed` joined, or what a single last layer of 1 + C units puts out."""
        return cls(output[..., 0], output[..., 1:])


class ComboLoss(LabelledLoss):
    """alpha |value - target| + beta |expectation - target| + gamma times the weighted cross-entropy.

    The expectation is compared with the ground truth, as section 2.1 says and the published code does;
    equation 5 has the regression's output in its place. The paper reports the regression's output, which is
    the prediction here; `expectation` gives the other branch's.

    Parameters
    ----------
    labels
        The values of the C classes, which their expectation is made of; as for every loss over labels.
    alpha, beta, gamma
        Weights of regression, expectation and classification.
    edges
        The C - 1 borders between classes, ascending; a target on a border belongs to the class below. None:
        the class of the nearest label, which for whole numbers is ceil(target - 1/2), as for SCUT-FBP.
    class_weights
        One per class. None: those of equation 6, once `learn` has seen the training targets, and 1 without.

    Notes
    -----
    Called with a `ComboOutput`, or with one tensor (..., N, 1 + C) that holds both, the value first.

    Raises
    ------
    UserError
        If labels, edges and class weights do not belong together.

    Examples
    --------
    >>> loss = ComboLoss(labels=[1.0, 2.0, 3.0])
    >>> loss(ComboOutput(torch.tensor([2.5]), torch.zeros(1, 3)), torch.tensor([2.0]))
    tensor(2.0986)
    >>> loss.learn(torch.tensor([1.0, 2.0, 2.0, 2.4, 3.0, 3.0]))
    {'class_weights': [3.0, 1.0, 1.5]}
    """

    edges: Tensor | None
    class_weights: Tensor | None

    def __init__(
        self,
        labels: Labels = None,
        alpha: float = 2.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        edges: Sequence[float] | None = None,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(labels)
        self.alpha, self.beta, self.gamma = alpha, beta, gamma
        borders = None if edges is None else torch.as_tensor(edges, dtype=torch.float32)
        if borders is not None and not (borders.diff() > 0).all():
            raise UserError(f"edges {list(map(float, borders))}: give them in ascending order")
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        if self.labels is not None:
            count = len(self.labels)
            if borders is not None and len(borders) != count - 1:
                raise UserError(f"{len(borders)} edges for {count} labels: give one less than labels")
            if weights is not None and len(weights) != count:
                raise UserError(f"{len(weights)} class weights for {count} labels: give one for each")
        self.register_buffer("edges", borders, persistent=False)
        self.register_buffer("class_weights", weights, persistent=False)

    @property
    def outputs(self) -> int | None:
        """One more than there are labels, None while these are left to the outputs."""
        return None if self.labels is None else 1 + len(self.labels)

    def classes(self, labels: Tensor, target: Tensor) -> Tensor:
        """The position of each target's class (section 2.2)."""
        if self.edges is None:
            return nearest(labels, target)
        return torch.bucketize(target, self.edges.to(target.dtype))

    def learn(self, target: Tensor) -> dict[str, Any]:
        """The class weights of equation 6, where none were given: the largest class's size by each one's.

        A class without a training target is weighted as if it had one.
        """
        if self.class_weights is not None:
            return {}
        if self.labels is None:
            raise UserError("ComboLoss weighs its classes by their sizes and so needs its labels: give them")
        counts = torch.bincount(self.classes(self.labels, target.to(self.labels)), minlength=len(self.labels))
        weights = counts.max() / counts.clamp_min(1)
        return {"class_weights": [round(weight, 6) for weight in weights.tolist()]}

    def per_sample(self, output: Tensor | ComboOutput, target: Tensor) -> Tensor:
        """The loss of each sample; see the notes of the class."""
        return super().per_sample(packed(output), target)

    def forward(self, output: Tensor | ComboOutput, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The weighted mean over the samples, as for every loss."""
        return super().forward(packed(output), target, weight)

    def formula(self, output: Tensor, target: Tensor) -> Tensor:
        """The three terms."""
        value, logits = ComboOutput.unpacked(output)
        labels = self.values(logits.shape[-1], logits)
        log_p = logits.log_softmax(-1)
        classes = self.classes(labels, target)
        entropy = -log_p.gather(-1, classes.unsqueeze(-1)).squeeze(-1)
        if self.class_weights is not None:
            entropy = entropy * self.class_weights.to(entropy.dtype)[classes]
        expectation = (log_p.exp() * labels).sum(-1)
        return (
            self.alpha * (value - target).abs()
            + self.beta * (expectation - target).abs()
            + self.gamma * entropy
        )

    def probabilities(self, output: Tensor | ComboOutput) -> Tensor:
        """The softmax of the classification branch."""
        return ComboOutput.unpacked(packed(output)).logits.softmax(-1)

    def prediction(self, output: Tensor | ComboOutput) -> Tensor:
        """The value of the regression branch."""
        return ComboOutput.unpacked(packed(output)).value


def packed(output: Tensor | ComboOutput) -> Tensor:
    """Either form of an output as one tensor."""
    return widened(output.packed() if isinstance(output, ComboOutput) else output)
