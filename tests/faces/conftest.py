import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from skimage.data import astronaut


@pytest.fixture(scope="session")
def portrait() -> npt.NDArray[np.uint8]:
    """A public-domain photograph: 240 x 240, one face of 88 pixels, eyes about 3 degrees off level."""
    return np.ascontiguousarray(astronaut()[10:250, 100:340])


@pytest.fixture(scope="session")
def portrait_png(portrait: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(portrait).save(buffer, "PNG")
    return buffer.getvalue()
