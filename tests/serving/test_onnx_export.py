"""The ONNX file says what torch says."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from pipeline.core.errors import UserError
from pipeline.serving import onnx_export
from pipeline.serving.onnx_export import write_onnx
from pipeline.training.mlp.data import Standardisation
from pipeline.training.mlp.layers import Layout
from pipeline.training.mlp.members import Members


def members(outputs: int = 1, **more: object) -> Members:
    layout = Layout((24, 32, 16, outputs))
    return Members(layout, 4 * layout.initial([1, 2, 3]), (1, 2, 3), **more)  # type: ignore[arg-type]


LEARNT = Standardisation(torch.full((24,), 0.3), torch.linspace(0.5, 2, 24))


@pytest.mark.parametrize(
    "some",
    [
        members(standardisation=LEARNT),
        members(21, loss="dldl_v2", loss_settings={"labels": list(range(10, 31))}),
        members(3, loss="pinball", loss_settings={"quantiles": [0.1, 0.5, 0.9]}),
    ],
    ids=["numbers, standardised", "label distributions", "quantiles"],
)
def test_it_agrees_with_torch_for_any_number_of_faces(some: Members, tmp_path: Path) -> None:
    difference = write_onnx(some, tmp_path / "r.onnx")
    assert difference <= 1e-5
    session = onnxruntime.InferenceSession(str(tmp_path / "r.onnx"), providers=["CPUExecutionProvider"])
    for count in (1, 33):
        x = torch.randn(count, 24, generator=torch.Generator().manual_seed(count))
        mean, each = session.run(["prediction", "members"], {"vectors": x.numpy()})
        expected = some.predict(x).numpy()
        np.testing.assert_allclose(each, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(mean, expected.mean(0), rtol=1e-5, atol=1e-5)


ELSEWHERE = """
import sys
from pathlib import Path
import pipeline
from pipeline.training.mlp.members import Members
from pipeline.serving.onnx_export import write_onnx
assert str(Path(pipeline.__file__).resolve()).startswith(str(Path.cwd())), pipeline.__file__
write_onnx(Members.load(Path("members.safetensors")), Path("r.onnx"))
"""


@pytest.mark.timeout(600)
def test_exports_from_different_folders_are_the_same_bytes_without_a_path(tmp_path: Path) -> None:
    some = members(21, loss="dldl_v2", loss_settings={"labels": list(range(10, 31))})
    write_onnx(some, tmp_path / "r.onnx")
    here = (tmp_path / "r.onnx").read_bytes()
    package = Path(onnx_export.__file__).resolve().parents[1]
    for word in (str(package.parent), "site-packages", ".py", "stack_trace"):
        assert word.encode() not in here
    other = tmp_path / "other"
    shutil.copytree(package, other / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    some.save(other / "members.safetensors")
    subprocess.run(
        [sys.executable, "-c", ELSEWHERE], cwd=other, env=os.environ | {"PYTHONPATH": str(other)}, check=True
    )
    assert (other / "r.onnx").read_bytes() == here


def test_a_file_that_differs_is_removed_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = onnx_export.compare
    wrong = replace(members(), rows=members().rows * 1.01)
    monkeypatch.setattr(onnx_export, "compare", lambda _, path: right(wrong, path))
    with pytest.raises(
        UserError, match=r"differs from torch by .*, more than 1e-05: it was removed; export with --no-onnx"
    ):
        write_onnx(members(), tmp_path / "r.onnx")
    assert not (tmp_path / "r.onnx").exists()
