"""Reading and decoding pictures that nobody has vetted.

Whatever a file holds, the answer is an RGB array or an `ImageRejected` with a reason to count by. The
size is checked from the header, before a pixel is decoded, so that a small file cannot claim gigabytes.
TIFF is not read: its decoder has the longest history of memory errors, and face sets hardly use it.
"""

import os
import re
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from pipeline.opening import Unusable, open_inside

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
MAX_PIXELS = 50_000_000
MAX_BYTES = 256 * 2**20

ORIENTATION_TAG = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageRejected(ValueError):
    """A picture that is left out: `reason` is a short word to count by, `detail` a sentence to read.

    Examples
    --------
    >>> ImageRejected("no_face", "dlib_hog finds no face").reason
    'no_face'
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def read_file(path: str, root: Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a file below a root folder, without following it out of there and without waiting for it.

    Parameters
    ----------
    path
        Relative to `root`, with forward slashes.
    root
        The folder that no path may leave, neither by `..` nor through a symbolic link.
    max_bytes
        A larger file is refused before it is read.

    Raises
    ------
    ImageRejected
        With a reason of `open_inside`, which manifests are made with too, or `too_many_bytes`.
    """
    try:
        with open_inside(os.path.realpath(root), path, empty=True) as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise ImageRejected("too_many_bytes", f"the file has {size:,} bytes, more than {max_bytes:,}")
            data = file.read(max_bytes + 1)
    except Unusable as error:
        raise ImageRejected(error.reason, str(error)) from error
    except OSError as error:
        raise ImageRejected("unreadable", f"reading failed ({error.strerror})") from error
    if len(data) > max_bytes:
        raise ImageRejected("too_many_bytes", f"the file grew past {max_bytes:,} bytes while it was read")
    return data


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Decode a picture to upright RGB.

    JPEG, PNG, WebP, BMP and GIF with one frame of 8 bits a channel are accepted. Grey and plain palette
    pictures become RGB, the camera's orientation (EXIF) is applied, colour profiles are not.

    Parameters
    ----------
    data
        The file's bytes.
    max_pixels
        Width x height above which a picture is refused unread. Pillow itself refuses 179 million.

    Returns
    -------
    ndarray
        (H, W, 3) uint8.

    Raises
    ------
    ImageRejected
        With reason `empty_file`, `not_an_image`, `too_many_pixels`, `animated`, `cmyk`, `sixteen_bit`,
        `palette_alpha`, `transparent`, `colour_mode`, `truncated` or `damaged`.

    Examples
    --------
    >>> decode(b"not a picture")
    Traceback (most recent call last):
        ...
    pipeline.faces.images.ImageRejected: not_an_image: ...
    """
    if not data:
        raise ImageRejected("empty_file", "the file has no bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes and of odd metadata: both are judged here
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                _check_header(image, max_pixels)
                return np.asarray(_upright(_as_rgb(image)))
    except ImageRejected:
        raise
    except UnidentifiedImageError as error:
        raise ImageRejected("not_an_image", f"the bytes are none of {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        # Pillow's own limit, of which its sentence says how many pixels the header claims
        claimed = int(re.findall(r"\d+", str(error))[0])
        limit = f"max_pixels ({max_pixels:,})" if claimed > max_pixels else "Pillow opens"
        raise ImageRejected("too_many_pixels", f"{claimed:,} pixels are more than {limit}") from error
    except Exception as error:  # damaged bytes make codecs raise anything at all
        reason = "truncated" if _is_truncation(error) else "damaged"
        raise ImageRejected(reason, f"the decoder says: {str(error) or type(error).__name__}") from error


def _is_truncation(error: Exception) -> bool:
    return isinstance(error, EOFError) or "truncated" in str(error).lower()


def _check_header(image: Image.Image, max_pixels: int) -> None:
    """Refuse what the header already shows to be too large or of another kind."""
    width, height = image.size
    if width * height > max_pixels:
        raise ImageRejected(
            "too_many_pixels", f"{width:,} x {height:,} pixels are more than max_pixels ({max_pixels:,})"
        )
    # Telephones append a depth map or a thumbnail as a second JPEG (MPO); the first is the photograph.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise ImageRejected("animated", f"the {image.format} has several frames")
    if image.mode == "CMYK":
        raise ImageRejected("cmyk", "the colours are CMYK, made for a printer: convert the file to RGB")
    # Pillow drops the lower byte of 48-bit PNGs silently; only the decoder's own arguments tell.
    sixteen = image.format == "PNG" and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    if sixteen or image.mode.startswith(("I", "F")):
        raise ImageRejected("sixteen_bit", "channels have more than 8 bits: convert the file to 8 bits")
    if image.mode == "PA" or (image.mode == "P" and image.has_transparency_data):
        raise ImageRejected("palette_alpha", "a palette with transparency: hidden pixels have no colour")
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        raise ImageRejected("colour_mode", f"colour mode {image.mode} is not read: convert the file to RGB")


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        darkest, _ = image.convert("RGBA").getchannel("A").getextrema()
        if darkest != 255:
            raise ImageRejected("transparent", "parts of the picture are transparent: they have no colour")
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    # Not ImageOps.exif_transpose: it also rewrites all other tags, and fails where one of them is odd.
    turn = UPRIGHT.get(image.getexif().get(ORIENTATION_TAG, 1))
    return image if turn is None else image.transpose(turn)
