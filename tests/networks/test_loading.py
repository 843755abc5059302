"""Batches: every face once an epoch, changed as its own seed says, targets mirrored with their pictures."""

import os
import signal
import tempfile
from collections import Counter
from multiprocessing import process
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.augmentation.transforms import Augmentation, centre
from pipeline.core.errors import UserError
from pipeline.training.networks import lightning
from pipeline.training.networks.loading import EpochOrder, FaceData, Faces, loader
from pipeline.training.networks.material import mirror_signs


def faces(count: int = 10, side: int = 8, targets: int = 1) -> Faces:
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    values = torch.arange(count * targets, dtype=torch.float32).view(count, targets)
    return Faces(pixels, values, torch.arange(count) + 1.0)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_face_is_seen_once_in_an_epoch_by_one_of_the_devices(world: int) -> None:
    orders = [EpochOrder(12, 5, batch_size=4, rank=rank, world=world) for rank in range(world)]
    for order in orders:
        order.set_epoch(3)
    keys = [key for order in orders for key in order]
    assert sorted(keys) == [(3, row) for row in range(12)]
    assert len({len(order) for order in orders}) == 1


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        one = EpochOrder(30, seed)
        one.set_epoch(epoch)
        return [row for _, row in one]

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


def test_a_last_batch_of_a_single_face_is_left_out_of_training_but_not_of_validation() -> None:
    # Batch normalisation has no variance to learn from one face.
    assert len(EpochOrder(9, 1, batch_size=4)) == 8
    assert len(EpochOrder(10, 1, batch_size=4)) == 10
    assert len(EpochOrder(9, None, batch_size=4)) == 9


@pytest.mark.parametrize("processes", [0, 2])
def test_batches_hold_pictures_targets_weights_and_rows_of_the_same_faces(processes: int) -> None:
    data = FaceData(faces(), 8)
    seen: Counter[int] = Counter()
    for batch in loader(data, EpochOrder(10, 2), 3, processes):
        for pixels, target, weight, row in zip(*batch, strict=True):
            np.testing.assert_array_equal(pixels.permute(1, 2, 0), data.faces.pixels[int(row)])
            assert (float(target), float(weight)) == (float(row), float(row) + 1)
            seen[int(row)] += 1
        assert batch.pixels.is_contiguous(memory_format=torch.channels_last)
    assert set(seen.values()) == {1}
    assert len(seen) == 10


def test_processes_that_could_not_hand_over_batches_are_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a socket's name has at most 107 bytes: torch's loaders would print a traceback and wait for ever
    long = tmp_path / ("t" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setitem(process.current_process()._config, "tempdir", None)  # type: ignore[attr-defined]
    got = [batch.rows.tolist() for batch in loader(FaceData(faces(), 8), EpochOrder(10, None), 5, 2)]
    assert got == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_a_process_that_is_killed_ends_training_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(data: FaceData, keys: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(FaceData, "__getitems__", die)
    batches = loader(FaceData(faces(), 8), EpochOrder(10, None), 5, 1)

    class Trainer:
        def fit(self, *words: object, **more: object) -> None:
            list(batches)

    with pytest.raises(UserError, match="was killed, as systems do that are short of memory"):
        lightning.fit(Trainer(), None, None, None)  # type: ignore[arg-type]


def test_changes_depend_on_seed_epoch_and_face_alone() -> None:
    augment = Augmentation([("flip", {}), ("colour", {"hue": 0.1}), ("affine", {}), ("erasing", {})], 8)
    data = FaceData(faces(), 8, augment, seed=1)
    together = data.__getitems__([(0, 3), (0, 7)]).pixels
    torch.manual_seed(99)
    assert torch.equal(data[0, 7].pixels[0], together[1])
    assert not torch.equal(data[1, 7].pixels[0], together[1])
    assert not torch.equal(FaceData(faces(), 8, augment, seed=2)[0, 7].pixels[0], together[1])


def test_augmentation_leaves_other_random_numbers_as_they_were() -> None:
    augment = Augmentation([("flip", {}), ("affine", {})], 8)
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    augment(torch.zeros(3, 8, 8, dtype=torch.uint8), seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_the_signs_of_yaw_and_roll_change_with_the_picture_and_that_of_pitch_does_not() -> None:
    augment = Augmentation([("flip", {"probability": 0.5})], 8)
    data = FaceData(faces(targets=3), 8, augment, mirror_signs(["yaw", "pitch", "roll"]), seed=1)
    mirrored = 0
    for row in range(10):
        batch = data[0, row]
        plain = torch.from_numpy(data.faces.pixels[row]).permute(2, 0, 1)
        flipped = not torch.equal(batch.pixels[0], plain)
        assert torch.equal(batch.pixels[0], plain.flip(-1) if flipped else plain)
        signs = torch.tensor([-1.0, 1.0, -1.0]) if flipped else torch.ones(3)
        assert torch.equal(batch.targets[0], data.faces.targets[row] * signs)
        mirrored += flipped
    assert 0 < mirrored < 10


def test_larger_pictures_are_cut_at_random_in_training_and_in_the_middle_otherwise() -> None:
    large = faces(side=12)
    plain = FaceData(large, 8)[0, 1].pixels
    assert torch.equal(plain, centre(torch.from_numpy(large.pixels[1:2]).permute(0, 3, 1, 2), 8))
    data = FaceData(large, 8, Augmentation([], 8))
    cuts = {data[epoch, 1].pixels.numpy().tobytes() for epoch in range(20)}
    assert len(cuts) > 5
    whole = large.pixels[1].transpose(2, 0, 1)
    places = {whole[:, y : y + 8, x : x + 8].tobytes() for y in range(5) for x in range(5)}
    assert cuts <= places


def test_every_operation_changes_a_picture_and_keeps_its_form() -> None:
    image = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 16, 16), dtype=np.uint8))
    for name in ("colour", "affine", "rotation", "grey", "erasing"):
        settings = {"probability": 1.0} if name in ("grey", "erasing") else {}
        changed, mirrored = Augmentation([(name, settings)], 16)(image, seed=3)
        assert (changed.shape, changed.dtype, mirrored) == (image.shape, torch.uint8, False), name
        assert not torch.equal(changed, image), name


def test_unknown_operations_settings_and_values_are_named() -> None:
    with pytest.raises(UserError, match="unknown augmentation 'flop': choose one of flip, colour"):
        Augmentation([("flop", {})], 8)
    with pytest.raises(UserError, match="augmentation 'flip' has no setting 'chance'"):
        Augmentation([("flip", {"chance": 1.0})], 8)
    with pytest.raises(UserError, match="augmentation 'colour' does not take"):
        Augmentation([("colour", {"hue": 3.0})], 8)
