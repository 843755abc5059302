"""The command line: one command per stage of dvc.yaml, and those around them."""

import sys
import warnings
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline import __version__
from pipeline.cli.explain import app as explain_app
from pipeline.cli.options import Destination, Force, Model, Output, Overlay, Pictures
from pipeline.cli.terminal import (
    Group,
    hide_in_logs,
    option_shown,
    show_bug,
    speak_as_the_locale,
    speak_utf8,
    warn,
)
from pipeline.core.errors import WORKER_LOST, UserError, sentence_of
from pipeline.core.places import alone
from pipeline.core.shown import complain, say

INTERRUPTED = 130
STAGES = {
    "ingest": "Read a data set's labels into data/manifest.parquet.",
    "crop": "Detect, crop and rate every face; write the crops to data/crops.",
    "split": "Divide the faces into training, validation and test.",
    "embed": "Compute the embedding of every crop; write embeddings/faces.parquet.",
    "augment": "Augment the training split, filtered by cosine similarity.",
    "find_lr": "Choose every model's learning rate: fixed, or by a range test.",
    "train": "Train one model per seed, and predict validation and test faces.",
    "calibrate": "Calibrate prediction intervals and probabilities on validation faces.",
    "evaluate": "Compare all models with baselines; write reports/metrics.json.",
    "report": "Draw the figures and write reports/index.html.",
    "finetune": "Fine-tune end-to-end networks with one loss and one backbone.",
    "classify": "Train end-to-end classifiers of labelled images with one loss.",
    "study": "Search for better settings with Optuna; write studies/best.yaml.",
}

app = typer.Typer(
    name="vec2age",
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train and evaluate age regressors from labelled face images.",
    epilog="Everything at once: [bold]dvc repro[/bold]. What is installed: [bold]vec2age doctor[/bold].",
)

Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        envvar="VEC2AGE_WORKERS",
        help="Processes to use; all cores if not given. Results do not depend on it.",
    ),
]


Optimizer = Annotated[
    Literal["adam", "adagrad", "sgd", "swa"], typer.Option(help="Which optimiser's models.")
]
Policy = Annotated[
    Literal["fixed", "found"], typer.Option(help="Where learning rates come from: params.yaml, or find_lr.")
]

LossName = Annotated[str, typer.Option(help="One of finetune.losses.")]
BackboneName = Annotated[str, typer.Option(help="One of finetune.backbones.")]
ClassLossName = Annotated[str, typer.Option("--loss", help="One of classify.losses.")]


Storage = Annotated[
    str | None,
    typer.Option(
        envvar="VEC2AGE_STORAGE",
        metavar="URL",
        help="The study's database, which several machines may share; an SQLite file if not given.",
    ),
]


def run(name: str, workers: int | None, private: dict[str, str | None] | None = None, **options: str) -> None:
    """Run a stage; its module is imported only now."""
    from pipeline.stages.running import run_stage

    run_stage(name, workers, private, **options)


def command_of(name: str) -> tuple[Callable[..., None], str]:
    """A stage's command and the options of its example."""

    def plain(workers: Workers = None) -> None:
        run(name, workers)

    def of_optimizer(optimizer: Optimizer, workers: Workers = None) -> None:
        run(name, workers, optimizer=optimizer)

    def of_policy_and_optimizer(optimizer: Optimizer, policy: Policy, workers: Workers = None) -> None:
        run(name, workers, policy=policy, optimizer=optimizer)

    def with_storage(storage: Storage = None, workers: Workers = None) -> None:
        run(name, workers, {"storage": storage})

    def of_loss_and_backbone(loss: LossName, backbone: BackboneName, workers: Workers = None) -> None:
        run(name, workers, loss=loss, backbone=backbone)

    def of_class_loss(loss: ClassLossName, workers: Workers = None) -> None:
        run(name, workers, loss=loss)

    several: dict[str, tuple[Callable[..., None], str]] = {
        "find_lr": (of_optimizer, "--optimizer adam"),
        "train": (of_policy_and_optimizer, "--optimizer adam --policy found"),
        "study": (with_storage, "--storage sqlite:///studies/other.db"),
        "classify": (of_class_loss, "--loss mam_softmax"),
        "finetune": (of_loss_and_backbone, "--loss dldl_v2 --backbone resnet10t"),
    }
    return several.get(name, (plain, "--workers 4"))


def add_stage(name: str, summary: str) -> None:
    """Register one stage as a command."""
    command, example = command_of(name)
    app.command(
        name,
        help=f"{summary}\n\nReads its part of params.yaml.",
        epilog=f"Example: [bold]vec2age {name} {example}[/bold]; [bold]dvc repro {name}[/bold] if need be.",
        rich_help_panel="Pipeline",
    )(command)


for stage_name, stage_summary in STAGES.items():
    add_stage(stage_name, stage_summary)


@app.command(rich_help_panel="Utilities")
def use(
    profile: Annotated[Path, typer.Argument(help="A YAML file of parameters, as in profiles/.")],
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One more value; may be repeated."),
    ] = None,
) -> None:
    """Merge a profile into params.yaml and keep its comments.

    Example: [bold]vec2age use profiles/utkface.yaml --set data.root=photographs[/bold]
    """
    from pipeline.config.profiles import use as merge_profile

    with alone(
        Path(".params.yaml.lock"), "another vec2age use is changing params.yaml: run the same command again"
    ):
        changes = merge_profile(profile, assign or [])
    say("\n".join(changes) if changes else "params.yaml already says so; nothing changed")


@app.command(rich_help_panel="Inference")
def export(
    folder: Destination,
    onnx: Annotated[bool, typer.Option(help="Also the regressor as ONNX, checked against torch.")] = True,
) -> None:
    """Write the calibrated model that params.yaml names under `export` as a bundle.

    Example: [bold]vec2age export bundle[/bold]
    """
    from pipeline.cli.export import export as write_bundle
    from pipeline.stages.apart import load
    from pipeline.stages.running import print_counts

    print_counts("export", write_bundle(load(), folder, onnx=onnx))


@app.command(rich_help_panel="Inference")
def predict(
    paths: Pictures,
    model: Model = Path("bundle"),
    output: Output = Path("predictions.csv"),
    level: Annotated[
        float | None, typer.Option(help="Of the intervals, such as 0.9; the model's own if not given.")
    ] = None,
    overlay: Overlay = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that one picture may take.")] = 60.0,
    force: Force = False,
    workers: Workers = None,
) -> None:
    """Predict the target of every face in images, with an interval and warnings.

    Pictures are opened read-only and stay on this machine. Interrupted, the same command goes on.

    Example: [bold]vec2age predict photographs --model bundle --output ages.csv[/bold]
    """
    from pipeline.serving.bundle import load
    from pipeline.serving.run import predict_files
    from pipeline.stages.running import print_counts

    counts = predict_files(
        paths,
        load(model),
        output,
        level=level,
        overlay=overlay,
        workers=workers,
        timeout=timeout,
        force=force,
    )
    print_counts("predict", {**counts, "written": str(output)})


@app.command(rich_help_panel="Utilities")
def doctor() -> None:
    """Check what is installed, and say how to install what is missing.

    Example: [bold]vec2age doctor[/bold]
    """
    from pipeline.cli.doctor import print_diagnosis

    print_diagnosis()


@app.command(rich_help_panel="Utilities")
def where() -> None:
    """List the results that exist, with their places and sizes.

    Example: [bold]vec2age where[/bold]
    """
    from pipeline.cli.where import print_results

    print_results()


@app.command(rich_help_panel="Utilities")
def folds(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="One for each fold: a copy of its folder models.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder that folds.csv goes to.")] = Path(
        "reports"
    ),
    force: Annotated[
        bool, typer.Option("--force", help="Replace a folds.csv that folds did not write.")
    ] = False,
) -> None:
    """Join the runs of several folds: mean error, and its spread over folds and seeds.

    Example: [bold]vec2age folds ../folds/0 ../folds/1 ../folds/2[/bold]
    """
    from pipeline.evaluation import folds_joined as joining

    table = joining.join(folders)
    joining.write(table, folders, output, force=force)
    say(joining.as_text(table))


app.add_typer(explain_app, name="explain", rich_help_panel="Utilities")


def print_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        say(f"vec2age {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that stand before the command."""


def main() -> None:
    """Run the command line: 0 done, 1 a bug, 2 a mistake in the inputs or a file refused, 130 interrupted."""
    speak_utf8()
    speak_as_the_locale()
    show, warnings.showwarning = warnings.showwarning, warn
    hide_in_logs()
    sys.argv = [sys.argv[0], *map(option_shown, sys.argv[1:])]
    try:
        app()
    except UserError as error:
        complain(error)
        sys.exit(2)
    except OSError as error:
        complain(sentence_of(error))
        sys.exit(2)
    except BrokenProcessPool:
        complain(WORKER_LOST)
        sys.exit(2)
    except SystemExit as error:
        if error.code == INTERRUPTED:  # typer has turned the KeyboardInterrupt into it
            complain("interrupted; run the same command again to go on")
        raise
    except Exception:
        sys.excepthook = show_bug  # typer has put its own there
        raise
    finally:
        warnings.showwarning = show
