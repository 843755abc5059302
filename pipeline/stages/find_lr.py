"""Stage find_lr: every model of one optimiser gets its seed and, under each policy, its learning rate."""

from pipeline.params import Params
from pipeline.regression.material import material_of
from pipeline.regression.rates import initial_rates, member_seeds
from pipeline.regression.recipe import Recipe
from pipeline.stages import files
from pipeline.stages.recipes import fixed_rate, recipe_settings
from pipeline.stages.running import Summary
from pipeline.tables import write_table


def run(params: Params, workers: int, optimizer: str) -> Summary:
    """Run the range test on every seed; write the rates of both policies."""
    wanted = params.train
    settings = recipe_settings(wanted, optimizer, "found")
    rates = initial_rates(
        material_of(
            files.read(files.FACES), files.read(files.AUGMENTED), wanted.balance.column, wanted.balance.edges
        ),
        Recipe(**settings),
        seeds=member_seeds(params.seed, wanted.seeds),
        fixed_rate=fixed_rate(wanted, optimizer),
        workers=workers,
        **params.find_lr.model_dump(),
    )
    # the range test's own stay out of the fixed rates: another test trains nothing again there
    tested = {"find_lr": params.find_lr.model_dump(), "balance": wanted.balance.model_dump()}
    for policy, table, more in (("fixed", rates.fixed, {}), ("found", rates.found, tested)):
        recorded = {"policy": policy, **settings, **more}
        write_table(table, files.rates(optimizer, policy), "vec2age find_lr", recorded)
    return rates.counts()
