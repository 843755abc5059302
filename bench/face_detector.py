"""dlib's convolutional face detector: milliseconds a picture by dlib and by torch, and whether they agree.

python bench/face_detector.py [--rounds 5] [--pictures FOLDER] [--others 300]

Speed is measured on one public-domain photograph in two sizes, on one thread, the programs taking turns; the
figures are medians of the processor's time over the rounds, after one that is not counted. With a folder of
pictures, both programs are also asked about every picture in which HOG finds nothing, and about others,
evenly picked: they agree when the boxes are the same to the pixel, and the scores within rounding.
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import astronaut

from pipeline.core.boxes import Pixels
from pipeline.core.pool import THREAD_VARIABLES
from pipeline.faces.detectors import BACKENDS, build
from pipeline.faces.images import ImageRejected, decode

# Width, height, and the side that the detector scales larger pictures down to.
CASES = ((200, 200, 512), (1000, 750, 512), (1000, 750, 1000))


def measure(width: int, height: int, max_side: int, rounds: int = 5) -> dict[str, float]:
    """Median milliseconds for a picture by both programs."""
    square = astronaut()[10:210, 110:310] if width == height else astronaut()[:384]
    picture = np.asarray(Image.fromarray(square).resize((width, height)))
    spent: dict[str, list[float]] = {backend: [] for backend in BACKENDS}
    for turn in range(rounds + 1):
        for backend, times in spent.items():
            detector = build("dlib_cnn", backend=backend, max_side=max_side)
            begin = time.process_time()
            detector.detect(picture)
            if turn:
                times.append(time.process_time() - begin)
    return {backend: 1000 * statistics.median(times) for backend, times in spent.items()}


def compare(folder: Path, others: int) -> None:
    """Ask both programs about pictures of a folder, and print in how far they agree."""
    hog = build("dlib_hog")
    pictures = dict(readable(folder))
    missed = [name for name, picture in pictures.items() if not hog.detect(picture)]
    seen = sorted(set(pictures) - set(missed))
    chosen = missed + seen[:: max(1, len(seen) // max(others, 1))][:others]
    in_torch, in_dlib = (build("dlib_cnn", backend=backend) for backend in BACKENDS)
    faces, edge, score = 0, 0.0, 0.0
    for name in chosen:
        ours, theirs = in_torch.detect(pictures[name]), in_dlib.detect(pictures[name])
        faces += len(theirs)
        if len(ours) != len(theirs):
            print(f"{name}: torch finds {len(ours)} faces and dlib {len(theirs)}")
            continue
        for one, other in zip(ours, theirs, strict=True):
            edge = max(edge, float(np.abs(np.subtract(one.box, other.box)).max()))
            score = max(score, abs(one.score - other.score))
    print(f"{len(chosen)} pictures compared, among them the {len(missed)} of {len(pictures)} that HOG misses")
    print(f"{faces} faces; largest difference {edge:g} pixels in an edge, {score:.1e} in a score")


def readable(folder: Path) -> Iterator[tuple[str, Pixels]]:
    """Name and pixels of every picture in a folder."""
    for path in sorted(folder.iterdir()):
        try:
            yield path.name, decode(path.read_bytes())
        except ImageRejected as error:
            print(f"{path.name}: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=Path, help="a folder of pictures to compare the programs on")
    parser.add_argument("--others", type=int, default=300, help="pictures beside those that HOG misses")
    asked = parser.parse_args()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # read when dlib and torch are imported: later
    for width, height, max_side in CASES:
        times = measure(width, height, max_side, asked.rounds)
        shown = ", ".join(f"{backend} {spent:.1f} ms" for backend, spent in times.items())
        print(f"{width} x {height}, max_side {max_side}: {shown}", flush=True)
    if asked.pictures:
        compare(asked.pictures, asked.others)


if __name__ == "__main__":
    main()
