"""Stage find_lr: every model of one optimiser gets its seed and, under each policy, its learning rate."""

from pipeline.config import Params
from pipeline.core.tables import write_table
from pipeline.stages import locations
from pipeline.stages.recipes import fixed_rate, recipe_settings
from pipeline.stages.running import Summary
from pipeline.training.mlp.material import material_of
from pipeline.training.mlp.rates import initial_rates, member_seeds
from pipeline.training.mlp.recipe import Recipe


def run(params: Params, workers: int, optimizer: str) -> Summary:
    """Run the range test on every seed; write the rates of both policies."""
    wanted = params.train
    settings = recipe_settings(wanted, optimizer, "found")
    rates = initial_rates(
        material_of(
            locations.read(locations.FACES),
            locations.read(locations.AUGMENTED),
            wanted.balance.column,
            wanted.balance.edges,
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
        write_table(table, locations.rates(optimizer, policy), "vec2age find_lr", recorded)
    return rates.counts()
