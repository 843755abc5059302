"""A loss as whole networks need it: for one target or several, on the targets' scale or between 0 and 1."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from pipeline import losses
from pipeline.core.errors import UserError
from pipeline.losses.base import Loss, TargetError
from pipeline.losses.combo import ComboLoss, ComboOutput
from pipeline.losses.labels import LabelledLoss
from pipeline.losses.ordinal import OrdinalLoss
from pipeline.losses.regression import PoissonLoss

Output = Tensor | ComboOutput
Span = tuple[float, float]


class Criterion(nn.Module):
    """A loss over K targets: the sum of the losses of each, as Hopenet sums those of its three angles.

    Parameters
    ----------
    loss
        From `pipeline.losses`, with its labels if it has any.
    targets
        K.
    span
        The loss compares outputs with (target - low) / (high - low), as for a sigmoid; None: with targets as
        they are.

    Examples
    --------
    >>> criterion = Criterion(losses.build("mse"), span=(0.0, 100.0))
    >>> criterion(torch.tensor([0.5]), torch.tensor([[30.0]]))
    tensor(0.0400)
    >>> criterion.prediction(torch.tensor([0.5]))
    tensor([[50.]])
    """

    def __init__(self, loss: Loss, targets: int = 1, span: Span | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.targets = targets
        self.span = span

    def each(self, output: Output) -> list[Output]:
        """The output for each target."""
        if self.targets == 1:
            return [output]
        together = cast(Tensor, output)
        return [together[:, k] for k in range(self.targets)]

    def scaled(self, targets: Tensor) -> Tensor:
        """Targets (N, K) as the loss compares them."""
        return targets if self.span is None else (targets - self.span[0]) / (self.span[1] - self.span[0])

    def forward(self, output: Output, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss of a batch, a scalar.

        Parameters
        ----------
        output
            What the network put out.
        targets
            (N, K), in their unit.
        weight
            (N,), one for each face.
        """
        wanted = self.scaled(targets)
        parts = [self.loss(part, wanted[:, k], weight) for k, part in enumerate(self.each(output))]
        return torch.stack(parts).sum()

    def prediction(self, output: Output) -> Tensor:
        """Predicted targets (N, K), in their unit."""
        values = torch.stack([self.loss.prediction(cast(Tensor, part)) for part in self.each(output)], dim=1)
        return values if self.span is None else values * (self.span[1] - self.span[0]) + self.span[0]

    def smooth_prediction(self, output: Output) -> Tensor:
        """Predicted targets (N, K) that gradients flow from.

        Ordinal losses predict by counting answers, which has no slope; here their distribution's expectation
        stands for it. All others as `prediction`.
        """
        if not isinstance(self.loss, OrdinalLoss):
            return self.prediction(output)
        probabilities, labels = self.probabilities(output), self.labels
        assert probabilities is not None, "ordinal losses are over labels"
        assert labels is not None, "ordinal losses are over labels"
        return probabilities @ torch.tensor(labels, dtype=probabilities.dtype, device=probabilities.device)

    def probabilities(self, output: Output) -> Tensor | None:
        """The predicted distributions (N, K, C); None for a loss that has none."""
        if not isinstance(self.loss, LabelledLoss):
            return None
        return torch.stack([self.loss.probabilities(cast(Tensor, p)) for p in self.each(output)], dim=1)

    @property
    def labels(self) -> list[float] | None:
        """The values that distributions are over."""
        held = self.loss.labels if isinstance(self.loss, LabelledLoss) else None
        return None if held is None else [float(value) for value in held]

    def starting_point(self, targets: Tensor) -> tuple[list[float], list[float]] | None:
        """Centre and spread (K,) of the outputs that stand for targets (N, K), so that training starts there.

        None where the loss compares them on a scale from 0 to 1, which needs no help.
        """
        if self.span is not None:
            return None
        mean, spread = targets.mean(0), targets.std(0, correction=0).clamp_min(1e-6)
        # Outputs of the Poisson loss are logarithms by default.
        if not isinstance(self.loss, LabelledLoss) and not torch.equal(
            self.loss.prediction(torch.ones(1)), torch.ones(1)
        ):
            mean, spread = mean.log(), spread / mean
        return mean.tolist(), spread.tolist()


def build_criterion(
    name: str,
    settings: Mapping[str, Any],
    train: Tensor,
    validation: Tensor,
    *,
    labels: Sequence[float] | None = None,
    span: Span | None = None,
    face_ids: Sequence[str] | None = None,
) -> tuple[Criterion, dict[str, Any]]:
    """Build a loss by name, with what was left to the targets filled in.

    Parameters
    ----------
    name, settings
        Of `pipeline.losses`.
    train, validation
        Targets (N, K) each. Labels cover both; what else a loss learns, such as the sizes of classes, it
        learns from training targets.
    labels
        Of losses over labels that have none in their settings; None: every whole number of the targets.
    span
        As for `Criterion`; losses over labels take targets as they are. Outputs between its ends are rates
        for the Poisson loss, not their logarithms: exp(0) to exp(1) would be one to e times the span.
    face_ids
        Of the training faces, then of the validation faces, for messages; None: rows are named.

    Returns
    -------
    Criterion, dict
        The settings are complete: with them the same loss can be built without the targets.

    Raises
    ------
    UserError
        For an unknown name or setting, a loss that is for vectors or classes alone, a setting that does not
        go with a span, or a target that the loss is not defined for.
    """
    losses.refuse(name, losses.NOT_IN_A_NETWORK, "a network on faces")
    complete = dict(settings)
    loss = losses.build(name, **complete)
    if isinstance(loss, PoissonLoss) and span is not None:
        if complete.setdefault("log_input", False):
            raise UserError(
                f"loss {name!r} has log_input: true, but between the ends of a span outputs are rates, not "
                "their logarithms: set log_input: false, or span: null"
            )
        loss = losses.build(name, **complete)
    if isinstance(loss, LabelledLoss):
        span = None
        if loss.outputs is None:
            complete["labels"] = list(labels) if labels is not None else whole_numbers(train, validation)
            loss = losses.build(name, **complete)
    if isinstance(loss, ComboLoss) and train.shape[1] > 1:
        raise UserError(f"loss {name!r} has two branches for one target: it cannot learn {train.shape[1]}")
    criterion = Criterion(loss, train.shape[1], span)
    check_targets(criterion, torch.cat([train, validation]), face_ids)
    learnt = loss.learn(criterion.scaled(train).flatten())
    if learnt:
        complete |= learnt
        criterion = Criterion(losses.build(name, **complete), train.shape[1], span)
    return criterion, complete


def check_targets(criterion: Criterion, targets: Tensor, face_ids: Sequence[str] | None = None) -> None:
    """Refuse targets (N, K) that a loss is not defined for, by their own value and face."""
    for given, wanted in zip(targets.T, criterion.scaled(targets).T, strict=True):
        try:
            criterion.loss.check_targets(wanted)
        except TargetError as error:
            row, low_high = error.row, criterion.span
            whose = f"in row {row}" if face_ids is None else f"of face {face_ids[row]}"
            scale = f", which is {wanted[row]:g} in the span {list(low_high)}" if low_high else ""
            raise UserError(f"target {given[row]:g} {whose}{scale}: {error.why}") from None


def whole_numbers(*targets: Tensor) -> list[float]:
    """Every whole number from the lowest to the highest target, at least two."""
    low = math.floor(min(float(some.min()) for some in targets))
    high = math.ceil(max(float(some.max()) for some in targets))
    return [float(value) for value in range(low, max(high, low + 1) + 1)]
