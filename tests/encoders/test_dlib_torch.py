import numpy as np
import pytest
import torch
from skimage.data import astronaut

from pipeline.backbones.views import View
from pipeline.core.errors import UserError
from pipeline.dlib.chips import predict_landmarks
from pipeline.encoders.dlib_descriptor import DlibDescriptor
from pipeline.encoders.dlib_torch import build_dlib
from pipeline.encoders.precision import agreement

# A face in the middle of a crop with a margin of 0.25.
CROP = np.ascontiguousarray(astronaut()[20:244, 115:339])


@pytest.fixture(scope="module")
def landmarks():
    return predict_landmarks(CROP, 0.25)[None]


@pytest.mark.parametrize("view", [View(), View(mirror=True), View(padding=0.1), View(True, 0.45)])
def test_torch_gives_dlibs_vectors_of_every_view(landmarks, view):
    found = build_dlib(view=view).encode(CROP[None], landmarks)
    expected = build_dlib(view=view, backend="dlib").encode(CROP[None], landmarks)
    assert found.dtype == np.float32, "the type of every vector"
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_landmarks_are_found_where_none_are_given(landmarks):
    encoder = build_dlib()
    assert (encoder.encode(CROP[None]) == encoder.encode(CROP[None], landmarks)).all()


def test_bfloat16_passes_the_check_it_is_held_to(landmarks):
    random = np.random.default_rng(0)
    places = landmarks + random.uniform(-12, 12, (16, 5, 2)).astype(np.float32)
    crops = np.repeat(CROP[None], 16, axis=0)
    exact, reduced = (build_dlib(precision=p).encode(crops, places) for p in ("fp32", "bfloat16"))
    assert not np.array_equal(exact, reduced), "another precision"
    assert agreement(exact, reduced) >= 0.999, "cosine of the worst face, less the mean"


def test_the_linear_layer_keeps_its_precision(landmarks):
    encoder = build_dlib(precision="bfloat16")
    encoder.encode(CROP[None], landmarks)
    types = {parameter.shape[-1]: parameter.dtype for parameter in encoder.network.head.parameters()}
    assert types == {256: torch.float32}, "the head"


def test_all_that_changes_a_bit_has_a_key_of_its_own():
    encoders = [
        build_dlib(),
        build_dlib(backend="dlib"),
        build_dlib(precision="bfloat16"),
        build_dlib(compile=True),
        build_dlib(view=View(mirror=True)),
        build_dlib(view=View(padding=0.1)),
        build_dlib(margin=0.3),
    ]
    assert len({encoder.fingerprint for encoder in encoders}) == len(encoders), "two encoders share a key"
    assert build_dlib().fingerprint == build_dlib(view=View(padding=0.25)).fingerprint, (
        "the default, spelled out"
    )


def test_the_original_is_kept():
    assert isinstance(build_dlib(backend="dlib", precision="auto"), DlibDescriptor)


@pytest.mark.parametrize("settings", [{"precision": "bfloat16"}, {"compile": True}])
def test_refuses_what_dlib_itself_cannot_do(settings):
    with pytest.raises(UserError, match="choose the backend torch"):
        build_dlib(backend="dlib", **settings)


def test_refuses_an_unknown_backend():
    with pytest.raises(UserError, match="encoder dlib has no backend 'onnx': choose torch or dlib"):
        build_dlib(backend="onnx")
