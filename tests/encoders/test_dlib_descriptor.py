import dlib
import numpy as np
import pytest
from skimage.data import astronaut

from pipeline.backbones.views import View
from pipeline.backbones.weights import dlib_network_file
from pipeline.core.errors import UserError
from pipeline.dlib.chips import predict_landmarks
from pipeline.encoders.dlib_descriptor import DlibDescriptor

# A face in the middle of a crop with a margin of 0.25.
CROP = np.ascontiguousarray(astronaut()[20:244, 115:339])


@pytest.fixture(scope="module")
def landmarks():
    return predict_landmarks(CROP, 0.25)[None]


def test_descriptors_are_dlibs_own_on_the_same_landmarks(landmarks):
    parts = [dlib.point(int(x), int(y)) for x, y in landmarks[0]]
    shape = dlib.full_object_detection(dlib.rectangle(0, 0, 223, 223), parts)
    model = dlib.face_recognition_model_v1(str(dlib_network_file()))
    found = DlibDescriptor().encode(CROP[None], landmarks)
    assert (found[0] == np.array(model.compute_face_descriptor(CROP, shape), np.float32)).all(), "bit for bit"


def test_a_vector_does_not_depend_on_its_neighbours(landmarks):
    encoder = DlibDescriptor()
    two = encoder.encode(np.stack([CROP[::-1], CROP]), landmarks.repeat(2, axis=0))
    assert (two[1] == encoder.encode(CROP[None], landmarks)[0]).all(), "alone or second of two: the same bits"


def test_every_view_has_vectors_and_a_key_of_its_own(landmarks):
    views = [View(), View(mirror=True), View(padding=0.1), View(padding=0.45)]
    encoders = [DlibDescriptor(view=view) for view in views]
    vectors = np.concatenate([encoder.encode(CROP[None], landmarks) for encoder in encoders])
    assert len(np.unique(vectors, axis=0)) == len(views), "two views look alike"
    assert len({encoder.fingerprint for encoder in encoders}) == len(views), "two views share a key"


def test_the_default_padding_is_one_key_however_it_is_said():
    one, two = DlibDescriptor(), DlibDescriptor(view=View(padding=0.25))
    assert one.fingerprint == two.fingerprint, "the same chips must not be encoded twice"


@pytest.mark.parametrize("settings", [{"precision": "bfloat16"}, {"compile": True}])
def test_refuses_what_dlib_cannot_do(settings):
    with pytest.raises(UserError, match=r"with the backend dlib has no .*: choose the backend torch"):
        DlibDescriptor(**settings)
