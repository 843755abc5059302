import pytest

from pipeline.core.errors import UserError
from pipeline.core.package_data import dlib_model, package_file


def test_finds_dlibs_models_without_importing_their_package():
    assert dlib_model("shape_predictor_5_face_landmarks.dat").is_file(), "part of face-recognition-models"


@pytest.mark.parametrize("package", ["no_such_package", "face_recognition_models"])
def test_names_what_to_install_where_a_file_is_missing(package):
    with pytest.raises(
        UserError, match=r"x\.dat of the package some-package is missing: pip install some-package"
    ):
        package_file(package, "models/x.dat", "some-package")
