"""The words and bounds of evaluate and report, out of params.yaml."""

from pipeline.config import Params
from pipeline.evaluation.settings import Settings


def settings_of(params: Params) -> Settings:
    """What both measure by, so that the page shows the numbers that evaluate wrote."""
    wanted = params.evaluate.model_dump(exclude={"baselines", "svr_rows"})
    return Settings(seed=params.seed, **wanted, **params.report.model_dump(exclude={"faces"}))
