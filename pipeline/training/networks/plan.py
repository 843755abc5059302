"""What decides a run's numbers, beside the faces and the seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.augmentation.transforms import Operation
from pipeline.backbones.input_transforms import Look
from pipeline.training.networks.material import Goal
from pipeline.training.networks.recipe import HeadRecipe, Recipe


@dataclass(frozen=True)
class Plan:
    """Everything that decides a run's numbers, beside the faces and the seeds.

    Parameters
    ----------
    loss, loss_settings
        Of `pipeline.losses`.
    backbone, backbone_settings
        As for `pipeline.backbones.starts.build`.
    look
        What networks see of a crop.
    augment
        Changes of training pictures.
    goal, head, recipe
        What is learnt, by which head, and how.
    within
        The share of test errors up to this one is counted.
    """

    loss: str
    backbone: str
    look: Look
    loss_settings: Mapping[str, Any] = field(default_factory=dict)
    backbone_settings: Mapping[str, Any] = field(default_factory=dict)
    augment: Sequence[Operation] = ()
    goal: Goal = field(default_factory=Goal)
    head: HeadRecipe = field(default_factory=HeadRecipe)
    recipe: Recipe = field(default_factory=Recipe)
    within: float = 5.0
