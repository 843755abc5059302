"""Backbones by name, with the weights that they start from; nothing is fetched unless that is asked for."""

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from pipeline.backbones.trained import METADATA_KEY, read_trained
from pipeline.backbones.trunks import DlibTrunk, FacenetTrunk, TimmTrunk, Trunk, build_trunk
from pipeline.backbones.weights import (
    FACENET,
    efficientnet_lite0_file,
    facenet_file,
    is_state,
    load_into,
    read_state,
    read_torch,
    verified_sha256,
)
from pipeline.core.artifacts import LARGEST_ARRAYS, check_header
from pipeline.core.errors import UserError
from pipeline.core.files import utf8_name
from pipeline.core.tables import first_line
from pipeline.dlib.resnet import DlibResNet, load_dlib_weights

EMBEDDED = ("dlib", "efficientnet_lite0")
"""Backbones whose published weights a package carries: they start from those unless told otherwise."""
WRAPPERS = ("state_dict", "model")
PREFIXES = ("module.", "backbone.", "model.")


def build(
    name: str,
    *,
    pretrained: bool | str | None = None,
    weights: str | Path | None = None,
    sha256: str | None = None,
    download: bool = False,
    **settings: Any,
) -> Trunk:
    """Build a backbone and give it the weights that it starts from.

    Parameters
    ----------
    name
        As for `build_trunk`.
    pretrained
        False: random weights, drawn from torch's generator. True: the published ones, for timm's networks
        ImageNet's. For facenet also vggface2 or casia-webface. None: the published ones where a package
        carries them (dlib, efficientnet_lite0), random ones elsewhere.
    weights
        A local file in place of all that: a state dict of this network with or without its classifier (.pth
        or .safetensors, nothing in it is executed), or one that the stage finetune wrote.
    sha256
        What a local file must hash to; None is anything.
    download
        Published weights that are not on this machine may be fetched.
    settings
        The network's own, as for `build_trunk`.

    Raises
    ------
    UserError
        For an unknown name or setting; for weights that are missing, damaged, another's, or not there while
        downloading was not asked for.

    Examples
    --------
    >>> build("dlib").width
    256
    >>> build("resnet18", pretrained=True)
    Traceback (most recent call last):
        ...
    pipeline.core.errors.UserError: backbone 'resnet18': its published weights are not on this machine: ...
    """
    trunk = build_trunk(name, **settings)
    if weights is not None:
        load_local(trunk, name, Path(weights), sha256)
    elif pretrained if pretrained is not None else name in EMBEDDED:
        load_published(trunk, name, pretrained, download)
    return trunk


def load_published(trunk: Trunk, name: str, pretrained: bool | str | None, download: bool) -> None:
    """Give a trunk its published weights."""
    match trunk:
        case DlibTrunk():
            published = load_dlib_weights(DlibResNet(folded=trunk.network.folded)).state_dict()
            del published["fc.weight"]
            trunk.network.load_state_dict(published)
        case FacenetTrunk():
            kind = pretrained if isinstance(pretrained, str) else "vggface2"
            path = facenet_file(kind, download=download)
            verified_sha256(path, FACENET[kind].sha256)
            load_facenet(trunk, read_state(path), path)
        case TimmTrunk() if name == "efficientnet_lite0":
            path = efficientnet_lite0_file()
            # The file names its layers otherwise, but lists them in the same order; the classifier is last.
            state = dict(zip(trunk.network.state_dict(), read_state(path).values(), strict=False))
            load_into(trunk.network, state, path)
        case TimmTrunk():
            path = timm_file(trunk, name, download)
            load_timm(trunk, read_any(path), path)


def load_local(trunk: Trunk, name: str, path: Path, sha256: str | None) -> None:
    """Give a trunk the weights of a file."""
    verified_sha256(path, sha256)
    if isinstance(trunk, DlibTrunk) and path.suffix == ".dat":
        unfolded = DlibResNet(folded=False)
        loaded = load_dlib_weights(unfolded, path, sha256=None)
        state = (loaded.fold() if trunk.network.folded else loaded).state_dict()
        del state["fc.weight"]
        load_into(trunk.network, state, path)
        return
    if path.suffix == ".safetensors" and is_ours(path):
        trained = read_trained(path)
        if trained.described["backbone"] != name:
            raise UserError(f"{path} holds a network {trained.described['backbone']!r}, not {name!r}")
        load_into(trunk, trained.part("trunk"), path)
        return
    state = read_any(path)
    match trunk:
        case FacenetTrunk():
            load_facenet(trunk, state, path)
        case TimmTrunk():
            load_timm(trunk, state, path)
        case _:
            load_into(trunk.network, state, path)  # type: ignore[arg-type]


def load_facenet(trunk: FacenetTrunk, state: dict[str, Tensor], path: Path) -> None:
    """Load facenet-pytorch's weights, whose classifier is left out."""
    load_into(trunk.network, {key: t for key, t in state.items() if not key.startswith("logits.")}, path)


def load_timm(trunk: TimmTrunk, state: dict[str, Tensor], path: Path) -> None:
    """Load weights under timm's or torchvision's names into a network of timm; its classifier is left out."""
    network = trunk.network
    state = translated(state, network)
    classifiers = network.pretrained_cfg.get("classifier") or ()
    for classifier in (classifiers,) if isinstance(classifiers, str) else classifiers:
        for part in ("weight", "bias"):
            state.pop(f"{classifier}.{part}", None)
    load_into(network, state, path)


def translated(state: dict[str, Tensor], network: Any) -> dict[str, Tensor]:
    """A state dict under timm's names, as timm itself translates those of the network's first publisher."""
    module = sys.modules[type(network).__module__]
    translate = getattr(module, "checkpoint_filter_fn", getattr(module, "_filter_fn", None))
    if translate is None or set(network.state_dict()) <= set(state):
        return state
    takes_network = len(inspect.signature(translate).parameters) > 1
    renamed: dict[str, Tensor] = translate(state, network) if takes_network else translate(state)
    return renamed


def timm_file(trunk: TimmTrunk, name: str, download: bool) -> Path:
    """The file of a timm network's published weights, from the hub's cache or fetched.

    Raises
    ------
    UserError
        When it is not on this machine and may not be fetched, or cannot be.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    hub = trunk.network.pretrained_cfg.get("hf_hub_id")
    if not hub:
        raise UserError(f"backbone {name!r} has no published weights: set pretrained to false")
    file = "model.safetensors"
    cached = try_to_load_from_cache(hub, file)
    if isinstance(cached, str):
        return Path(cached)
    where = f"https://huggingface.co/{hub}/resolve/main/{file}"
    if not download:
        raise UserError(
            f"backbone {name!r}: its published weights are not on this machine: set download to true, or "
            f"fetch {where} and name it in weights, or set pretrained to false"
        )
    try:
        return Path(hf_hub_download(hub, file))
    except (OSError, HfHubHTTPError) as error:
        raise UserError(
            f"backbone {name!r}: {where} could not be fetched ({first_line(error)}): fetch it elsewhere and "
            "name it in weights"
        ) from error


def is_ours(path: Path) -> bool:
    """Whether the stage finetune wrote a file of safetensors."""
    check_header(path, LARGEST_ARRAYS, "name another file of weights")
    try:
        with utf8_name(path) as name, safe_open(name, framework="pt") as file:
            return METADATA_KEY in (file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable file of weights: {first_line(error)}") from error


def read_any(path: Path) -> dict[str, Tensor]:
    """A state dict from .safetensors or torch's format, out of the wrappings that training programs add."""
    if path.suffix == ".safetensors":
        check_header(path, LARGEST_ARRAYS, "name another file of weights")
        try:
            with utf8_name(path) as name:
                return load_file(name)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is not a readable file of weights: {first_line(error)}") from error
    state = read_torch(path)
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not is_state(state):
        raise UserError(f"{path} holds no state dict (a table of named tensors): it is another file")
    for prefix in PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return dict(state)
