"""A trained classifier: it predicts, gives features, and is saved as one safetensors file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import numpy.typing as npt
import timm
import torch
from pydantic import Field
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

import pipeline.backbones.emosynthnet  # noqa: F401 - registers it with timm
from pipeline import losses
from pipeline.core.artifacts import Described, check_network_settings, described_as, read_arrays_of
from pipeline.core.errors import UserError
from pipeline.core.tables import atomic_file, first_line
from pipeline.losses.class_losses import ClassificationLoss
from pipeline.training.networks.arrays import Pictures, as_tensor

KEY = "vec2age_classifier"
Whole = Annotated[int, Field(gt=0, le=4096)]
BATCH = 256
DATA_SETTINGS = ("classes", "features", "counts")
"""Settings of losses that nobody writes down, because the data or the network tells them."""


@dataclass(frozen=True)
class Design:
    """What a classifier is, without its weights.

    Parameters
    ----------
    architecture, settings
        A name of timm's (`emosynthnet` among them), and what its constructor takes beside the colours and
        classes.
    loss, loss_settings
        A classification loss of `pipeline.losses`; `classes`, `features` and `counts` need not be given.
    classes
        The names of the classes, in the order of their numbers.
    size
        Height, width and colours of the pictures.
    counts
        Training pictures of every class.
    """

    architecture: str
    settings: Mapping[str, Any]
    loss: str
    loss_settings: Mapping[str, Any]
    classes: tuple[str, ...]
    size: tuple[int, int, int]
    counts: tuple[int, ...]

    def build(self) -> tuple[nn.Module, ClassificationLoss]:
        """The network and the loss, with weights drawn from torch's own generator.

        A loss that owns the last layer gets a network that ends in features.
        """
        settings = dict(self.settings)
        if self.architecture == "emosynthnet":
            settings.setdefault("img_size", self.size[0])
        if self.architecture not in timm.list_models():
            raise UserError(f"timm has no architecture {self.architecture!r}: see timm.list_models()")
        check_network_settings(self.architecture, settings)
        network: Any = timm.create_model(
            self.architecture, pretrained=False, in_chans=self.size[2], num_classes=0, **settings
        )
        loss = self.build_loss(network.num_features)
        if loss.outputs == len(self.classes):
            network.reset_classifier(len(self.classes))
        network.to(memory_format=torch.channels_last)
        return network, loss

    def build_loss(self, features: int) -> ClassificationLoss:
        """The loss, told what the data and the network know."""
        known = {"classes": len(self.classes), "features": features, "counts": self.counts}
        allowed = losses.REGISTRY.settings(self.loss)
        told = {name: known[name] for name in DATA_SETTINGS if name in allowed}
        losses.refuse(self.loss, losses.NOT_IN_A_CLASSIFIER, "a classifier")
        loss = losses.build(self.loss, **(told | dict(self.loss_settings)))
        assert isinstance(loss, ClassificationLoss)
        return loss

    @property
    def weighs_classes(self) -> bool:
        """Whether the loss takes the counts of the classes, and so weighs rare ones by itself."""
        return "counts" in losses.REGISTRY.settings(self.loss)


@dataclass(frozen=True)
class Classifier:
    """A trained network with its loss.

    Parameters
    ----------
    scale
        What pixels are multiplied by: the scale of the epoch that was kept.
    """

    design: Design
    network: nn.Module
    loss: ClassificationLoss
    scale: float
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return next(self.network.parameters()).device

    def inputs(self, pictures: Pictures) -> Tensor:
        """Pictures as the network sees them: (N, C, H, W), scaled."""
        pixels = as_tensor(pictures).to(self.device).float() * self.scale
        # contiguous() leaves grey pictures as they are, and mixed layouts take twice the time.
        return pixels.to(memory_format=torch.channels_last)

    def probabilities(self, pictures: Pictures) -> npt.NDArray[np.float32]:
        """The probability of every class, (N, C)."""
        return self._batched(pictures, lambda x: self.loss.probabilities(self.network(x)))

    def outputs(self, pictures: Pictures) -> npt.NDArray[np.float32]:
        """What the network puts out and the loss takes, (N, C) or (N, D)."""
        return self._batched(pictures, self.network)

    def predict(self, pictures: Pictures) -> npt.NDArray[np.int64]:
        """The number of the most probable class, (N,)."""
        return cast(npt.NDArray[np.int64], self.probabilities(pictures).argmax(-1))

    def features(self, pictures: Pictures) -> npt.NDArray[np.float32]:
        """What the last layer is fed, (N, D)."""
        network = cast(Any, self.network)
        return self._batched(
            pictures, lambda x: network.forward_head(network.forward_features(x), pre_logits=True)
        )

    def _batched(self, pictures: Pictures, function: Any) -> npt.NDArray[np.float32]:
        self.network.eval()
        with torch.inference_mode():
            parts = [
                function(self.inputs(pictures[start : start + BATCH])).float().cpu().numpy()
                for start in range(0, len(pictures), BATCH)
            ]
        return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)

    def save(self, path: Path) -> None:
        """Write design, scale and weights into one file, atomically."""
        described = json.dumps(
            {"design": vars(self.design), "scale": self.scale, "meta": dict(self.meta)}, sort_keys=True
        )
        tensors = {
            f"{part}.{name}": value.detach().cpu().contiguous()
            for part, module in (("network", self.network), ("loss", self.loss))
            for name, value in module.state_dict().items()
        }
        with atomic_file(path) as file:
            file.write(to_bytes(tensors, {KEY: described}))

    @classmethod
    def load(cls, path: Path) -> "Classifier":
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If the file is missing, damaged, or not one of these.
        """
        again = "train the classifier again (vec2age classify)"
        arrays, text = read_arrays_of(path, KEY, types=("F32", "F64", "I64"), again=again)
        told = described_as(Told, text, path, again)
        design = Design(**dict(told.design))
        try:
            with torch.random.fork_rng():  # its first weights are thrown away
                network, loss = design.build()
            for part, module in (("network", network), ("loss", loss)):
                prefix = f"{part}."
                own = {
                    name.removeprefix(prefix): torch.from_numpy(array)
                    for name, array in arrays.items()
                    if name.startswith(prefix)
                }
                module.load_state_dict(own)
        # what timm and torch raise for settings and weights that do not fit
        except (UserError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
            raise UserError(f"{path} is not what training writes ({first_line(error)}): {again}") from error
        return cls(design, network.eval(), loss.eval(), told.scale, told.meta)


class Drawn(Described):
    """A `Design`, as a file describes it."""

    architecture: str
    settings: dict[str, Any]
    loss: str
    loss_settings: dict[str, Any]
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    size: tuple[Whole, Whole, Whole]
    counts: tuple[int, ...]


class Told(Described):
    """What a classifier's file says beside its arrays."""

    design: Drawn
    scale: Annotated[float, Field(gt=0)]
    meta: dict[str, Any]
