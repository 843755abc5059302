"""Encoders rebuilt from a bundle, and held to the fingerprints of the vectors that the model learnt from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.tables import sha256
from pipeline.encoders import Combine, Encoder, View, build_all
from pipeline.encoders.encoder import Precision
from pipeline.encoders.torch_encoder import TorchEncoder


@dataclass(frozen=True)
class EncoderSettings:
    """What encoders are built from."""

    names: tuple[str, ...]
    views: tuple[View, ...]
    margin: float
    combine: Combine = "concatenate"
    precision: Precision = "fp32"
    compile: bool = False
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    def packed(self) -> tuple["EncoderSettings", dict[str, Path]]:
        """The same with plain names for files of weights, and which file goes into the bundle by each name.

        Only files that settings name go along: others come with packages or are published, and the
        fingerprints carry their hashes.

        Raises
        ------
        UserError
            A file does not exist.
        """
        own, taken = {}, {}
        for encoder, given in self.settings.items():
            own[encoder] = dict(given)
            if given.get("weights") is not None:
                name, path = f"encoder.{encoder}.weights", Path(given["weights"])
                taken[name] = path
                own[encoder] |= {"weights": name, "sha256": sha256(path)}
        return replace(self, settings=own), taken

    @classmethod
    def of(cls, described: Mapping[str, Any], weights: Mapping[str, Path]) -> "EncoderSettings":
        """From JSON; keys of others are ignored, and weights are never fetched: nobody asked for it.

        Parameters
        ----------
        described
            As `described` gives it.
        weights
            Files by the names that `packed` gave them.

        Raises
        ------
        UserError
            Weights are named that are not among them.
        """
        own = {name: dict(given) for name, given in described["settings"].items()}
        for encoder, given in own.items():
            if "download" in given:
                given["download"] = False
            if given.get("weights") is not None:
                if given["weights"] not in weights:
                    raise UserError(
                        f"the bundle holds no file {given['weights']!r}, which its encoder {encoder} needs: "
                        "export the model again"
                    )
                given["weights"] = str(weights[given["weights"]])
        return cls(
            names=tuple(described["names"]),
            views=tuple(View(**view) for view in described["views"]),
            margin=described["margin"],
            combine=described["combine"],
            precision=described["precision"],
            compile=described["compile"],
            settings=own,
        )

    def build(self) -> list[Encoder]:
        """The encoders, in the precision asked for."""
        return build_all(
            self.names,
            self.views,
            margin=self.margin,
            settings=self.settings,
            precision=self.precision,
            compile=self.compile,
        )


def matching_encoders(wanted: EncoderSettings, fingerprints: Sequence[str]) -> list[Encoder]:
    """Build encoders that have these fingerprints, in this order.

    An encoder's reduced precision may not have proven itself when the model was trained, and another rung of
    its ladder been used: each is tried.

    Raises
    ------
    UserError
        An encoder that can be had here has another fingerprint: it would give other vectors.
    """
    if not fingerprints:
        raise UserError(
            "this model learnt from vectors that somebody else made: it can be asked about vectors, not "
            "about pictures"
        )
    built = wanted.build()
    if len(built) != len(fingerprints):
        raise UserError(
            f"the model was trained with {len(fingerprints)} encoders and {len(built)} are described: "
            "export it again"
        )
    return [matching(one, expected) for one, expected in zip(built, fingerprints, strict=True)]


def matching(encoder: Encoder, expected: str) -> Encoder:
    """The encoder, or another rung of its ladder, that has a fingerprint."""
    rungs: list[Encoder] = [*encoder.ladder()] if isinstance(encoder, TorchEncoder) else [encoder]
    for rung in rungs:
        if rung.fingerprint == expected:
            return rung
    hint = ""
    if "+cuda" in encoder.fingerprint and "+cuda" not in expected:
        hint = ", or hide the GPU from this program (CUDA_VISIBLE_DEVICES=)"
    raise UserError(
        f"the model was trained on vectors of {expected}, the encoder here is {encoder.fingerprint}: their "
        f"vectors differ; use the same weights, precision and program{hint}, or train and export anew"
    )
