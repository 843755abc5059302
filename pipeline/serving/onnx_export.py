"""The regressor as an ONNX file: vectors in, predictions out, held to torch before it is kept."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from pipeline import losses
from pipeline.core.errors import UserError
from pipeline.losses.base import Loss
from pipeline.training.mlp.members import Members

TOLERANCE = 1e-5
PROBES = 97  # vectors that both are asked about; not a number that kernels like


class Regressor(nn.Module):
    """Members as one module: vectors (N, D) to `members` (M, N), and `prediction` (N,), their mean.

    Parameters
    ----------
    members
        Their weights are copied; standardisation and the meaning of outputs come along.

    Examples
    --------
    >>> from pipeline.training.mlp.layers import Layout
    >>> layout = Layout((4, 3, 1))
    >>> members = Members(layout, layout.initial([7, 8]), (7, 8))
    >>> [tuple(part.shape) for part in Regressor(members)(torch.ones(5, 4))]
    [(5,), (2, 5)]
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, members: Members) -> None:
        super().__init__()
        learnt = members.standardisation
        width = members.layout.widths[0]
        self.register_buffer("mean", torch.zeros(width) if learnt is None else learnt.mean)
        self.register_buffer("scale", torch.ones(width) if learnt is None else learnt.scale)
        parts = members.layout.unpack(members.rows)
        self.weights = nn.ParameterList([nn.Parameter(weight.clone()) for weight, _ in parts])
        self.biases = nn.ParameterList([nn.Parameter(bias.clone()) for _, bias in parts])
        self.loss: Loss = losses.build(members.loss, **members.loss_settings)
        self.requires_grad_(False)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The mean prediction, and every member's."""
        hidden = ((vectors - self.mean) / self.scale).unsqueeze(0)
        for depth, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True), start=1):
            hidden = torch.matmul(hidden, weight) + bias
            if depth < len(self.weights):
                hidden = hidden.relu()
        outputs = hidden.squeeze(-1) if hidden.shape[-1] == 1 else hidden
        each = self.loss.prediction(outputs)
        return each.mean(0), each


def write_onnx(members: Members, path: Path) -> float:
    """Export members, and compare what ONNX Runtime and torch make of the same vectors.

    Parameters
    ----------
    members
        Of one model.
    path
        The file to write.

    Returns
    -------
    float
        The largest difference found: absolute below 1, relative above, as rounding goes.

    Raises
    ------
    UserError
        They differ by more than 1e-5; the file is then removed.
    """
    regressor = Regressor(members).eval()
    width = members.layout.widths[0]
    batch = torch.export.Dim("faces", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own coming changes
        torch.onnx.export(
            regressor,
            (torch.zeros(2, width),),
            path,
            input_names=["vectors"],
            output_names=["prediction", "members"],
            dynamic_shapes=({0: batch},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    without_origin(path)
    difference = compare(members, path)
    if not difference <= TOLERANCE:
        path.unlink()
        raise UserError(
            f"the ONNX file differs from torch by {difference:.2g}, more than {TOLERANCE:g}: it was removed; "
            "export with --no-onnx"
        )
    return difference


def without_origin(path: Path) -> None:
    """Take out of an ONNX file what it says of the code that made it, with absolute paths."""
    model = onnx.load(path)
    graph = model.graph
    for part in (
        *(model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer),
        *(one for function in model.functions for one in (function, *function.node, *function.value_info)),
    ):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    path.write_bytes(model.SerializeToString(deterministic=True))


def compare(members: Members, path: Path) -> float:
    """The largest difference of an ONNX file's predictions from the members' own."""
    import onnxruntime

    # about as long as the vectors of real encoders, which ONNX never sees here
    vectors = torch.randn(PROBES, members.layout.widths[0], generator=torch.Generator().manual_seed(1))
    expected = members.predict(vectors).double().numpy()
    # the content, since a path would be read as UTF-8, whatever the locale
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    mean, each = session.run(["prediction", "members"], {"vectors": vectors.numpy()})
    wanted = np.concatenate([expected.mean(axis=0, keepdims=True), expected])
    found = np.concatenate([mean[None], each]).astype(np.float64)
    return float((np.abs(found - wanted) / np.maximum(1.0, np.abs(wanted))).max())
