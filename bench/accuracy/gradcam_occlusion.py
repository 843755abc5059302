"""Does Grad-CAM point at what an age model looks at? Cover the hottest and the coldest quarter of 100 faces.

python -m bench.accuracy.gradcam_occlusion UTKFACE_FOLDER [--faces 100] [--train 1000] [--layers a,b]

The age model is dlib's face network in torch with a linear head, fitted by ridge regression on the vectors
of other faces of the folder; the 100 faces are not among them. Photographs are UTKFace's aligned 200 x 200
crops. For every layer the table has how far the predicted age moves, in years, on average, when the hottest
quarter of the chip's pixels is covered with its mean colour, when the coldest is, the difference with
Student's 95% interval, and how often the hottest moved it more. A last row covers a random quarter.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import RidgeCV
from torch import nn

from pipeline.datasets.readers.utkface import parse_name
from pipeline.dlib.chips import chips
from pipeline.dlib.resnet import DlibResNet, load_dlib_weights
from pipeline.explain.gradcam import grad_cam
from pipeline.explain.occlusion import Effect, effect_of_covering
from pipeline.explain.targets import Value
from pipeline.metrics.distributions import mean_interval

BATCH = 20


def photographs(folder: Path, count: int, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Chips (N, 3, 150, 150), 0 to 255, and ages of so many faces, drawn from the folder."""
    names = sorted(path.name for path in folder.glob("*.jpg") if parse_name(path.name) is not None)
    drawn = np.random.default_rng(seed).permutation(len(names))[:count]
    cut, ages = [], []
    for position in drawn:
        named = parse_name(names[position])
        assert named is not None
        pixels = np.asarray(Image.open(folder / names[position]).convert("RGB"))
        cut.append(chips(pixels[None])[0])
        ages.append(named[0])
    return torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2).float(), np.array(ages, dtype=np.float64)


def vectors(network: nn.Module, pictures: torch.Tensor) -> np.ndarray:
    """Face vectors of chips."""
    with torch.inference_mode():
        return np.concatenate([network(part).numpy() for part in pictures.split(BATCH)])


def age_model(pictures: torch.Tensor, ages: np.ndarray) -> nn.Module:
    """dlib's network with a linear age head."""
    network = load_dlib_weights(DlibResNet()).eval()
    ridge = RidgeCV(alphas=np.logspace(-4, 1, 11)).fit(vectors(network, pictures), ages)
    head = nn.Linear(128, 1)
    head.weight.data = torch.from_numpy(ridge.coef_[None]).float()
    head.bias.data.fill_(float(ridge.intercept_))
    return nn.Sequential(network, head).eval()


def measure(model: nn.Module, pictures: torch.Tensor, layer: str | None, share: float = 0.25) -> Effect:
    """How far ages move, over all pictures; without a layer, heat is random."""
    rng = np.random.default_rng(0)
    parts = []
    for part in pictures.split(BATCH):
        if layer is None:
            heat = rng.random((len(part), *part.shape[2:]), dtype=np.float32)
        else:
            heat = grad_cam(model, part, f"0.{layer}", Value(), sign="both")
        parts.append(effect_of_covering(model, part, heat, Value(), share))
    return Effect(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--faces", type=int, default=100)
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--layers", default="level2,level3,level4,level5")
    options = parser.parse_args()
    pictures, ages = photographs(options.folder, options.faces + options.train)
    test, test_ages = pictures[: options.faces], ages[: options.faces]
    model = age_model(pictures[options.faces :], ages[options.faces :])
    with torch.inference_mode():
        predicted = torch.cat([model(part) for part in test.split(BATCH)]).squeeze(1).numpy()
    error = np.abs(predicted - test_ages).mean()
    print(f"{len(test)} faces, {len(ages) - len(test)} trained on: MAE {error:.2f} years")
    print(f"{'layer':8s} {'hottest':>8s} {'coldest':>8s} {'difference':>22s} {'hottest moved more':>19s}")
    for layer in [*options.layers.split(","), None]:
        hot, cold = measure(model, test, layer)
        gap = mean_interval(hot - cold)
        print(
            f"{layer or 'random':8s} {hot.mean():8.2f} {cold.mean():8.2f} "
            f"{gap.point:8.2f} ({gap.low:5.2f} to {gap.high:5.2f}) {(hot > cold).mean():18.0%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
