"""What all torch encoders share: batches of one fixed shape, precision, compilation, device."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.backbones.views import Images, Landmarks
from pipeline.encoders.encoder import Vectors

BATCH = 16
"""Pictures in every pass through a network. Libraries choose their kernels by shape, so one shape for all
keeps a vector's bits independent of how many faces there are. 16 is as fast as 32, 8 is slower."""

Arithmetic = Literal["fp32", "bfloat16"]
DTYPES = {"fp32": torch.float32, "bfloat16": torch.bfloat16}


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Fold every batch normalisation into the convolution that was registered before it, for inference.

    What a normalisation layer of timm does beside (its activation) stays in its place.
    """
    for parent in list(network.eval().modules()):
        before: tuple[str, nn.Conv2d] | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                before = name, child
            elif isinstance(child, nn.BatchNorm2d) and before is not None:
                setattr(parent, before[0], fuse_conv_bn_eval(before[1], child))
                setattr(parent, name, getattr(child, "act", nn.Identity()))
                before = None
    return network


class Network(nn.Module):
    """Normalised pixels through a trunk in some precision and a head in float32.

    The head (pooling, the last linear layer, normalisation) costs next to nothing and would lose the
    most to a short mantissa.
    """

    mean: torch.Tensor

    def __init__(
        self, trunk: nn.Module, head: nn.Module, mean: tuple[float, ...], scale: float, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.trunk = trunk.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.head = head
        self.dtype = dtype
        self.scale = scale
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode (N, 3, S, S) uint8 to (N, D) float32."""
        features = self.trunk(((pixels.float() - self.mean) / self.scale).to(self.dtype))
        vectors: torch.Tensor = self.head(features.float())
        return vectors


@contextlib.contextmanager
def one_thread_each() -> Iterator[ThreadPoolExecutor]:
    """Open a pool of as many threads as torch may use, in each of which torch uses that one alone.

    Batches side by side wait for nobody, whereas threads inside a layer wait for the slowest of them after
    every layer; and no bit of a vector can depend on how many there are.
    """
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        # Torch would give the new number to threads of others that start later, too.
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class TorchEncoder:
    """An encoder whose network runs in torch, on the GPU if there is one.

    Parameters
    ----------
    name, dim
        As for every encoder.
    size
        The side of the network's input in pixels.
    identify
        Gives the fingerprint, once it is told the arithmetic.
    load
        Gives the trunk and the head, in float32 and ready for inference; called before the first picture.
    prepare
        Cuts crops, with their landmarks, to what the network sees, (N, size, size, 3) uint8.
    mean, scale
        Pixels are (value - mean) / scale, by channel.
    precision
        Of the trunk.
    compile
        Whether torch.compile translates the network first: a minute, paid back on thousands of faces.
    """

    name: str
    dim: int
    size: int
    identify: Callable[..., str]
    load: Callable[[], tuple[nn.Module, nn.Module]]
    prepare: Callable[[Images, Landmarks | None], Images]
    mean: tuple[float, float, float]
    scale: float
    precision: Arithmetic = "fp32"
    compile: bool = False

    @property
    def arithmetic(self) -> str:
        """How numbers are computed: the precision, and whatever else changes rounding."""
        compiled = "+compile" if self.compile else ""
        return f"{self.precision}{compiled}{'' if self.device.type == 'cpu' else '+' + self.device.type}"

    @property
    def fingerprint(self) -> str:
        """Everything that decides the bits of a vector beside the crop."""
        return self.identify(arithmetic=self.arithmetic)

    @cached_property
    def device(self) -> torch.device:
        """Where the network runs."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def network(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The network, loaded, and compiled where that was asked for, on first use."""
        trunk, head = self.load()
        network = Network(trunk, head, self.mean, self.scale, DTYPES[self.precision])
        network.eval().requires_grad_(False).to(self.device)
        if not self.compile:
            return network
        # Weights as constants let the compiler lay them out once and fuse what follows a convolution.
        compiled = torch.compile(network, dynamic=False, options={"freezing": True})
        self._run(compiled, np.zeros((BATCH, self.size, self.size, 3), dtype=np.uint8))
        return compiled

    def encode(self, images: Images, landmarks: Landmarks | None = None) -> Vectors:
        """Encode crops, (N, H, W, 3) uint8 RGB with (N, 5, 2) landmarks, to (N, dim) float32."""
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(f"crops are (N, H, W, 3) uint8, not {images.shape} {images.dtype}")
        vectors = np.empty((len(images), self.dim), dtype=np.float32)

        def encode_batch(start: int) -> None:
            rows = slice(start, start + BATCH)
            cut = self.prepare(images[rows], None if landmarks is None else landmarks[rows])
            batch = np.zeros((BATCH, self.size, self.size, 3), dtype=np.uint8)
            batch[: len(cut)] = cut
            vectors[rows] = self._run(self.network, batch)[: len(cut)]

        starts = range(0, len(images), BATCH)
        with one_thread_each() as pool:
            if starts and "network" not in self.__dict__:
                pool.submit(lambda: self.network).result()  # loaded by one thread, the others wait
            deque(pool.map(encode_batch, starts), maxlen=0)
        return vectors

    def _run(self, network: Callable[[torch.Tensor], torch.Tensor], batch: Images) -> Vectors:
        # Contiguous (N, H, W, 3) seen as (N, 3, H, W) is what torch calls channels_last.
        pixels = torch.from_numpy(batch).to(self.device).permute(0, 3, 1, 2)
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            found: Vectors = network(pixels).cpu().numpy()
        return found

    def ladder(self) -> list["TorchEncoder"]:
        """Give this encoder in ever more exact arithmetic: as it is, then not compiled, then plain fp32."""
        rungs = [self, replace(self, compile=False), replace(self, precision="fp32", compile=False)]
        return list({rung.arithmetic: rung for rung in rungs}.values())
