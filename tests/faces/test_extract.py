import hashlib
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.faces import extract as module
from pipeline.faces.detectors import build
from pipeline.faces.extract import Settings, crop_file, crop_id, extract
from pipeline.faces.images import ImageRejected, Rejection
from pipeline.faces.landmarks import landmarks5
from pipeline.faces.quality import Thresholds, pose
from pipeline.faces.shards import encode

Pixels = npt.NDArray[np.uint8]
HOG = ("dlib_hog",)


def png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def turned(portrait: Pixels, degrees: float) -> Pixels:
    """The portrait turned clockwise."""
    picture = Image.fromarray(np.pad(portrait, ((40, 40), (40, 40), (0, 0)), mode="edge"))
    return np.asarray(picture.rotate(-degrees, Image.Resampling.BICUBIC))


def roll_in(crop: Pixels, margin: float = 0.25) -> float:
    """The roll of the face in a crop, found anew in its pixels."""
    inset = len(crop) * margin / (1 + 2 * margin)
    return pose(landmarks5(crop, (inset, inset, len(crop) - inset, len(crop) - inset))).roll


def test_a_portrait_becomes_a_crop_whose_face_is_centred(portrait_png: bytes) -> None:
    face = extract(portrait_png, Settings(detectors=HOG))
    assert face.pixels.shape == (224, 224, 3)
    assert (face.detector, face.faces) == ("dlib_hog", 1)
    again = max(build("dlib_hog").detect(face.pixels), key=lambda one: one.score)
    centre = np.array([again.box[0] + again.box[2], again.box[1] + again.box[3]]) / 2
    np.testing.assert_allclose(centre, 112, atol=12)
    np.testing.assert_allclose(landmarks5(face.pixels, (37, 37, 187, 187)), face.landmarks, atol=3)


def test_the_largest_face_is_taken_and_several_are_counted_or_rejected(portrait: Pixels) -> None:
    large = np.asarray(Image.fromarray(portrait).resize((360, 360)))
    both = np.hstack([np.pad(portrait, ((0, 120), (0, 0), (0, 0)), mode="edge"), large])
    face = extract(png(both), Settings(detectors=HOG))
    assert face.faces == 2
    assert face.box[0] > 240
    assert face.quality.face_size > 100
    with pytest.raises(ImageRejected, match="several_faces: dlib_hog finds 2 faces"):
        extract(png(both), Settings(detectors=HOG, faces="reject"))


def test_a_picture_without_a_face_is_rejected_by_every_detector() -> None:
    with pytest.raises(ImageRejected, match="no_face: no detector finds a face"):
        extract(png(np.full((60, 60, 3), 120, dtype=np.uint8)), Settings())


@pytest.mark.parametrize("degrees", [-12.0, 10.0])
def test_aligning_makes_the_eyes_level(portrait: Pixels, degrees: float) -> None:
    data = png(turned(portrait, degrees))
    plain = extract(data, Settings(detectors=HOG))
    level = extract(data, Settings(detectors=HOG, align="eyes"))
    assert plain.quality.roll == pytest.approx(degrees + 3, abs=3)
    assert roll_in(plain.pixels) == pytest.approx(plain.quality.roll, abs=3)
    assert roll_in(level.pixels) == pytest.approx(0, abs=1.5)
    assert pose(level.landmarks).roll == pytest.approx(0, abs=1e-3)
    assert level.quality.roll == plain.quality.roll, "the picture's own roll is recorded"
    again = landmarks5(level.pixels, (37, 37, 187, 187))
    np.testing.assert_allclose(again, level.landmarks, atol=4)


def test_exif_orientation_is_respected(portrait: Pixels, portrait_png: bytes) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.rot90(portrait))).save(buffer, "PNG", exif=exif)
    stored, upright = extract(buffer.getvalue(), Settings()), extract(portrait_png, Settings())
    np.testing.assert_array_equal(stored.pixels, upright.pixels)


def test_the_first_broken_limit_is_the_reason_and_all_are_in_the_detail(portrait_png: bytes) -> None:
    limits = Thresholds(min_face_size=500, max_exposure=0.1)
    with pytest.raises(ImageRejected) as caught:
        extract(portrait_png, Settings(detectors=HOG, thresholds=limits))
    assert caught.value.reason == "small_face"
    assert caught.value.detail.startswith("face_size 88 is under 500; exposure 0.")
    assert caught.value.detail.endswith(" is over 0.1")


def test_sharpness_is_not_lowered_by_enlarging_the_crop(portrait_png: bytes) -> None:
    at_own_size = extract(portrait_png, Settings(detectors=HOG, size=132)).quality.sharpness
    enlarged = extract(portrait_png, Settings(detectors=HOG, size=500)).quality.sharpness
    assert enlarged == pytest.approx(at_own_size, rel=0.02)


def test_a_blurred_picture_is_less_sharp(portrait: Pixels) -> None:
    soft = np.asarray(Image.fromarray(portrait).resize((100, 100)).resize((240, 240)))
    settings = Settings(detectors=HOG)
    assert (
        extract(png(soft), settings).quality.sharpness
        < extract(png(portrait), settings).quality.sharpness / 3
    )


def test_webp_and_png_keep_every_pixel_and_jpeg_is_smaller(portrait: Pixels) -> None:
    webp, png, lossy = (encode(portrait, kind, 95) for kind in ("webp", "png", "jpeg"))
    for lossless in (webp, png):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(lossless))), portrait)
    assert len(webp) < len(png)
    assert len(lossy) < len(webp) / 2
    assert len(encode(portrait, "jpeg", 50)) < len(lossy)
    assert Image.open(io.BytesIO(lossy)).format == "JPEG"


def test_a_crops_id_is_the_hash_of_its_bytes_and_landmarks() -> None:
    points = np.arange(10, dtype=np.float32).reshape(5, 2)
    expected = hashlib.sha256(b"abc" + b"".join(np.float32(i).tobytes() for i in range(10))).hexdigest()
    assert crop_id(b"abc", points) == expected
    assert crop_id(b"abc", points + 1) != expected


def test_a_file_becomes_a_row(tmp_path: Path, portrait_png: bytes) -> None:
    (tmp_path / "a.png").write_bytes(portrait_png)
    face_id = hashlib.sha256(portrait_png).hexdigest()
    row = crop_file((face_id, "a.png"), tmp_path, Settings(detectors=HOG, format="jpeg"))
    assert isinstance(row, dict)
    assert row["face_id"] == face_id
    assert row["image"]["path"] == f"{face_id}.jpg"
    assert row["crop_id"] == crop_id(row["image"]["bytes"], row["landmarks"])
    assert row["faces"] == 1


def test_a_file_whose_bytes_are_no_longer_those_of_the_manifest_is_rejected(
    tmp_path: Path, portrait_png: bytes
) -> None:
    (tmp_path / "a.png").write_bytes(portrait_png)
    outcome = crop_file(("0" * 64, "a.png"), tmp_path, Settings())
    assert isinstance(outcome, Rejection)
    assert outcome.reason == "changed"
    assert outcome.detail.endswith("not 000000000000...: run ingest again")


def test_an_unforeseen_failure_costs_one_file_and_is_named(
    tmp_path: Path, portrait_png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of luck")

    (tmp_path / "a.png").write_bytes(portrait_png)
    monkeypatch.setattr(module, "landmarks5", broken)
    task = (hashlib.sha256(portrait_png).hexdigest(), "a.png")
    assert crop_file(task, tmp_path, Settings(detectors=HOG)) == ("failed", "RuntimeError: out of luck")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"align": "nose"}, "align is 'nose': choose one of none, eyes"),
        ({"faces": "all"}, "faces is 'all': choose one of largest, reject"),
        ({"format": "gif"}, "format is 'gif': choose one of webp, png, jpeg"),
        ({"size": 8}, "size is 8: it must be between 32 and 1,024"),
        ({"margin": -0.5}, "margin is -0.5: it must be between 0 and 2"),
        ({"margin": float("nan")}, "margin is nan: it must be between 0 and 2"),
        ({"jpeg_quality": 101}, "jpeg_quality is 101: it must be between 1 and 100"),
        ({"max_pixels": 10**9}, "max_pixels is 1000000000: it must be between 1 and 178,956,970"),
        ({"detectors": ()}, "no detector is named: choose from dlib_hog, dlib_cnn, mtcnn"),
        ({"detectors": ("haar",)}, "unknown detector 'haar'"),
        (
            {"detector_settings": {"mtcnn": {}}},
            "detector_settings names 'mtcnn', which is not among dlib_hog",
        ),
        ({"detector_settings": {"dlib_cnn": {"max_side": 1}}}, "max_side is 1, not a whole number"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        Settings(**settings)  # type: ignore[arg-type]


def test_a_worker_imports_torch_only_when_a_face_escapes_hog(tmp_path: Path, portrait: Pixels) -> None:
    seen = tmp_path / "seen.png"
    seen.write_bytes(png(portrait))
    blank = tmp_path / "blank.png"
    blank.write_bytes(png(np.full((80, 80, 3), 128, dtype=np.uint8)))
    program = f"""
import hashlib, sys
from pathlib import Path
from pipeline.faces.extract import Settings, make_worker
crop = make_worker(Path({str(tmp_path)!r}), Settings())
for name in ("seen.png", "blank.png"):
    data = (Path({str(tmp_path)!r}) / name).read_bytes()
    row = crop((hashlib.sha256(data).hexdigest(), name))
    print(row["detector"] if isinstance(row, dict) else row.reason, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["dlib_hog", "False", "no_face", "True"]
