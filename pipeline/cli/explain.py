"""The command `vec2age explain`: looking into what was trained."""

from typing import Annotated, Literal

import typer

from pipeline.core.shown import say

Method = Annotated[Literal["tsne", "umap"], typer.Option(help="How vectors are laid out on a plane.")]
Loss = Annotated[str, typer.Option(help="Whose classifier: a name of classify.losses.")]


def each_once(names: list[str]) -> list[str]:
    """Names in their order, without repetitions."""
    return list(dict.fromkeys(names))


Losses = Annotated[
    list[str],
    typer.Option(callback=each_once, help="Whose classifiers, or networks, side by side; may be repeated."),
]
Backbone = Annotated[
    str | None, typer.Option(help="Of finetune's networks: a name of finetune.backbones. Else: classifiers.")
]
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
    from pipeline.stages import locations

    say("\n".join([*paths, str(locations.EXPLAINED / "index.html")]))


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
    from pipeline.cli.explaining import classifiers
    from pipeline.stages import apart

    done(classifiers.vectors(apart.load(), method, colour, faces, policy, optimizer))


@app.command()
def faces(
    faces: Annotated[int, typer.Option(min=1, help="How many test faces.")] = 6,
    policy: Policy = "fixed",
    optimizer: Optimizer = "adam",
    layer: Layer = None,
    loss: Annotated[
        str | None, typer.Option(help="Of finetune's networks: a name of finetune.losses. Else: on vectors.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="And of finetune.backbones.")] = None,
    column: Annotated[str | None, typer.Option(help="Which of a network's targets; the first one.")] = None,
) -> None:
    """Show where in a face a model finds its number: Grad-CAM.

    Of the best model on vectors, through its encoder; with --loss and --backbone of the best whole network.

    Example: [bold]vec2age explain faces --loss dldl_v2 --backbone dlib[/bold]
    """
    from pipeline.cli.explaining import classifiers, end_to_end
    from pipeline.core.errors import UserError
    from pipeline.stages import apart

    if loss is not None and backbone is not None:
        done(end_to_end.faces(apart.load(), loss, backbone, faces, layer, column))
    elif loss is None and backbone is None and column is None:
        done(classifiers.faces(apart.load(), faces, policy, optimizer, layer))
    else:
        raise UserError(
            "a whole network is named by --loss and --backbone together, a model on vectors by neither"
        )


@app.command()
def features(
    loss: Losses,
    method: Method = "tsne",
    colour: Annotated[
        str | None,
        typer.Option(help="class or error; with --backbone target, error, or a group column such as gender."),
    ] = None,
    pictures: Annotated[int, typer.Option(min=5, help="How many test pictures, at most.")] = 2000,
    backbone: Backbone = None,
) -> None:
    """Lay out the features of classifiers, or of finetune's networks, on a plane.

    Example: [bold]vec2age explain features --loss cross_entropy --loss mam_softmax[/bold]
    """
    from pipeline.cli.explaining import classifiers, end_to_end
    from pipeline.stages import apart

    settings = apart.load()
    if backbone is None:
        done(classifiers.features(settings, loss, method, colour or "class", pictures))
    else:
        done(end_to_end.features(settings, loss, backbone, method, colour or "target", pictures))


@app.command()
def classes(
    loss: Loss,
    pictures: Annotated[int, typer.Option(min=1, help="How many test pictures.")] = 6,
    layer: Layer = None,
) -> None:
    """Show where in a picture a classifier finds the class that it predicts: Grad-CAM and its guided form.

    Example: [bold]vec2age explain classes --loss cross_entropy[/bold]
    """
    from pipeline.cli.explaining import classifiers
    from pipeline.stages import apart

    done(classifiers.classes(apart.load(), loss, pictures, layer))


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
    backbone: Backbone = None,
) -> None:
    """Draw the loss over a plane of weights around classifiers, or around finetune's networks.

    Example: [bold]vec2age explain landscape --loss cross_entropy --loss mam_softmax --ratio-steps 5[/bold]
    """
    from pipeline.cli.explaining import classifiers, end_to_end
    from pipeline.stages import apart

    settings = apart.load()
    if backbone is None:
        done(classifiers.landscape(settings, loss, pictures, radius, steps, ratio_steps))
    else:
        done(end_to_end.landscape(settings, loss, backbone, pictures, radius, steps, ratio_steps))
