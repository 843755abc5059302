"""Readers of head poses, each on a tiny set in the true format."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from pipeline import datasets
from pipeline.core.errors import UserError
from pipeline.core.rejects import Rejects
from pipeline.datasets.readers.biwi import rotation_angles


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def read(name: str, root: Path, **settings: Any) -> tuple[dict[str, dict[str, Any]], Rejects]:
    rejects = Rejects()
    table = datasets.read(name, root, rejects=rejects, **settings)
    assert table.column_names[-3:] == ["yaw", "pitch", "roll"]
    assert all(str(table.schema.field(angle).type) == "double" for angle in ("yaw", "pitch", "roll"))
    return {row["path"]: row for row in table.to_pylist()}, rejects


def angles(row: dict[str, Any]) -> tuple[float, float, float]:
    return row["yaw"], row["pitch"], row["roll"]


def face(root: Path, name: str, yaw: float, pitch: float, roll: float, compressed: bool = True) -> None:
    """A picture and its MATLAB file as 3DDFA writes them."""
    put(root, f"{name}.jpg")
    turned = np.radians([[pitch, yaw, roll]])
    pose = np.concatenate([turned, [[60.0, 40.0, -66.0, 0.0012]]], axis=1).astype(np.float32)
    labels = {
        "pt2d": np.zeros((2, 21)),
        "roi": np.array([[1, 2, 3, 4]], dtype=np.int16),
        "Pose_Para": pose,
        "pt3d_68": np.zeros((3, 68)),
    }
    savemat(root / f"{name}.mat", labels, do_compression=compressed)


def test_aflw2000_angles_are_in_degrees_in_the_order_of_its_files(tmp_path):
    face(tmp_path, "image00002", 1.5, -30.0, 20.25)
    face(tmp_path, "image00004", -98.9, 5.0, 99.0, compressed=False)
    rows, rejects = read("aflw2000", tmp_path)
    assert angles(rows["image00002.jpg"]) == pytest.approx((1.5, -30.0, 20.25), abs=1e-4)
    assert angles(rows["image00004.jpg"]) == pytest.approx((-98.9, 5.0, 99.0), abs=1e-4)
    assert rows["image00002.jpg"]["target"] == rows["image00002.jpg"]["yaw"]
    assert rejects.counts() == {}
    rows, _ = read("aflw2000", tmp_path, target="pitch")
    assert rows["image00002.jpg"]["target"] == pytest.approx(-30.0, abs=1e-4)
    with pytest.raises(UserError, match="target 'age' of a head pose: choose one of yaw, pitch, roll"):
        read("aflw2000", tmp_path, target="age")


def test_pictures_beyond_the_limit_are_left_out_and_counted(tmp_path):
    face(tmp_path, "image1", 0, 0, 0)
    face(tmp_path, "image2", 99.5, 0, 0)
    face(tmp_path, "image3", 0, -150.0, 0)
    face(tmp_path, "image4", 0, 0, math.nan)
    rows, rejects = read("aflw2000", tmp_path)
    assert set(rows) == {"image1.jpg"}
    assert rejects.counts() == {"angle_out_of_range": 2, "bad_pose": 1}
    assert "the pitch of -150.0 degrees is beyond 99" in " ".join(str(row["detail"]) for row in rejects.rows)
    rows, rejects = read("aflw2000", tmp_path, limit=None)
    assert set(rows) == {"image1.jpg", "image2.jpg", "image3.jpg"}
    assert rejects.counts() == {"bad_pose": 1}


def test_a_pose_that_is_missing_damaged_or_something_else_costs_its_picture_only(tmp_path):
    face(tmp_path, "good", 1, 2, 3)
    put(tmp_path, "alone.jpg", "empty.jpg", "text.jpg", "notes.md")
    (tmp_path / "empty.mat").touch()
    (tmp_path / "text.mat").write_text("Pose_Para = [0 0 0]")
    face(tmp_path, "short", 1, 2, 3)
    data = (tmp_path / "short.mat").read_bytes()
    (tmp_path / "short.mat").write_bytes(data[: len(data) // 2])
    face(tmp_path, "two", 1, 2, 3)
    savemat(tmp_path / "two.mat", {"Pose_Para": np.zeros((1, 2))})
    face(tmp_path, "words", 1, 2, 3)
    savemat(tmp_path / "words.mat", {"Pose_Para": "none at all"})
    face(tmp_path, "linked", 1, 2, 3)
    (tmp_path / "linked.mat").unlink()
    (tmp_path / "linked.mat").symlink_to("/etc/hostname")
    rows, rejects = read("aflw2000", tmp_path)
    assert set(rows) == {"good.jpg"}
    assert rejects.counts() == {"bad_pose": 7, "not_a_picture": 1}
    said = {row["path"]: str(row["detail"]) for row in rejects.rows}
    assert said["alone.jpg"] == "alone.mat: there is no such file"
    assert said["text.jpg"] == "text.mat: not a MATLAB file of version 5"
    assert "has no Pose_Para of three numbers" in said["two.jpg"]
    assert "leads out of the root" in said["linked.jpg"]


def test_300w_lp_keeps_the_views_of_a_face_together_and_can_leave_out_mirrored_ones(tmp_path):
    for folder in ("AFW", "AFW_Flip"):
        face(tmp_path, f"{folder}/AFW_134212_1_0", 10, 0, 0)
        face(tmp_path, f"{folder}/AFW_134212_1_3", 40, 0, 0)
    face(tmp_path, "HELEN/HELEN_100032540_1_0", 10, 0, 0)
    put(tmp_path, "Code/main.m")
    savemat_path = tmp_path / "landmarks/AFW"
    savemat_path.mkdir(parents=True)
    savemat(savemat_path / "AFW_134212_1_0_pts.mat", {"pts_2d": np.zeros((68, 2))})
    rows, rejects = read("300w_lp", tmp_path)
    assert {path: (row["subject"], row["folder"]) for path, row in rows.items()} == {
        "AFW/AFW_134212_1_0.jpg": ("AFW_134212_1", "AFW"),
        "AFW/AFW_134212_1_3.jpg": ("AFW_134212_1", "AFW"),
        "AFW_Flip/AFW_134212_1_0.jpg": ("AFW_134212_1", "AFW"),
        "AFW_Flip/AFW_134212_1_3.jpg": ("AFW_134212_1", "AFW"),
        "HELEN/HELEN_100032540_1_0.jpg": ("HELEN_100032540_1", "HELEN"),
    }
    assert rejects.counts() == {"not_a_picture": 1}
    rows, _ = read("300w_lp", tmp_path, flipped=False)
    assert len(rows) == 3


def pose_file(path: Path, matrix: np.ndarray) -> None:
    lines = [" ".join(f"{value:.6f}" for value in row) + " " for row in matrix]
    path.write_text("\n".join(lines) + "\n\n 58.9 53.6 925.4 \n")


def frame(root: Path, name: str, matrix: np.ndarray, ending: str = "png") -> None:
    put(root, f"{name}_rgb.{ending}")
    pose_file(root / f"{name}_pose.txt", matrix)


def slow_angles(matrix: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch and roll as Hopenet's last version reads Biwi, written out with the math module."""
    r = [[matrix[column][row] for column in range(3)] for row in range(3)]
    roll = -math.atan2(r[1][0], r[0][0]) * 180 / math.pi
    yaw = -math.atan2(-r[2][0], math.sqrt(r[2][1] ** 2 + r[2][2] ** 2)) * 180 / math.pi
    pitch = math.atan2(r[2][1], r[2][2]) * 180 / math.pi
    return yaw, pitch, roll


def test_biwi_angles_are_those_of_its_rotation_matrices(tmp_path):
    turned = Rotation.from_euler("xyz", [20, -35, 10], degrees=True).as_matrix()
    frame(tmp_path, "01/frame_00003", turned)
    frame(tmp_path, "02/frame_00004", np.eye(3), "jpg")
    put(tmp_path, "01/rgb.cal", "01/frame_00003_depth.bin", "01.obj", "01/mask.png")
    rows, rejects = read("biwi", tmp_path)
    assert angles(rows["01/frame_00003_rgb.png"]) == pytest.approx(slow_angles(turned), abs=1e-3)
    assert angles(rows["02/frame_00004_rgb.jpg"]) == pytest.approx((0, 0, 0))
    assert [rows[path]["subject"] for path in sorted(rows)] == ["01", "02"]
    assert rejects.counts() == {"bad_name": 1}


def test_each_angle_is_that_of_a_turn_about_its_own_axis():
    for axis, name in (("x", "pitch"), ("y", "yaw"), ("z", "roll")):
        found = rotation_angles(Rotation.from_euler(axis, 25, degrees=True).as_matrix())
        assert {key: round(abs(value)) for key, value in found.items()} == {
            "yaw": 0,
            "pitch": 0,
            "roll": 0,
            name: 25,
        }


def test_biwi_frames_without_a_rotation_are_left_out_with_the_reason(tmp_path):
    frame(tmp_path, "01/frame_1", np.eye(3))
    frame(tmp_path, "01/frame_2", 2 * np.eye(3))
    frame(tmp_path, "01/frame_3", np.diag([1.0, 1.0, -1.0]))
    put(tmp_path, "01/frame_4_rgb.png", "01/frame_5_rgb.png", "01/frame_7_rgb.png")
    (tmp_path / "01/frame_7_pose.txt").write_text(" " * 65_537)
    (tmp_path / "01/frame_5_pose.txt").write_text("1 0 0\n0 1 0\n0 0 1\n")
    frame(tmp_path, "01/frame_6", Rotation.from_euler("z", 120, degrees=True).as_matrix())
    rows, rejects = read("biwi", tmp_path)
    assert set(rows) == {"01/frame_1_rgb.png"}
    assert rejects.counts() == {"angle_out_of_range": 1, "bad_pose": 5}
    said = {row["path"]: str(row["detail"]) for row in rejects.rows}
    assert said["01/frame_2_rgb.png"].endswith("the pose's matrix is no rotation")
    assert said["01/frame_4_rgb.png"] == "01/frame_4_pose.txt: there is no such file"
    assert "not a matrix of nine numbers" in said["01/frame_5_rgb.png"]
    assert said["01/frame_7_rgb.png"].endswith("a file with labels of more than 64 KiB")


def test_one_picture_with_two_poses_is_a_conflict(tmp_path):
    face(tmp_path, "a", 10, 0, 0)
    face(tmp_path, "b", 10, 5, 0)
    face(tmp_path, "c", 10, 5, 0)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
    rows, rejects = read("aflw2000", tmp_path)
    assert set(rows) == {"c.jpg"}
    assert rejects.counts() == {"conflicting_targets": 2}
    assert "yaw 10, pitch 5, roll 0" in str(rejects.rows[0]["detail"])
