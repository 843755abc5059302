"""Numbers about errors: of one model and over a distribution of seeds.

Everything takes plain arrays and returns numbers; drawing lives in `pipeline.report`.
"""

from pipeline.metrics.bias import bias_score, fairness_table
from pipeline.metrics.error_metrics import (
    cumulative_score,
    error_per_target,
    mae,
    pearson,
    precision_recall_under,
    rmse,
)
from pipeline.metrics.groups import age_bins, balancing_weights, group_errors
from pipeline.metrics.unimodality import modes, unimodality_rate

__all__ = [
    "age_bins",
    "balancing_weights",
    "bias_score",
    "cumulative_score",
    "error_per_target",
    "fairness_table",
    "group_errors",
    "mae",
    "modes",
    "pearson",
    "precision_recall_under",
    "rmse",
    "unimodality_rate",
]
