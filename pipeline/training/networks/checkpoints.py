"""What a network in training keeps on disk, so that an interrupted run goes on."""

from pathlib import Path

from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint

from pipeline.training.networks.recipe import Recipe


def keepers(checkpoints: Path, recipe: Recipe) -> list[Callback]:
    """What keeps the last state and the best weights, and stops where nothing gets better."""
    last = ModelCheckpoint(
        checkpoints, filename="last", save_top_k=1, enable_version_counter=False, save_on_train_epoch_end=True
    )
    best = ModelCheckpoint(
        checkpoints,
        filename="best",
        monitor="val_mae",
        save_top_k=1,
        save_weights_only=True,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    stop = [EarlyStopping("val_mae", patience=recipe.stop_patience)] if recipe.stop_patience else []
    return [best, *stop, last]
