"""Every command of the pages under docs/, and the notebooks, run in order in a small copy of the project."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from nbclient import NotebookClient

from pipeline.synthetic.rendered import render

PROJECT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
# the first page makes what the others, and the notebooks, look at or change, each in a copy of its own
FIRST = "photographs"
OTHERS = ("studies", "tracking", "machines", "loss", "encoder", "report")  # the longest first
TOGETHER = 2  # most of the time goes into starting programs, each on one core
NOT_RUN = {  # a reason for each block of commands, in the order of the page
    "README": (
        "installs an environment; its `dvc repro` of the sample runs on the first page",
        "`make test` is what runs this; the others run on the first page and in tests/cli/test_app.py",
        "needs UTKFace; tests/config/test_profiles.py applies both profiles",
        "as the first two blocks of docs/predict.md",
    ),
    "cnn": (
        "the `dvc repro` of the first page runs the same: finetune, and the page",
        "needs UTKFace; what embed makes of such a file is tested in tests/encoders/test_finetuned.py",
    ),
    "datasets": ("needs MORPH II and a GPU; tests/report/test_folds.py runs `vec2age folds` on made scores",),
    "emosynthnet": (
        "needs FER-2013; tests/config/test_profiles.py applies the profile",
        "fifteen trainings take hours; no test runs the bench itself",
    ),
    "explain": (
        "needs networks of dlib; tests/networks/test_explained.py and tests/stages take others",
        "needs UTKFace; the arithmetic is tested in tests/explain/test_occlusion.py",
    ),
    "fairness": ("84 trainings on vectors of UTKFace; no test runs the bench itself",),
    "predict": (
        "`dvc repro` runs on the first page, what export does in tests/stages/test_calibrate_stage.py",
        "needs the model of the block before; tests/serving/test_predict.py runs the command on another",
        "takes thousands of files; no test runs the bench itself",
    ),
    "results": ("needs UTKFace; tests/config/test_profiles.py applies the profile",),
    "uncertainty": (
        "the page on the report runs `dvc repro report`; `less` waits for a reader",
        "needs UTKFace; no test runs the bench itself",
    ),
    "vec2uage": (
        "needs photographs of one's own, for 160 models; tests/config/test_profiles.py applies the profile",
    ),
}
TINY = (
    "train.optimizers=[adam]",
    "train.seeds=2",
    "train.recipe.hidden=[8]",
    "train.recipe.epochs=2",
    "find_lr.steps=20",
    "augment.target_per_age=0",
    "augment.calibration_faces=4",
    "evaluate.resamples=20",
    "evaluate.baselines=[mean]",
    "finetune.losses=[mse]",
    "finetune.recipe.epochs=1",
    "study.trials=4",
    "study.seeds=2",
    "study.epochs=2",
)
FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# a fence that names no language holds commands if a line begins with one, after variables that are set for it
COMMAND = re.compile(r"^(?:\w+=\S* )*(?:vec2age|dvc|python3?|pip|make|git|bash|sh) ", re.MULTILINE)


class Block(NamedTuple):
    language: str
    more: str
    text: str

    @property
    def commands(self) -> bool:
        """Whether it is something to type into a terminal."""
        return self.language == "sh" or (not self.language and COMMAND.search(self.text) is not None)


def blocks(page: str) -> list[Block]:
    folder = PROJECT if page == "README" else PROJECT / "docs"
    text = (folder / f"{page}.md").read_text(encoding="utf-8")
    return [Block(language, more.strip(), body) for language, more, body in FENCE.findall(text)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files under version control, as a repository of its own, with small settings and a few pictures."""
    if shutil.which("git") is None:
        pytest.skip("git, without which DVC shows no experiments, is not installed")
    folder = tmp_path_factory.mktemp("docs") / "project"
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, folder / name)
    # the tests' own words for "small"; committed, so that dvc has something to compare with
    (folder / "tiny.yaml").write_text("{}\n")
    words = " ".join(f"--set '{change}'" for change in TINY)
    call(folder, f"vec2age use tiny.yaml {words}")
    author = "git -c user.name=tests -c user.email=tests@localhost"
    call(folder, f"git init -q && git add -A && {author} commit -qm start")
    render(folder / "photographs", seed=1, per_age=2)
    return folder


def environment(folder: Path) -> dict[str, str]:
    programs = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PYTHONPATH": str(folder),
        "PATH": f"{folder / '.bin'}:{programs}:{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "VEC2AGE_WORKERS": "2",
    }


def call(folder: Path, text: str, program: tuple[str, ...] = ("bash", "-euo", "pipefail", "-c")) -> str:
    launcher = folder / ".bin/vec2age"
    if not launcher.exists():  # the copy's own code, wherever vec2age is installed from
        launcher.parent.mkdir(parents=True)
        launcher.write_text(
            f"#!{sys.executable}\n"
            "from pipeline.__main__ import main\n\nif __name__ == '__main__':\n    main()\n"
        )
        launcher.chmod(0o755)
    done = subprocess.run(
        [*program, text], cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def serve(folder: Path, text: str) -> None:
    """Start what a page says keeps running, at a port that is free, wait until it answers, and end it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    text, ports = re.subn(r"--port \d+", f"--port {port}", text)
    assert ports == 1, f"{text} names no port"
    process = subprocess.Popen(
        ["bash", "-c", f"exec {text}"],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            assert process.poll() is None, f"{text} ended with {process.returncode}"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.3)
        pytest.fail(f"{text} did not answer")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def run_page(folder: Path, page: str) -> str:
    shown = []
    for block in blocks(page):
        if block.language == "python" and block.more.startswith("title="):
            (folder / block.more.removeprefix("title=")).write_text(block.text)
        elif block.language == "python":
            shown.append(call(folder, block.text, (sys.executable, "-c")))
        elif block.commands and block.more == "server":
            serve(folder, block.text.strip())
        elif block.commands:
            shown.append(call(folder, block.text))
        else:
            assert block.language == "text", f"{page}: nothing runs a block of {block.language!r}"
    return "\n".join(shown)


def run_notebook(folder: Path, notebook: Path) -> None:
    """Execute a notebook as someone would who opens it in its folder; the copy stays as it is."""
    book = nbformat.read(folder / "notebooks" / notebook.name, as_version=4)
    client = NotebookClient(
        book,
        kernel_name="python3",
        timeout=600,
        resources={"metadata": {"path": str(folder / "notebooks")}},
    )
    client.execute(env=environment(folder))
    shown = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 2, f"{notebook.name} draws"
    errors = [output.text for output in shown if output.get("name") == "stderr" and "Error" in output.text]
    assert not errors, f"{notebook.name}: {errors}"


def copied(project: Path, page: str) -> Path:
    """The project as the first page left it, for one page to change."""
    return Path(shutil.copytree(project, project.with_name(page), symlinks=True))


@pytest.mark.timeout(1500)
def test_every_command_of_the_pages_and_every_notebook_runs(project: Path) -> None:
    first = run_page(project, FIRST)
    assert (project / "reports/index.html").exists()
    assert "data set" in first
    with ThreadPoolExecutor(TOGETHER) as together:
        copies = {page: copied(project, page) for page in OTHERS}
        pages = {page: together.submit(run_page, copy, page) for page, copy in copies.items()}
        # these read, and write nothing
        books = [together.submit(run_notebook, project, notebook) for notebook in NOTEBOOKS]
        outputs = {page: done.result() for page, done in pages.items()}
        for book in books:
            book.result()
    assert "train-fixed-adam" in outputs["tracking"], "dvc shows what DVCLive saw"
    assert "[192]" in outputs["encoder"]


def test_every_block_of_commands_is_run_or_says_why_not() -> None:
    pages = ["README", *sorted(path.stem for path in (PROJECT / "docs").glob("*.md"))]
    found = {page: sum(block.commands for block in blocks(page)) for page in pages}
    left = {page: count for page, count in found.items() if count and page not in (FIRST, *OTHERS)}
    told = {page: len(reasons) for page, reasons in NOT_RUN.items()}
    assert left == told, "run the page, or give in NOT_RUN a reason for each of its blocks"
    assert all(found[page] for page in (FIRST, *OTHERS))


@pytest.mark.parametrize(
    ("language", "text", "commands"),
    [
        ("sh", "ls\n", True),
        ("", "vec2age explain faces\n", True),
        ("", "# once\nDATA=/faces THREADS=2 python -m pytest\n", True),
        ("", "dvc metrics show\n", True),
        ("", "faces  699\nthe page says what vec2age found\n", False),
        ("python", "python = 1\n", False),
    ],
)
def test_commands_are_found_whether_or_not_their_fence_says_so(
    language: str, text: str, commands: bool
) -> None:
    assert Block(language, "", text).commands is commands


@pytest.mark.parametrize("page", NOT_RUN)
def test_the_tests_that_a_reason_names_are_there(page: str) -> None:
    for name in re.findall(r"tests/\S+\.py", " ".join(NOT_RUN[page])):
        assert (PROJECT / name).is_file(), name


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_text_and_no_outputs(notebook: Path) -> None:
    book = nbformat.read(notebook, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code), "strip the outputs"
    assert all(set(cell.metadata) == set() for cell in book.cells)
    assert sum(cell.cell_type == "markdown" for cell in book.cells) >= 4
    assert len(code) <= 10


def test_there_are_three_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["1-vectors", "2-seeds", "3-learning-rate"]
