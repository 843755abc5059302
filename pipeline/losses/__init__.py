"""Losses, each an `nn.Module` called as `loss(output, target, weight=None)`.

Nothing heavy is imported before a loss is built: the classes (`from pipeline.losses import MSELoss`) are
found in the registry on first use.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import UserError
from pipeline.core.registry import Registry

if TYPE_CHECKING:
    from pipeline.losses.base import Loss

OF_VALUES = {
    "mse": "pipeline.losses.regression:MSELoss",
    "l1": "pipeline.losses.regression:L1Loss",
    "smooth_l1": "pipeline.losses.regression:SmoothL1Loss",
    "huber": "pipeline.losses.regression:HuberLoss",
    "smooth_huber": "pipeline.losses.regression:SmoothHuberLoss",
    "log_cosh": "pipeline.losses.regression:LogCoshLoss",
    "poisson": "pipeline.losses.regression:PoissonLoss",
    "msle": "pipeline.losses.regression:MSLELoss",
    "mape": "pipeline.losses.regression:MAPELoss",
    "mspe": "pipeline.losses.regression:MSPELoss",
    "label_distribution": "pipeline.losses.label_distribution:LabelDistributionLoss",
    "softmax": "pipeline.losses.label_distribution:SoftmaxLoss",
    "dldl": "pipeline.losses.label_distribution:DLDLLoss",
    "dldl_v2": "pipeline.losses.label_distribution:DLDLv2Loss",
    "mean_variance": "pipeline.losses.label_distribution:MeanVarianceLoss",
    "unimodal": "pipeline.losses.label_distribution:UnimodalLoss",
    "concentrated": "pipeline.losses.label_distribution:ConcentratedLoss",
    "unimodal_concentrated": "pipeline.losses.label_distribution:UnimodalConcentratedLoss",
    "softmax_concentrated": "pipeline.losses.label_distribution:SoftmaxConcentratedLoss",
    "unimodal_mean_variance": "pipeline.losses.label_distribution:UnimodalMeanVarianceLoss",
    "coral": "pipeline.losses.ordinal:CORALLoss",
    "corn": "pipeline.losses.ordinal:CORNLoss",
    "or_cnn": "pipeline.losses.ordinal:ORCNNLoss",
    "combo": "pipeline.losses.combo:ComboLoss",
    "pinball": "pipeline.losses.quantile:PinballLoss",
}
"""Losses of a number, or of a distribution over ordered labels: for seed stacks and networks on faces."""

OF_CLASSES = {
    "cross_entropy": "pipeline.losses.class_losses:CrossEntropyLoss",
    "one_hot_mse": "pipeline.losses.class_losses:OneHotMSELoss",
    "symmetric_cross_entropy": "pipeline.losses.symmetric_ce:SymmetricCrossEntropyLoss",
    "focal": "pipeline.losses.symmetric_ce:FocalLoss",
    "class_balanced": "pipeline.losses.symmetric_ce:ClassBalancedLoss",
    "dwb": "pipeline.losses.symmetric_ce:DWBLoss",
    "soft_margin_softmax": "pipeline.losses.margin_softmax:SoftMarginSoftmaxLoss",
    "mam_softmax": "pipeline.losses.margin_softmax:MAMSoftmaxLoss",
    "l_softmax": "pipeline.losses.margin_softmax:LSoftmaxLoss",
    "a_softmax": "pipeline.losses.margin_softmax:ASoftmaxLoss",
    "am_softmax": "pipeline.losses.margin_softmax:AMSoftmaxLoss",
    "aam_softmax": "pipeline.losses.margin_softmax:AAMSoftmaxLoss",
    "lmcl": "pipeline.losses.margin_softmax:LMCLLoss",
    "dam_softmax": "pipeline.losses.margin_softmax:DAMSoftmaxLoss",
    "double_margin_softmax": "pipeline.losses.margin_softmax:DoubleMarginSoftmaxLoss",
}
"""Losses of classes without an order: for the stage classify."""

REGISTRY: "Registry[Loss]" = Registry("loss", OF_VALUES | OF_CLASSES)

_CLASSES_ONLY = dict.fromkeys(OF_CLASSES, "it is for classes, which vec2age classify learns")
NOT_IN_A_STACK = {
    "coral": "its questions share one weight vector, and a stack's last layer has one for each: use or_cnn, "
    "the same formula without sharing, or corn",
    **_CLASSES_ONLY,
}
"""Why not to train a seed stack with: its last layer is linear and has a leading members dimension."""
NOT_IN_A_NETWORK = {
    "pinball": "heads of quantiles are built on vectors alone: use l1 for the median",
    **_CLASSES_ONLY,
}
"""Why not to train a network on faces with."""
NOT_IN_A_CLASSIFIER = dict.fromkeys(OF_VALUES, f"choose one of {', '.join(OF_CLASSES)}")
"""Why not to train a classifier with."""


def refuse(name: str, reasons: Mapping[str, str], what: str) -> None:
    """Refuse a loss for a training that cannot be done with it.

    Parameters
    ----------
    name
        Of the loss.
    reasons
        `NOT_IN_A_STACK`, `NOT_IN_A_NETWORK` or `NOT_IN_A_CLASSIFIER`.
    what
        Would be trained, for the message.

    Raises
    ------
    UserError
        With the reason.
    """
    if name in reasons:
        raise UserError(f"loss {name!r} cannot train {what}: {reasons[name]}")


def build(name: str, **settings: Any) -> "Loss":
    """Build a loss by name.

    Parameters
    ----------
    name
        A name of `REGISTRY`.
    settings
        The loss's own settings, by their names.

    Raises
    ------
    UserError
        For an unknown name or setting, or a setting that is missing.

    Examples
    --------
    >>> import torch
    >>> build("mse")(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    tensor(2.)
    >>> build("dldl_v2", labels=101, sigma=1.0).outputs
    101
    """
    return REGISTRY.build(name, **settings)


def __getattr__(name: str) -> Any:
    for place in REGISTRY.places.values():
        module, _, attribute = place.partition(":")
        if attribute == name:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
