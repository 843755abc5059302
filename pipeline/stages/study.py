"""Stage study: a search for better settings, and models that are trained with the best ones."""

from dataclasses import replace

from pipeline.config import Params
from pipeline.core.seeds import derive_seed
from pipeline.core.tables import atomic_file, write_table
from pipeline.stages import locations
from pipeline.stages.recipes import fixed_rate, recipe_settings
from pipeline.stages.running import Detailed, Summary
from pipeline.training.mlp.material import material_of
from pipeline.training.mlp.rates import member_seeds
from pipeline.training.mlp.recipe import Recipe
from pipeline.training.search import trial_tables
from pipeline.training.search.search import Plan, run_study
from pipeline.training.search.space import Candidate, Space
from pipeline.training.search.storage import open_storage

PRODUCER = "vec2age study"


def run(params: Params, workers: int, storage: str | None = None) -> Summary:
    """Finish the study, then train its best settings from the seeds of the other models."""
    faces = locations.read(locations.FACES)
    balance = params.train.balance
    material = material_of(faces, locations.read(locations.AUGMENTED), balance.column, balance.edges)
    plan = plan_of(params)
    outcome = run_study(material, plan, open_storage(storage or locations.STUDY_STORAGE), workers=workers)
    best = trial_tables.best_trial(outcome)
    candidate = plan.space.candidate(best.params)
    seeds = member_seeds(params.seed, params.train.seeds)
    scores = trial_tables.retrain(material, faces, candidate, seeds, params.train.recipe.epochs, workers)
    written = {
        locations.STUDY_TRIALS: trial_tables.trial_table(outcome, plan.space),
        locations.STUDY_REACHED: trial_tables.reached_table(outcome),
        locations.STUDY_IMPORTANCE: trial_tables.importance_table(outcome, params.seed),
        locations.STUDY_COMPARISON: trial_tables.comparison_table(scores),
    }
    recorded = {
        "study": params.study.model_dump(exclude={"group"}),
        "scales": plan.space.scales(),
        "optimizer": candidate.recipe.optimizer,
    }
    for path, table in written.items():
        write_table(table, path, PRODUCER, recorded)
    with atomic_file(locations.STUDY_BEST) as file:
        file.write(trial_tables.profile(best, plan.space).encode())
    return Detailed(trial_tables.counts(outcome, best))


def plan_of(params: Params) -> Plan:
    """The section `study` of params.yaml as the library takes it."""
    wanted = params.study
    # null leaves a setting as it stands under `train`
    dimensions = {name: value for name, value in wanted.space.model_dump().items() if value is not None}
    starts = {}
    for name in dimensions.get("optimizer", [wanted.optimizer]):
        recipe = Recipe(**recipe_settings(params.train, name, "found"))
        starts[name] = Candidate(replace(recipe, epochs=wanted.epochs), fixed_rate(params.train, name))
    return Plan(
        space=Space(dimensions, starts, wanted.optimizer),
        seeds=tuple(derive_seed(params.seed, "study member", number) for number in range(wanted.seeds)),
        trials=wanted.trials,
        group=wanted.group,
        sampler=wanted.sampler,
        grid_points=wanted.grid_points,
        pruning=wanted.pruning.method,
        warmup=wanted.pruning.warmup,
        every=wanted.pruning.every,
        seed=derive_seed(params.seed, "study"),
    )
