"""Stage train: one model for each seed, with one optimiser and one learning-rate policy."""

import math
from pathlib import Path

import pyarrow as pa

from pipeline.config import Params
from pipeline.core.errors import UserError
from pipeline.core.tables import new_folder, producer_of, read_as, sha256, write_table
from pipeline.stages import locations
from pipeline.stages.origin import ORIGIN, check_unchanged, origin
from pipeline.stages.recipes import fixed_rate, recipe_settings, under_keys
from pipeline.stages.running import Detailed, Summary
from pipeline.training.mlp.material import material_of
from pipeline.training.mlp.rates import FOUND, RATES, member_seeds
from pipeline.training.mlp.recipe import Recipe
from pipeline.training.mlp.runs import train_run


def run(params: Params, workers: int, optimizer: str, policy: str) -> Summary:
    """Train all members at once; write their weights, scores, histories and predictions."""
    settings = recipe_settings(params.train, optimizer, policy)
    balance = params.train.balance
    faces = locations.read(locations.FACES)
    trained = train_run(
        material_of(faces, locations.read(locations.AUGMENTED), balance.column, balance.edges),
        faces,
        Recipe(**settings),
        given_rates(params, optimizer, policy),
        workers=workers,
    )
    folder = locations.run_folder(optimizer, policy)
    recorded = {"policy": policy, "balance": balance.model_dump(), **settings, ORIGIN: origin()}
    with new_folder(folder) as fresh:
        trained.members.save(fresh / "members.safetensors")
        for name, table in trained.tables.items():
            write_table(table, fresh / f"{name}.parquet", "vec2age train", recorded)
    return Detailed(
        trained.counts(),
        member_seconds=list(trained.seconds),
        scores=sha256(folder / "scores.parquet"),
    )


def given_rates(params: Params, optimizer: str, policy: str) -> pa.Table:
    """The members' seeds and rates that find_lr left, proven to be those that params.yaml asks for.

    Raises
    ------
    UserError
        A setting that they follow from has changed since.
    """
    path, again = locations.rates(optimizer, policy), f"vec2age find_lr --optimizer {optimizer}"
    rates = read_as(path, RATES)
    for row, (seed, rate) in enumerate(zip(rates["seed"].to_pylist(), rates["lr"].to_pylist(), strict=True)):
        if seed is None or rate is None or not (0 < rate < math.inf):
            raise UserError(
                f"{path}, row {row}: seed {seed} and lr {rate} cannot be trained with: run {again}"
            )
    check_members(rates, params, optimizer, path, again)
    if policy == "found":
        tested = {"find_lr": params.find_lr.model_dump(), "balance": params.train.balance.model_dump()}
        made = under_keys(producer_of(path)["settings"], optimizer, policy)
        now = under_keys(recipe_settings(params.train, optimizer, policy) | tested, optimizer, policy)
        check_unchanged(made, now, path, again)
    return rates


def check_members(members: pa.Table, params: Params, optimizer: str, place: Path, command: str) -> None:
    """Refuse members with other seeds, or another fixed rate, than params.yaml asks for.

    Parameters
    ----------
    members
        Columns seed, lr and origin: the rates, or the scores of models that were trained at them.
    params, optimizer
        Whose they are.
    place, command
        As for `check_unchanged`.
    """
    wanted, seeds = params.train.seeds, members["seed"].to_pylist()
    asked = member_seeds(params.seed, wanted)
    if isinstance(wanted, list) or len(asked) != len(seeds):
        held = seeds if isinstance(wanted, list) else len(seeds)
        check_unchanged({"train.seeds": held}, {"train.seeds": wanted}, place, command)
    elif asked != seeds:
        raise UserError(
            f"seed is {params.seed!r}, of which the first model's seed is {asked[0]}, "
            f"in {place} it is {seeds[0]}: run {command} again (dvc repro)"
        )
    rate = f"train.{optimizer}.lr"
    for lr, source in zip(members["lr"].to_pylist(), members["origin"].to_pylist(), strict=True):
        if source != FOUND:
            check_unchanged({rate: lr}, {rate: fixed_rate(params.train, optimizer)}, place, command)
