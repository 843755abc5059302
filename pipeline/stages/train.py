"""Stage train: one model for each seed, with one optimiser and one learning-rate policy."""

from pipeline.params import Params
from pipeline.regression.material import material_of
from pipeline.regression.recipe import Recipe
from pipeline.regression.runs import train_run
from pipeline.stages import files
from pipeline.stages.origin import ORIGIN, origin
from pipeline.stages.outputs import empty_folder
from pipeline.stages.recipes import recipe_settings
from pipeline.stages.running import Detailed, Summary
from pipeline.tables import read_table, write_table


def run(params: Params, workers: int, optimizer: str, policy: str) -> Summary:
    """Train all members at once; write their weights, scores, histories and predictions."""
    settings = recipe_settings(params.train, optimizer, policy)
    balance = params.train.balance
    faces = read_table(files.FACES)
    trained = train_run(
        material_of(faces, read_table(files.AUGMENTED), balance.column, balance.edges),
        faces,
        Recipe(**settings),
        read_table(files.rates(optimizer, policy)),
        workers=workers,
    )
    folder = files.run_folder(optimizer, policy)
    empty_folder(folder)
    trained.members.save(folder / "members.safetensors")
    recorded = {"policy": policy, "balance": balance.model_dump(), **settings, ORIGIN: origin()}
    for name, table in trained.tables.items():
        write_table(table, folder / f"{name}.parquet", "vec2age train", recorded)
    return Detailed(trained.counts(), member_seconds=list(trained.seconds))
