"""FaceNet as facenet-pytorch publishes it: 160 x 160 pixels in, 512 numbers of unit length out."""

from functools import partial
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from facenet_pytorch import InceptionResnetV1
from torch import nn

from pipeline.backbones.framing import VERSION, frame
from pipeline.backbones.trunks import FACENET_LAYERS
from pipeline.backbones.views import View
from pipeline.backbones.weights import FACENET, facenet_file, load_into, read_state, verified_sha256
from pipeline.encoders.encoder import Precision, fingerprint
from pipeline.encoders.precision import resolve
from pipeline.encoders.torch_encoder import TorchEncoder, fold_batch_norm

SIZE, DIM = 160, 512


class Head(nn.Module):
    """Pooling, the last linear layer and its batch normalisation, unit length."""

    def __init__(self, network: InceptionResnetV1) -> None:
        super().__init__()
        self.last_linear = network.last_linear
        self.last_bn = network.last_bn

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Turn (N, 1792, 3, 3) features into (N, 512)."""
        return F.normalize(self.last_bn(self.last_linear(features.mean(dim=(2, 3)))), dim=1)


def facenet(
    *,
    margin: float = 0.25,
    view: View | None = None,
    precision: Precision = "fp32",
    compile: bool = False,
    pretrained: Literal["vggface2", "casia-webface"] = "vggface2",
    weights: str | None = None,
    sha256: str | None = None,
    download: bool = False,
) -> TorchEncoder:
    """Build FaceNet: InceptionResnetV1, its vectors as the network gives them, which is of unit length.

    Source: Schroff et al., FaceNet: A Unified Embedding for Face Recognition and Clustering, 2015; weights
    and network of facenet-pytorch, after David Sandberg's facenet.

    Parameters
    ----------
    margin, view
        The margin of the crops, and the view of them to take.
    precision, compile
        See `TorchEncoder`; `auto` is bfloat16 where the hardware has it.
    pretrained
        What it was trained on.
    weights
        A local file; None is the file published for `pretrained`, in torch hub's cache or
        facenet-pytorch's.
    sha256
        What the file must hash to; None is the published file's own, and for a local file anything. The
        fingerprint carries the hash in any case.
    download
        Fetch the published file if it is not there.

    Raises
    ------
    UserError
        When the file is missing, damaged, another one or of another network.
    """
    view = view or View()
    path = facenet_file(pretrained, weights, download=download)
    expected = sha256 or (FACENET[pretrained].sha256 if weights is None else None)
    found = verified_sha256(path, expected)
    return TorchEncoder(
        name="facenet",
        dim=DIM,
        size=SIZE,
        identify=partial(
            fingerprint,
            f"facenet-{pretrained}",
            found,
            SIZE,
            VERSION,
            view=view,
            margin=None if view.padding is None else margin,
        ),
        load=partial(load, path),
        prepare=lambda images, _: frame(images, view, margin, SIZE),
        mean=(127.5, 127.5, 127.5),
        scale=128.0,
        precision=resolve(precision),
        compile=compile,
    )


def load(path: Path) -> tuple[nn.Module, nn.Module]:
    """Read the weights into InceptionResnetV1, for inference."""
    state = {key: value for key, value in read_state(path).items() if not key.startswith("logits.")}
    with torch.device("meta"):  # no time spent on random weights that are replaced at once
        network = InceptionResnetV1()
    load_into(network, state, path)
    fold_batch_norm(network)
    return nn.Sequential(*(getattr(network, name) for name in FACENET_LAYERS)), Head(network)
