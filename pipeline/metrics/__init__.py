"""Numbers about errors: of one model and over a distribution of seeds.

Everything takes plain arrays and returns numbers; drawing lives in `pipeline.reports`.
"""

from pipeline.metrics.errors import (
    cumulative_score,
    error_per_target,
    mae,
    pearson,
    precision_recall_under,
    rmse,
)

__all__ = ["cumulative_score", "error_per_target", "mae", "pearson", "precision_recall_under", "rmse"]
