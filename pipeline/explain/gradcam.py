"""Grad-CAM and Guided Grad-CAM for classes, for predicted numbers and for label distributions.

Source: Selvaraju et al., Grad-CAM, 2017, equations 1 and 2 (EmoSynthNet thesis, equation 3.1 and Figure 5.8);
the maps are computed by the package grad-cam.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from pytorch_grad_cam import GradCAM
from torch import Tensor, nn

from pipeline.core.errors import UserError
from pipeline.explain.activations import Guided, OutOfPlace
from pipeline.explain.targets import ClassScore, Target

Heat = npt.NDArray[np.float32]
Sign = Literal["positive", "negative", "both"]


class SignedGradCAM(GradCAM):  # type: ignore[misc]
    """Grad-CAM of what raises the target, of what lowers it, or of both together."""

    sign: Sign = "positive"

    def get_cam_image(self, *args: Any, **settings: Any) -> Any:
        """The weighted sum of the maps; what is negative in it is dropped afterwards."""
        heat = super().get_cam_image(*args, **settings)
        return {"positive": heat, "negative": -heat, "both": np.abs(heat)}[self.sign]


def grad_cam(
    network: nn.Module,
    images: Tensor,
    layer: str | None = None,
    target: Target | None = None,
    sign: Sign = "positive",
) -> Heat:
    """Where in each picture a network found what its output rests on.

    Parameters
    ----------
    network
        Any network with maps; it is run in evaluation mode and left in the mode it was in.
    images
        (N, C, H, W), as the network takes them.
    layer
        The name of the module whose maps are weighed; by default the last one that puts out maps.
    target
        What is explained: `ClassScore()`, the most probable class, if not given; `Value()` for regression,
        `Expectation(labels)` for label distributions.
    sign
        `positive` is what raises the target, as in the paper. A number such as an age is held up from both
        sides: `both` takes the size of the influence.

    Returns
    -------
    ndarray
        (N, H, W) float32, from 0 to 1 in each picture; all 0 where nothing has the wanted sign.

    Raises
    ------
    UserError
        If there is no such layer, or it puts out no maps.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
    >>> grad_cam(network, torch.rand(4, 1, 8, 8)).shape
    (4, 8, 8)
    """
    name = layer or last_maps(network, images)
    module = layer_of(network, name)
    with watched(network), SignedGradCAM(network, [module]) as cam, OutOfPlace():
        cam.sign = sign
        heat = cam(images, [target or ClassScore()] * len(images))
        if cam.activations_and_grads.activations[0].ndim != 4:
            raise UserError(f"layer {name!r} puts out no maps: choose a convolution or a block of them")
    return cast(Heat, np.asarray(heat, dtype=np.float32))


def guided_gradients(network: nn.Module, images: Tensor, target: Target | None = None) -> Heat:
    """The gradient of the target by every pixel, by guided backpropagation: (N, C, H, W).

    Parameters are those of `grad_cam`.
    """
    explained = target or ClassScore()
    pixels = images.detach().clone().requires_grad_()
    with watched(network), torch.enable_grad():
        with Guided():
            outputs = network(pixels)
            total = torch.stack([explained(output) for output in outputs]).sum()
        (gradient,) = torch.autograd.grad(total, pixels)
    return cast(Heat, gradient.float().cpu().numpy())


def seen_through(heat: Heat, gradients: Heat) -> Heat:
    """Guided Grad-CAM: gradients (N, C, H, W) where heat (N, H, W) lets them through, their product."""
    return heat[:, None] * gradients


@contextmanager
def watched(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, with gradients for the parameters and without any left behind."""
    training = network.training
    frozen = [parameter for parameter in network.parameters() if not parameter.requires_grad]
    kept = [(parameter, parameter.grad) for parameter in network.parameters()]
    for parameter in frozen:
        parameter.requires_grad_(True)  # maps of a frozen network would have no gradient to watch
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
        for parameter, gradient in kept:
            parameter.grad = gradient
        network.train(training)


def layer_of(network: nn.Module, name: str) -> nn.Module:
    """A module by its name; for a wrong one, the parts of what the name's beginning leads to are named.

    Examples
    --------
    >>> layer_of(nn.ModuleDict({"parts": nn.Sequential(nn.ReLU(), nn.Linear(2, 1))}), "nope")
    Traceback (most recent call last):
        ...
    pipeline.core.errors.UserError: the network has no layer 'nope': its parts are parts.0, parts.1
    """
    modules: dict[str, nn.Module] = dict(network.named_modules(remove_duplicate=False))
    if name in modules:
        return modules[name]
    inside = name
    while inside not in modules:
        inside = inside.rpartition(".")[0]
    children = list(dict(modules[inside].named_children()))
    while len(children) == 1:  # a wrapper says nothing
        inside = f"{inside}.{children[0]}".lstrip(".")
        children = list(dict(modules[inside].named_children()))
    if not children:
        raise UserError(f"the network has no layer {name!r}: {inside!r} has no parts")
    parts = ", ".join(f"{inside}.{child}".lstrip(".") for child in children)
    raise UserError(f"the network has no layer {name!r}: its parts are {parts}")


def last_maps(network: nn.Module, images: Tensor, smallest: int = 2) -> str:
    """The name of the last module whose maps have so many rows and columns, and which runs only once."""
    order: list[str] = []
    wide: set[str] = set()

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            order.append(name)
            if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) >= smallest:
                wide.add(name)

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in network.named_modules() if name]
    try:
        with watched(network), torch.no_grad():
            network.eval()(images[:1])
    finally:
        for handle in handles:
            handle.remove()
    found = [name for name in order if name in wide and order.count(name) == 1]
    if not found:
        raise UserError("the network puts out no maps anywhere: Grad-CAM needs a convolution")
    return found[-1]
