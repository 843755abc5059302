"""Reading and decoding pictures that nobody has vetted.

Whatever a file holds, the answer is an RGB array or an `ImageRejected` with a reason to count by. The
size and the number of parts are checked before a pixel is decoded, so that a small file cannot claim
gigabytes or minutes; metadata never reach the decoder.
TIFF is not read: its decoder has the longest history of memory errors, and face sets hardly use it.
"""

import contextlib
import os
import re
import warnings
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from pipeline.core.files import Unusable, open_inside
from pipeline.faces.containers import Contents, TooManyPartsError, contents
from pipeline.faces.orientation import UnreadableOrientationError, orientation

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
MAX_PIXELS = 50_000_000
MAX_BYTES = 128 * 2**20
MAX_SIDE = 65_535
"""Pixels; no camera and no JPEG has more, and a decoder needs memory for every row."""
WEIGHTS = {"WEBP": 2}
"""Pixels of such a file count so often: its decoder holds each of them so much more often than others do."""
SCANS = 20
"""Scans that a JPEG of `max_pixels` may have, a smaller one in proportion more; they take time each."""
BAND = 2**20
"""Pixels that are converted at once."""

TURNED: dict[int, Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: pixels.transpose(1, 0, 2)[:, ::-1],
    7: lambda pixels: pixels.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda pixels: pixels.transpose(1, 0, 2)[::-1],
}
"""From what the camera stored, by its orientation, to what is up."""


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


class Rejection(NamedTuple):
    """Why a face was left out: a short word to count by, a sentence to read."""

    reason: str
    detail: str

    @classmethod
    def of(cls, error: Exception) -> "Rejection":
        """What a file that raised an error is left out for: one odd file must not end the work on all others.

        Examples
        --------
        >>> Rejection.of(ImageRejected("no_face", "dlib_hog finds no face")).reason
        'no_face'
        >>> Rejection.of(MemoryError())
        Rejection(reason='failed', detail='MemoryError: no message')
        """
        if isinstance(error, ImageRejected):
            return cls(error.reason, error.detail)
        return cls("failed", f"{type(error).__name__}: {str(error).strip() or 'no message'}")


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


class Decoded(NamedTuple):
    """Upright pixels, (H, W, 3) uint8, and what was odd about the file: warnings, a word and a sentence."""

    pixels: npt.NDArray[np.uint8]
    warnings: tuple[str, ...] = ()


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Decode a picture to upright RGB.

    JPEG, PNG, WebP, BMP and GIF with one frame of 8 bits a channel are accepted. Grey and plain palette
    pictures become RGB, the camera's orientation (EXIF, else XMP) is applied, colour profiles are not.

    Parameters
    ----------
    data
        The file's bytes.
    max_pixels
        Width x height above which a picture is refused unread; half of it for WebP, whose decoder needs
        twice the memory. Pillow itself refuses 179 million.

    Returns
    -------
    ndarray
        (H, W, 3) uint8.

    Raises
    ------
    ImageRejected
        With reason `empty_file`, `not_an_image`, `no_pixels`, `too_many_pixels`, `too_long_side`,
        `too_many_scans`, `too_many_parts`, `animated`, `cmyk`, `sixteen_bit`, `palette_alpha`,
        `transparent`, `colour_mode`, `truncated` or `damaged`.

    Examples
    --------
    >>> decode(b"not a picture")
    Traceback (most recent call last):
        ...
    pipeline.faces.images.ImageRejected: not_an_image: ...
    """
    return decode_noted(data, max_pixels=max_pixels).pixels


def decode_noted(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Decoded:
    """As `decode`, with what was odd about the file: metadata that cannot be understood cost no face."""
    if not data:
        raise ImageRejected("empty_file", "the file has no bytes")
    with _rejecting(max_pixels):
        found = contents(data)
        with Image.open(BytesIO(found.data), formats=FORMATS) as image:
            _check_header(image, max_pixels, found.scans)
            pixels = _as_rgb(image)
        return _upright(pixels, found)


def from_image(image: Image.Image, *, max_pixels: int = MAX_PIXELS) -> Decoded:
    """What `decode_noted` makes of the file that a Pillow image was opened from.

    Raises
    ------
    ImageRejected
        As `decode`; a closed image is `damaged`.
    """
    with _rejecting(max_pixels):
        _check_header(image, max_pixels)
        pixels = _as_rgb(image)
        exif = image.info.get("exif") or _own_exif(image)
        xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
        return _upright(pixels, Contents(b"", exif=exif, xmp=xmp.encode() if isinstance(xmp, str) else xmp))


def _own_exif(image: Image.Image) -> bytes | None:
    """The EXIF of an image that keeps it elsewhere, or has been given some."""
    with contextlib.suppress(Exception):  # of a format that is not read from files: as good as none
        return image.getexif().tobytes()
    return None


@contextlib.contextmanager
def _rejecting(max_pixels: int) -> Iterator[None]:
    """Turn whatever a decoder raises into a rejection, and silence its warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes and of odd metadata: both are judged here
            yield
    except ImageRejected:
        raise
    except TooManyPartsError as error:
        raise ImageRejected("too_many_parts", str(error)) from error
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


def _check_header(image: Image.Image, max_pixels: int, scans: int = 1) -> None:
    """Refuse what the header already shows to be too large or of another kind."""
    width, height = image.size
    if not width * height:
        raise ImageRejected("no_pixels", f"{width:,} x {height:,} pixels are none")
    limit = max_pixels // (weight := WEIGHTS.get(image.format or "", 1))
    if width * height > limit:
        what = "max_pixels" if weight == 1 else f"half of max_pixels, as {image.format} takes more memory"
        detail = f"{width:,} x {height:,} pixels are more than {what} ({limit:,})"
        raise ImageRejected("too_many_pixels", detail)
    if max(width, height) > MAX_SIDE:
        raise ImageRejected(
            "too_long_side", f"{width:,} x {height:,} pixels: no side may have more than {MAX_SIDE:,}"
        )
    if scans > max(1, allowed := SCANS * max_pixels // (width * height)):
        raise ImageRejected(
            "too_many_scans",
            f"{width:,} x {height:,} pixels in {scans:,} scans: {allowed:,} are allowed, save the file anew",
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


def _as_rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Its pixels as RGB, some rows at a time: memory goes into whole copies of a large photograph."""
    image.load()
    transparency = image.has_transparency_data
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(height, top + rows)))
        if transparency and band.convert("RGBA").getchannel("A").getextrema()[0] != 255:
            raise ImageRejected("transparent", "parts of the picture are transparent: they have no colour")
        pixels[top : top + rows] = np.asarray(band.convert("RGB"))
    return pixels


def _upright(pixels: npt.NDArray[np.uint8], found: Contents) -> Decoded:
    try:
        turned = TURNED[orientation(found.exif, found.xmp)](pixels)
    except UnreadableOrientationError as error:
        said = f"odd_metadata: the orientation cannot be read ({error}), the image is taken as upright"
        return Decoded(pixels, (said,))
    return Decoded(np.ascontiguousarray(turned))
