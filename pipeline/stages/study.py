"""Stage study: a search for better settings, and models that are trained with the best ones."""

from dataclasses import replace

from pipeline.params import Params
from pipeline.regression import study_tables as tables
from pipeline.regression.material import material_of
from pipeline.regression.rates import member_seeds
from pipeline.regression.recipe import Recipe
from pipeline.regression.space import Candidate, Space
from pipeline.regression.storage import open_storage
from pipeline.regression.study import Plan, run_study
from pipeline.seeds import derive_seed
from pipeline.stages import files
from pipeline.stages.recipes import fixed_rate, recipe_settings
from pipeline.stages.running import Detailed, Summary
from pipeline.tables import atomic_file, write_table

PRODUCER = "vec2age study"


def run(params: Params, workers: int, storage: str | None = None) -> Summary:
    """Finish the study, then train its best settings from the seeds of the other models."""
    faces = files.read(files.FACES)
    balance = params.train.balance
    material = material_of(faces, files.read(files.AUGMENTED), balance.column, balance.edges)
    plan = plan_of(params)
    outcome = run_study(material, plan, open_storage(storage or files.STUDY_STORAGE), workers=workers)
    best = tables.best_trial(outcome)
    candidate = plan.space.candidate(best.params)
    seeds = member_seeds(params.seed, params.train.seeds)
    scores = tables.retrain(material, faces, candidate, seeds, params.train.recipe.epochs, workers)
    written = {
        files.STUDY_TRIALS: tables.trial_table(outcome, plan.space),
        files.STUDY_REACHED: tables.reached_table(outcome),
        files.STUDY_IMPORTANCE: tables.importance_table(outcome, params.seed),
        files.STUDY_COMPARISON: tables.comparison_table(scores),
    }
    recorded = {
        "study": params.study.model_dump(exclude={"group"}),
        "scales": plan.space.scales(),
        "optimizer": candidate.recipe.optimizer,
    }
    for path, table in written.items():
        write_table(table, path, PRODUCER, recorded)
    with atomic_file(files.STUDY_BEST) as file:
        file.write(tables.profile(best, plan.space).encode())
    return Detailed(tables.counts(outcome, best))


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
