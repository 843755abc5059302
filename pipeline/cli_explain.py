"""The command `vec2age explain`: looking into what was trained."""

from typing import Annotated, Literal

import typer

Method = Annotated[Literal["tsne", "umap"], typer.Option(help="How vectors are laid out on a plane.")]
Loss = Annotated[str, typer.Option(help="Whose classifier: a name of classify.losses.")]
Losses = Annotated[list[str], typer.Option(help="Whose classifiers, side by side; may be repeated.")]
Layer = Annotated[
    str | None, typer.Option(help="Whose maps are weighed; by default the last ones that are not too small.")
]
Policy = Annotated[Literal["fixed", "found"], typer.Option(help="Which learning-rate policy's models.")]
Optimizer = Annotated[
    Literal["adam", "adagrad", "sgd", "swa"], typer.Option(help="Which optimiser's models.")
]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Look into what was trained; writes reports/explain/, and the next report shows it, too.",
    epilog="Example: [bold]vec2age explain vectors --colour gender[/bold]",
)


def done(paths: list[str]) -> None:
    """Say what was written."""
    from pipeline.stages import files

    typer.echo("\n".join([*paths, str(files.EXPLAINED / "index.html")]))


@app.command()
def vectors(
    method: Method = "tsne",
    colour: Annotated[str, typer.Option(help="target, error, or a group column such as gender.")] = "target",
    faces: Annotated[int, typer.Option(min=5, help="How many, drawn at random.")] = 2000,
    policy: Policy = "fixed",
    optimizer: Optimizer = "adam",
) -> None:
    """Lay out the face vectors on a plane; errors are those of a run's mean prediction.

    Example: [bold]vec2age explain vectors --method umap --colour error --optimizer adam[/bold]
    """
    from pipeline import params
    from pipeline.stages import explaining

    done(explaining.vectors(params.load(), method, colour, faces, policy, optimizer))


@app.command()
def faces(
    faces: Annotated[int, typer.Option(min=1, help="How many test faces.")] = 6,
    policy: Policy = "fixed",
    optimizer: Optimizer = "adam",
    layer: Layer = None,
) -> None:
    """Show where in a face the best model on vectors finds its number: Grad-CAM through the encoder.

    Example: [bold]vec2age explain faces --faces 8[/bold]
    """
    from pipeline import params
    from pipeline.stages import explaining

    done(explaining.faces(params.load(), faces, policy, optimizer, layer))


@app.command()
def features(
    loss: Losses,
    method: Method = "tsne",
    colour: Annotated[Literal["class", "error"], typer.Option(help="What colours mean.")] = "class",
    pictures: Annotated[int, typer.Option(min=5, help="How many test pictures, at most.")] = 2000,
) -> None:
    """Lay out the features of classifiers on a plane.

    Example: [bold]vec2age explain features --loss cross_entropy --loss mam_softmax[/bold]
    """
    from pipeline import params
    from pipeline.stages import explaining

    done(explaining.features(params.load(), loss, method, colour, pictures))


@app.command()
def classes(
    loss: Loss,
    pictures: Annotated[int, typer.Option(min=1, help="How many test pictures.")] = 6,
    layer: Layer = None,
) -> None:
    """Show where in a picture a classifier finds the class that it predicts: Grad-CAM and its guided form.

    Example: [bold]vec2age explain classes --loss cross_entropy[/bold]
    """
    from pipeline import params
    from pipeline.stages import explaining

    done(explaining.classes(params.load(), loss, pictures, layer))


@app.command()
def landscape(
    loss: Losses,
    pictures: Annotated[int, typer.Option(min=1, help="How many training pictures.")] = 256,
    radius: Annotated[
        float, typer.Option(help="How far the plane reaches; 1 is a filter's own length.")
    ] = 1.0,
    steps: Annotated[int, typer.Option(min=3, help="Points on each axis of the loss; odd.")] = 21,
    ratio_steps: Annotated[
        int, typer.Option(min=0, help="The same of the Hessian's ratio, which takes long; 0: none.")
    ] = 0,
) -> None:
    """Draw the loss over a plane of weights around classifiers.

    Example: [bold]vec2age explain landscape --loss cross_entropy --loss mam_softmax --ratio-steps 5[/bold]
    """
    from pipeline import params
    from pipeline.stages import explaining

    done(explaining.landscape(params.load(), loss, pictures, radius, steps, ratio_steps))
