"""What a trained network says of faces."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.training.networks.criterion import Criterion
from pipeline.training.networks.fit import lightning_precision
from pipeline.training.networks.lightning import threads
from pipeline.training.networks.loading import EpochOrder, FaceData, Faces, loader
from pipeline.training.networks.material import Labelled
from pipeline.training.networks.network import FaceNetwork
from pipeline.training.networks.pixels import Pixels
from pipeline.training.networks.plan import Plan
from pipeline.training.networks.recipe import Machine

PREDICT_BATCH = 64


@dataclass(frozen=True)
class Predicted:
    """What a network says of all faces: values (N, K), distributions (N, K, C) of losses that have them."""

    values: NDArray[np.float32]
    distributions: NDArray[np.float32] | None


@torch.inference_mode()
def predict(
    network: FaceNetwork,
    criterion: Criterion,
    faces: Labelled,
    pixels: Pixels,
    plan: Plan,
    machine: Machine,
) -> Predicted:
    """Predictions for all faces, in the precision that the network was chosen in."""
    on_gpu = torch.cuda.is_available() and machine.accelerator in ("auto", "gpu", "cuda")
    device = torch.device("cuda" if on_gpu else "cpu")
    half = lightning_precision(plan.recipe.precision, network) == "bf16-mixed"
    data = FaceData(Faces(pixels, faces.targets, faces.weights), plan.look.size)
    batches = loader(data, EpochOrder(len(data), None), PREDICT_BATCH, 0)
    network = network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    criterion = criterion.to(device)
    values: list[Tensor] = []
    distributions: list[Tensor] = []
    with threads(machine.threads), torch.autocast(device.type, torch.bfloat16, enabled=half):
        for batch in batches:
            output = network(batch.pixels.to(device))
            values.append(criterion.prediction(output).float().cpu())
            probabilities = criterion.probabilities(output)
            if probabilities is not None:
                distributions.append(probabilities.float().cpu())
    network.cpu()
    criterion.cpu()
    return Predicted(torch.cat(values).numpy(), torch.cat(distributions).numpy() if distributions else None)
