import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import UserError
from pipeline.core.tables import write_table
from pipeline.evaluation import results

SGD = Path("models/fixed/sgd")


def change(path: Path, edit: Callable) -> None:
    """Rewrite a table through pandas."""
    frame = pq.read_table(path).to_pandas()
    write_table(pa.Table.from_pandas(edit(frame), preserve_index=False), path, "test")


def test_predictions_are_aligned_to_the_faces_whatever_the_order_of_rows(folder, reader):
    whole = reader(folder)
    change(folder / SGD / "predictions.parquet", lambda frame: frame.sample(frac=1, random_state=1))
    change(folder / SGD / "scores.parquet", lambda frame: frame.iloc[::-1])
    np.testing.assert_array_equal(reader(folder).runs[1].predictions, whole.runs[1].predictions)
    frame = pq.read_table(folder / SGD / "predictions.parquet").to_pandas().set_index(["member", "face_id"])
    for member, column in ((0, 3), (4, 200)):
        face = whole.faces["face_id"][column]
        assert whole.runs[1].predictions[member, column] == frame.loc[(member, face), "prediction"]


def test_training_predictions_may_be_left_out(folder, reader):
    faces = reader(folder).faces
    judged = set(faces.loc[faces["split"] != "train", "face_id"])
    change(folder / SGD / "predictions.parquet", lambda frame: frame[frame["face_id"].isin(judged)])
    predictions = reader(folder).runs[1].predictions
    assert np.isnan(predictions[0, : 240 // 2]).all()
    assert np.isfinite(predictions[0, 240 // 2 :]).all()


def test_a_diverged_member_keeps_no_score_it_made_by_accident(folder, reader):
    def revive(frame):
        frame.loc[frame["diverged"], ["mae", "val_mae", "test_mae"]] = 0.001
        return frame

    change(folder / SGD / "scores.parquet", revive)
    scores = reader(folder).runs[1].scores
    assert scores.loc[scores["diverged"], ["mae", "val_mae", "test_mae"]].isna().all(axis=None)


def test_groups_come_along_and_vectors_stay_on_disk(complete):
    assert list(complete.faces.columns) == ["face_id", "target", "split", "gender"]


def test_the_finders_curves_are_optional(complete):
    assert [run.lr_curves is not None for run in complete.runs] == [False, False, True, True]


def drop_column(name: str) -> Callable:
    return lambda frame: frame.drop(columns=name)


def put(column: str, row: int, value: object) -> Callable:
    def edit(frame):
        frame = frame.astype({column: object}) if value is None or isinstance(value, str) else frame
        frame.loc[row, column] = value
        return frame

    return edit


MISTAKES = [
    ("faces.parquet", put("face_id", 1, f"{7:064x}"), r"faces.parquet lists face 0+7 twice"),
    ("faces.parquet", put("target", 0, float("inf")), "target of face .* is not a finite number"),
    ("faces.parquet", lambda f: f[f["split"] != "test"], "faces.parquet has no test face"),
    ("faces.parquet", lambda f: f[:0], "holds no faces"),
    (SGD / "scores.parquet", drop_column("seed"), "scores.parquet has no column 'seed'"),
    (SGD / "scores.parquet", put("seed", 2, None), "'seed', row 2 is empty"),
    (SGD / "scores.parquet", put("test_mae", 1, 9.0), "member 1 has a test_mae of .* different runs"),
    (SGD / "scores.parquet", put("member", 1, 0), "one row for each member"),
    (
        SGD / "predictions.parquet",
        put("face_id", 5, "stranger"),
        "predicts face stranger, which is not among",
    ),
    (SGD / "predictions.parquet", put("member", 5, 77), "has a member 77 that no other file names"),
    (SGD / "predictions.parquet", lambda f: f[:-1], "member 5 lacks a finite prediction for some test faces"),
    (SGD / "predictions.parquet", lambda f: f.iloc[[0, *range(len(f))]], "predicts a face twice"),
    ("baselines/predictions.parquet", lambda f: f[:-1], "baseline 'svr' lacks a prediction"),
]


@pytest.mark.parametrize(("file", "edit", "message"), MISTAKES, ids=[message for *_, message in MISTAKES])
def test_names_the_file_and_what_is_wrong_with_it(folder, reader, file, edit, message):
    change(folder / file, edit)
    with pytest.raises(UserError, match=message):
        reader(folder)


def test_says_which_file_is_missing(folder, reader):
    (folder / SGD / "history.parquet").unlink()
    with pytest.raises(UserError, match=r"fixed/sgd/history.parquet does not exist"):
        reader(folder)


def test_nothing_to_report_is_said(folder):
    with pytest.raises(UserError, match="nothing to report"):
        results.read(folder / "faces.parquet", folder / "models", [], [])


def test_running_times_come_from_logs_where_there_are_any(folder, reader):
    logs = folder / "logs"
    logs.mkdir()
    found = reader(folder)
    told = {"seconds": 9, "member_seconds": [1, 2, 3, 4, 5, 6], "scores": found.runs[3].sha256}
    for name in ("train-found-sgd", "train-found-adam"):  # the second one's are of another run
        (logs / f"{name}.json").write_text(json.dumps(told))
    timed = results.with_seconds(found, logs)
    np.testing.assert_array_equal(timed.runs[3].seconds, [1, 2, 3, 4, 5, 6])
    assert [run.stage_seconds for run in timed.runs] == [None, None, None, 9.0], "not the sum over members"
    assert all(run.seconds is None for run in timed.runs[:3])
    assert all(run.seconds is None for run in results.with_seconds(reader(folder), folder / "no").runs)


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", "{}", "\0", "[" * 100_000, '{"seconds": "long"}', '{"seconds": NaN}', '{"seconds": -1}'),
        *('{"seconds": null}', '{"seconds": [1, 2]}', '{"seconds": 1, "member_seconds": [1]}'),
        *('{"seconds": 1, "member_seconds": [1, 2, 3, 4, 5, NaN]}', '{"seconds": 1, "member_seconds": {}}'),
    ],
)
def test_a_log_that_is_damaged_or_of_another_run_tells_nothing(folder, reader, text):
    found = reader(folder)
    ours = text.replace("{", f'{{"scores": "{found.runs[0].sha256}", ', 1)
    for content in (text, ours, ours.replace(", }", "}")):
        (folder / "train-fixed-adam.json").write_text(content)
        assert all(run.seconds is None for run in results.with_seconds(found, folder).runs)
