"""The encoder `finetuned`: the pooled features of a network that the stage finetune trained."""

import copy
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from pipeline.backbones.input_transforms import VERSION, Look
from pipeline.backbones.trained import read_trained
from pipeline.backbones.trunks import Trunk
from pipeline.backbones.views import View
from pipeline.backbones.weights import verified_sha256
from pipeline.core.errors import UserError
from pipeline.encoders.encoder import Precision, fingerprint
from pipeline.encoders.precision import resolve
from pipeline.encoders.torch_encoder import TorchEncoder


class Maps(nn.Module):
    """A trunk up to its last maps."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, pixels: Tensor) -> Tensor:
        """See `Trunk.maps`."""
        return self.trunk.maps(pixels)


class Pool(nn.Module):
    """What follows the last maps in a trunk."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, maps: Tensor) -> Tensor:
        """See `Trunk.pool`."""
        return self.trunk.pool(maps)


def load(path: Path) -> tuple[nn.Module, nn.Module]:
    """The network as the part that may compute in half precision, and the part that never does."""
    trunk = read_trained(path).trunk()
    return Maps(trunk), Pool(copy.deepcopy(trunk))


def finetuned(
    *,
    margin: float = 0.25,
    view: View | None = None,
    precision: Precision = "fp32",
    compile: bool = False,
    weights: str | None = None,
    sha256: str | None = None,
) -> TorchEncoder:
    """Build an encoder of a network that the stage finetune trained.

    Parameters
    ----------
    margin, view
        The margin of the crops, and the view of them to take; without a padding of its own it is the one
        that the network was trained with.
    precision, compile
        See `TorchEncoder`.
    weights
        The file, such as models/cnn/dldl_v2/dlib/member0.safetensors.
    sha256
        What it must hash to; None is anything. The fingerprint carries the hash in any case.

    Raises
    ------
    UserError
        When no file is named, or it is missing, damaged or another one.
    """
    view = view or View()
    if weights is None:
        raise UserError("encoder finetuned needs the file of a network: name it in encoder.finetuned.weights")
    path = Path(weights)
    trained = read_trained(path, sha256)
    look = trained.look
    padding = look.padding if view.padding is None else view.padding
    look = Look(look.framing, look.size, padding, look.resize)
    return TorchEncoder(
        name="finetuned",
        dim=int(trained.described["width"]),
        size=look.size,
        identify=partial(
            fingerprint,
            f"finetuned-{trained.described['backbone']}-{look.framing}{look.resize or ''}",
            verified_sha256(path, sha256),
            look.size,
            VERSION,
            view=View(view.mirror, padding),
            margin=None if look.framing == "crop" and padding is None else margin,
        ),
        load=partial(load, path),
        prepare=partial(look.cut, margin=margin, mirror=view.mirror),
        mean=(0.0, 0.0, 0.0),  # the network's first layer takes pixels as they are
        scale=1.0,
        precision=resolve(precision),
        compile=compile,
    )
