"""The rendered sample: the same every time, found by a detector, ageing, and careful with its folder."""

import csv
import dataclasses
import hashlib
from collections import Counter, defaultdict

import dlib
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold, cross_val_predict

from pipeline import datasets
from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.synthetic.rendered import COLUMNS, HARD, LABELS, encoded, read_sample, render, specifications
from pipeline.synthetic.scene import draw
from pipeline.synthetic.traits import AGES, SKIN_TONES, person_of, proportions

SEED = 42
DETECT = dlib.get_frontal_face_detector()


def pictures(root):
    return {path.name: path.read_bytes() for path in root.iterdir()}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    root = tmp_path_factory.mktemp("rendered")
    render(root, SEED, per_age=3, workers=1)
    return root


@pytest.fixture(scope="module")
def portraits():
    """126 normal pictures, seven of each age, of two seeds, with what the detector finds in them."""
    faces = []
    for age in AGES:
        for seed, count in ((SEED, 4), (SEED + 1, 3)):
            normal = [f for f in specifications(seed, 8, range(age, age + 1)) if f.condition == "normal"]
            faces += normal[-count:]
    images = [np.asarray(draw(face)) for face in faces]
    return [(face, image, DETECT(image, 0)) for face, image in zip(faces, images, strict=True)]


def hard(condition, count):
    return [face for face in specifications(SEED, 40) if face.condition == condition][:count]


def test_the_same_specification_gives_the_same_bytes():
    for face in [
        *specifications(SEED, 1)[::6],
        *hard("two_faces", 1),
        *hard("covered", 1),
        *hard("no_face", 1),
    ]:
        assert encoded(draw(face)) == encoded(draw(face)), f"{face.name} is drawn differently the second time"


def test_the_number_of_workers_changes_no_byte(rendered, tmp_path):
    render(tmp_path, SEED, per_age=3, workers=2)
    assert pictures(tmp_path) == pictures(rendered)


def test_a_picture_does_not_depend_on_how_many_others_there_are():
    def described(faces):
        return {(face.age, face.name[-8:]): dataclasses.replace(face, name="") for face in faces}

    few, many = described(specifications(SEED, 3, range(5, 9))), described(specifications(SEED, 40))
    assert len(few) == 12
    assert few.items() <= many.items()


def test_all_pictures_differ_and_are_small_files(rendered):
    files = {name: data for name, data in pictures(rendered).items() if name != LABELS}
    assert len(files) == 3 * len(AGES)
    assert len({hashlib.sha256(data).digest() for data in files.values()}) == len(files)
    assert max(map(len, files.values())) <= 20_000


def test_another_seed_gives_other_faces():
    first, second = (specifications(seed, 1)[0] for seed in (SEED, SEED + 1))
    assert not np.array_equal(np.asarray(draw(first)), np.asarray(draw(second)))


def test_the_hog_detector_finds_the_normal_faces(portraits):
    missed = [face for face, _, boxes in portraits if not boxes]
    assert len(portraits) >= 120
    assert len(missed) <= 0.05 * len(portraits), f"not found: {[(f.age, f.skin_tone) for f in missed]}"
    twice = [face for face, _, boxes in portraits if len(boxes) > 1]
    assert not twice, f"found more than one face in {twice}"


def test_age_shows_in_the_pixels_of_the_face(portraits):
    found = [(face, image, boxes[0]) for face, image, boxes in portraits if boxes]
    crops = [
        Image.fromarray(image).crop((b.left(), b.top(), b.right(), b.bottom())).resize((24, 24)).convert("L")
        for _, image, b in found
    ]
    pixels = np.stack([np.asarray(crop, float).ravel() for crop in crops])
    pixels = (pixels - pixels.mean(axis=1, keepdims=True)) / pixels.std(axis=1, keepdims=True)
    ages = np.array([float(face.age) for face, _, _ in found])
    subjects = [f"{face.subject} {person_of(face).shape[0]}" for face, _, _ in found]
    guesses = cross_val_predict(
        RidgeCV(np.logspace(0, 4, 9)), pixels, ages, groups=subjects, cv=GroupKFold(5)
    )
    error, blind = np.abs(guesses - ages).mean(), np.abs(ages - ages.mean()).mean()
    assert error < 0.6 * blind, f"mean error {error:.2f} years, {blind:.2f} without looking"


def test_proportions_follow_growth_from_year_to_year():
    people = [person_of(face) for face in specifications(SEED, 24, range(1, 2))]
    measured = [[proportions(person, age) for person in people] for age in AGES]
    falling = ("eye_line", "eye_height", "iris", "cheek")
    rising = ("nose", "chin", "brow_thickness", "mouth_width")
    for name in falling + rising:
        course = np.array([np.mean([getattr(p, name) for p in year]) for year in measured])
        steps = np.diff(course if name in rising else -course)
        assert (steps > 0).all(), f"{name} does not change in one direction: {course.round(3)}"


def test_one_picture_in_twenty_is_hard_and_every_kind_occurs():
    for seed in range(5):
        counts = Counter(face.condition for face in specifications(seed, 40))
        assert counts == {"normal": 684, **dict.fromkeys(HARD, 6)}, f"seed {seed}"


def test_hard_pictures_are_what_they_say():
    def boxes(face):
        return len(DETECT(np.asarray(draw(face)), 0))

    def sharpness(face):
        return float(np.abs(np.diff(np.asarray(draw(face).convert("L"), float)[48:208, 48:208])).mean())

    assert [boxes(face) for face in hard("no_face", 6)] == [0] * 6
    assert [boxes(face) for face in hard("small", 6)] == [0] * 6
    assert all(boxes(face) == 2 for face in hard("two_faces", 6))
    assert all(np.asarray(draw(face)).mean() < 50 for face in hard("dark", 6))
    for face in hard("blurred", 6):
        assert sharpness(face) < 0.5 * sharpness(dataclasses.replace(face, condition="normal"))
    for face in hard("covered", 6):
        plain, covered = (
            np.asarray(draw(dataclasses.replace(face, condition=kind)), float)
            for kind in ("normal", "covered")
        )
        changed = np.abs(plain - covered).max(axis=2)[64:224, 48:208] > 25
        assert changed.mean() > 0.2, f"only {changed.mean():.0%} of the face's place is covered"


def test_subjects_keep_gender_and_skin_tone_and_appear_at_several_ages():
    by_subject = defaultdict(list)
    for face in specifications(SEED, 40):
        by_subject[face.subject].append(face)
    assert len(by_subject) == 120
    for subject, faces in by_subject.items():
        assert len({face.age for face in faces}) == 6, subject
        assert len({(face.gender, face.skin_tone, person_of(face)) for face in faces}) == 1, subject


def test_every_age_has_every_gender_and_skin_tone_equally_often():
    for age in AGES:
        faces = specifications(SEED, 12, range(age, age + 1))
        counts = Counter((face.gender, face.skin_tone) for face in faces)
        assert len(counts) == 2 * len(SKIN_TONES), f"age {age}: {counts}"
        assert set(counts.values()) == {1}, f"age {age}: {counts}"


def test_labels_lie_beside_the_pictures(rendered):
    with (rendered / LABELS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert {row["path"] for row in rows} == set(pictures(rendered)) - {LABELS}
    assert Counter(row["target"] for row in rows) == {str(age): 3 for age in AGES}


def test_reads_as_a_manifest_and_renders_what_is_missing(tmp_path):
    rejects = Rejects()
    table = datasets.read("sample", tmp_path / "new", rejects=rejects, seed=SEED, per_age=1, workers=1)
    assert rejects.counts() == {}
    assert table.column_names == [
        "face_id", "path", "target", "subject", "dataset", "condition", "gender", "skin_tone",
    ]  # fmt: skip
    assert sorted(table["target"].to_pylist()) == [float(age) for age in AGES]
    for row in table.to_pylist():
        data = (tmp_path / "new" / row["path"]).read_bytes()
        assert row["face_id"] == hashlib.sha256(data).hexdigest()
        assert f"_age{row['target']:02.0f}_" in row["path"]


def test_a_second_call_writes_nothing(rendered):
    before = {path.name: path.stat().st_mtime_ns for path in rendered.iterdir()}
    render(rendered, SEED, per_age=3)
    assert {path.name: path.stat().st_mtime_ns for path in rendered.iterdir()} == before


def test_missing_torn_and_empty_pictures_are_drawn_again(rendered, tmp_path):
    render(tmp_path, SEED, per_age=1, workers=1)
    whole = pictures(tmp_path)
    first, second, third, fourth = sorted(set(whole) - {LABELS})[:4]
    (tmp_path / LABELS).unlink()
    (tmp_path / first).unlink()
    (tmp_path / second).write_bytes(whole[second][:3000])
    (tmp_path / third).write_bytes(b"")
    (tmp_path / fourth).write_bytes(whole[fourth][:100])
    render(tmp_path, SEED, per_age=1, workers=1)
    assert pictures(tmp_path) == whole


def test_a_rendering_killed_half_way_ends_in_the_same_bytes(rendered, tmp_path, killed):
    root = tmp_path / "killed"
    code = (
        "from pathlib import Path; from pipeline.synthetic.rendered import render; "
        f"render(Path(sys.argv[1]), {SEED}, per_age=3, workers=1)"
    )
    killed(code, [str(root)], "*.jpg", finished=5)
    assert len([name for name in pictures(root) if not name.startswith(".")]) == 5
    assert not (root / LABELS).exists()
    render(root, SEED, per_age=3, workers=1)
    shown = {name: data for name, data in pictures(root).items() if not name.startswith(".")}
    assert shown == pictures(rendered)


def test_other_settings_replace_the_folders_own_pictures_only(tmp_path):
    render(tmp_path, SEED, per_age=1, workers=1)
    (tmp_path / ".gitignore").write_text("*\n")
    old = {path.name for path in tmp_path.glob("*.jpg")}
    render(tmp_path, SEED + 1, per_age=1, workers=1)
    new = {path.name for path in tmp_path.glob("*.jpg")}
    assert len(new) == len(AGES)
    assert not old & new
    assert (tmp_path / ".gitignore").read_text() == "*\n"
    assert (tmp_path / LABELS).read_text().count("seed43") == len(AGES)


@pytest.mark.parametrize("name", ["holiday.jpg", "labels.csv", "sample_v1_seed42_n1_age01_0000.png"])
def test_refuses_a_folder_with_files_of_somebody_else(tmp_path, name):
    (tmp_path / name).write_bytes(b"path,age\nmine.jpg,7\n")
    with pytest.raises(UserError, match=f"{name}.*not of the rendered sample.*empty folder"):
        render(tmp_path, SEED, per_age=1)
    assert pictures(tmp_path) == {name: b"path,age\nmine.jpg,7\n"}


def test_refuses_a_labels_file_that_names_other_pictures(tmp_path):
    text = ",".join(COLUMNS) + "\nmine.jpg,7,me,female,I,normal\n"
    (tmp_path / LABELS).write_text(text)
    with pytest.raises(UserError, match=r"labels\.csv"):
        render(tmp_path, SEED, per_age=1)
    assert (tmp_path / LABELS).read_text() == text


def test_never_writes_through_a_link_or_into_a_folder_of_its_pictures_name(tmp_path):
    photograph = tmp_path / "photograph.jpg"
    photograph.write_bytes(b"precious")
    name = specifications(SEED, 1)[0].name
    for number, make in enumerate((lambda path: path.symlink_to(photograph), lambda path: path.mkdir())):
        root = tmp_path / str(number)
        root.mkdir()
        make(root / name)
        with pytest.raises(UserError, match="not of the rendered sample"):
            render(root, SEED, per_age=1)
    assert photograph.read_bytes() == b"precious"


def test_a_root_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"file cannot hold the rendered sample .*data\.root"):
        read_sample(tmp_path / "file", rejects=Rejects(), per_age=1)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"seed": -1}, "seed is -1: it must be 0 or more"),
        ({"seed": 1, "per_age": 0}, "per_age is 0: it must be 1 or more"),
        ({"seed": 1, "ages": range(5)}, r"ages are range\(0, 5\): they must lie within 1 to 18"),
        ({"seed": 1, "ages": range(5, 5)}, "ages are"),
    ],
)
def test_refuses_settings_out_of_range(settings, said):
    with pytest.raises(UserError, match=said):
        specifications(**settings)
