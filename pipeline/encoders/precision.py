"""Reduced precision has to prove itself where it runs, on the user's own faces, or fp32 is used."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from pipeline.core.errors import UserError
from pipeline.core.tables import first_line
from pipeline.encoders.encoder import Encoder, Precision, Vectors
from pipeline.encoders.torch_encoder import Arithmetic, TorchEncoder

FACES = 64
AGREEMENT = 0.999
# What Linux calls the instructions on x86-64 and on ARM.
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


def has_native_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Say whether the GPU, or without one the processor, multiplies bfloat16 in hardware.

    Torch computes in bfloat16 on any processor, but without these instructions more slowly than in fp32.
    A processor that the operating system does not describe counts as one without.
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        return not BFLOAT16_FLAGS.isdisjoint(cpuinfo.read_text().split())
    except OSError:
        return False


def resolve(precision: Precision) -> Arithmetic:
    """Turn a setting into the precision to try: `auto` is bfloat16 where the hardware has it.

    Examples
    --------
    >>> resolve("fp32")
    'fp32'
    """
    if precision == "auto":
        return "bfloat16" if has_native_bfloat16() else "fp32"
    if precision not in ("fp32", "bfloat16"):
        raise UserError(f"precision {precision!r} is unknown: choose fp32, bfloat16 or auto")
    return precision


def agreement(reference: Vectors, reduced: Vectors) -> float:
    """Measure how far two encodings of the same faces agree.

    Vectors of faces share a large common part that would make any two look alike, so that each encoding's
    mean is taken off first.

    Parameters
    ----------
    reference, reduced
        (N, D) float32 vectors of the same N faces.

    Returns
    -------
    float
        The cosine of the face on which they agree least; nan when a face does not differ from the mean.

    Examples
    --------
    >>> faces = np.array([[9, 1], [9, -1], [8, 0]], dtype=np.float32)
    >>> agreement(faces, faces + 1)
    1.0
    """
    one, two = (v - v.mean(axis=0) for v in (reference.astype(np.float64), reduced.astype(np.float64)))
    with np.errstate(invalid="ignore"):
        cosines = (one * two).sum(axis=1) / np.sqrt((one**2).sum(axis=1) * (two**2).sum(axis=1))
    return float(cosines.min())


def choose_precision(
    views: Sequence[Encoder], vectors: Callable[[Encoder], Vectors], faces: int
) -> tuple[list[Encoder], str]:
    """Choose the fastest arithmetic that was asked for and that proves itself.

    All views of one encoder share the choice, so that a face's vector is of one precision.

    Parameters
    ----------
    views
        The views of one encoder, in the precision asked for.
    vectors
        Gives the vectors of the test faces by an encoder, (`faces`, D).
    faces
        How many test faces there are: `FACES` are needed.

    Returns
    -------
    list of Encoder, str
        The encoders to use, and a sentence that says which arithmetic they have and why.
    """
    name = views[0].name
    ladders = [view.ladder() if isinstance(view, TorchEncoder) else [view] for view in views]
    exact = [ladder[-1] for ladder in ladders]
    label = _arithmetic(exact[0])
    if len(ladders[0]) == 1:
        lacking = "" if has_native_bfloat16() else "; this processor has no bfloat16 arithmetic"
        return exact, f"{name}: {label} is used{lacking}"
    if faces < FACES:
        asked = _arithmetic(views[0])
        return exact, f"{name}: {label} is used: to prove {asked} takes {FACES} faces and there are {faces}"
    failures = []
    for rung in zip(*(ladder[:-1] for ladder in ladders), strict=True):
        tried = _arithmetic(rung[0])
        try:
            least = min(agreement(vectors(e), vectors(r)) for e, r in zip(exact, rung, strict=True))
        except RuntimeError as error:  # what torch raises where it cannot compile, or lacks a kernel
            failures.append(f"{tried} does not run here ({first_line(error)})")
            continue
        said = f"agrees with {label} at a cosine of {least:.5f} on the worst of {faces} faces"
        if least >= AGREEMENT:
            return list(rung), "; ".join([f"{name}: {tried} is used: it {said}", *failures])
        failures.append(f"{tried} only {said}, and {AGREEMENT} is needed")
    return exact, f"{name}: {label} is used: " + "; ".join(failures)


def _arithmetic(encoder: Encoder) -> str:
    return encoder.arithmetic if isinstance(encoder, TorchEncoder) else "fp32"
