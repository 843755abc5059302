from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from pipeline.backbones.views import View
from pipeline.core.errors import UserError
from pipeline.encoders import precision
from pipeline.encoders.encoder import fingerprint
from pipeline.encoders.precision import FACES, agreement, choose_precision, has_native_bfloat16, resolve
from pipeline.encoders.torch_encoder import TorchEncoder

RANDOM = np.random.default_rng(0)
EXACT = (RANDOM.normal(size=(FACES, 16)) + 10).astype(np.float32)


def encoder(view=None, **settings):
    return TorchEncoder(
        name="net",
        dim=16,
        size=8,
        identify=partial(fingerprint, "net", "0" * 64, 8, 1, view=view or View()),
        load=lambda: pytest.fail("the choice needs vectors, not networks"),
        prepare=lambda images, _: images,
        mean=(0.0, 0.0, 0.0),
        scale=1.0,
        **settings,
    )


def vectors_with(noise):
    """Vectors whose arithmetic adds so much noise, by arithmetic."""

    def vectors(asked):
        return EXACT + np.float32(noise[asked.arithmetic]) * RANDOM.normal(size=EXACT.shape).astype(
            np.float32
        )

    return vectors


def test_agreement_ignores_what_all_faces_share():
    shifted = EXACT + np.arange(16, dtype=np.float32)
    assert agreement(EXACT, shifted) == pytest.approx(1, abs=1e-6), (
        "a constant offset tells no two faces apart"
    )
    assert agreement(EXACT, np.roll(EXACT, 1, axis=0)) < 0.5, "a raw cosine would be near 1 for any two faces"


def test_agreement_is_that_of_the_worst_face():
    one_wrong = EXACT.copy()
    one_wrong[7] = 20 - one_wrong[7]
    assert agreement(EXACT, one_wrong) < -0.9, "63 good faces do not make up for one"


def test_agreement_by_a_plain_loop():
    other = EXACT + RANDOM.normal(size=EXACT.shape).astype(np.float32)
    cosines = []
    for one, two in zip(EXACT - EXACT.mean(axis=0), other - other.mean(axis=0), strict=True):
        cosines.append(np.dot(one, two) / np.linalg.norm(one) / np.linalg.norm(two))
    assert agreement(EXACT, other) == pytest.approx(min(cosines), abs=1e-5)


def test_reduced_precision_that_agrees_is_used():
    chosen, sentence = choose_precision(
        [encoder(precision="bfloat16")], vectors_with({"fp32": 0, "bfloat16": 0.02}), FACES
    )
    assert [e.arithmetic for e in chosen] == ["bfloat16"]
    assert sentence.startswith("net: bfloat16 is used: it agrees with fp32 at a cosine of 0.999"), sentence


def test_reduced_precision_that_does_not_agree_gives_way_to_fp32():
    chosen, sentence = choose_precision(
        [encoder(precision="bfloat16")], vectors_with({"fp32": 0, "bfloat16": 0.3}), FACES
    )
    assert [e.arithmetic for e in chosen] == ["fp32"]
    assert "fp32 is used: bfloat16 only agrees with fp32 at a cosine of 0." in sentence, sentence
    assert "0.999 is needed" in sentence, sentence


def test_all_views_share_the_choice_of_the_worst():
    good, bad = View(), View(mirror=True)

    def vectors(asked):
        spoilt = asked.arithmetic == "bfloat16" and "mirror" in asked.fingerprint
        return vectors_with({asked.arithmetic: 0.3 if spoilt else 0})(asked)

    views = [encoder(view, precision="bfloat16") for view in (good, bad)]
    chosen, _ = choose_precision(views, vectors, FACES)
    assert [e.arithmetic for e in chosen] == ["fp32", "fp32"], "one face, one precision"
    assert ["mirror" in e.fingerprint for e in chosen] == [False, True], "views stay in their order"


def test_too_few_faces_prove_nothing():
    chosen, sentence = choose_precision(
        [encoder(precision="bfloat16")], lambda _: pytest.fail("encoded for nothing"), FACES - 1
    )
    assert [e.arithmetic for e in chosen] == ["fp32"]
    assert sentence == "net: fp32 is used: to prove bfloat16 takes 64 faces and there are 63"


def test_where_compiling_fails_the_next_rung_is_tried():
    def vectors(asked):
        if asked.compile:
            raise RuntimeError("no C++ compiler\nand more")
        return EXACT

    chosen, sentence = choose_precision([encoder(precision="bfloat16", compile=True)], vectors, FACES)
    assert [e.arithmetic for e in chosen] == ["bfloat16"]
    assert sentence.endswith("bfloat16+compile does not run here (no C++ compiler)"), sentence


def test_fp32_needs_no_proof(monkeypatch):
    for native, expected in [
        (True, "net: fp32 is used"),
        (False, "net: fp32 is used; this processor has no bfloat16 arithmetic"),
    ]:
        monkeypatch.setattr(precision, "has_native_bfloat16", lambda native=native: native)
        chosen, sentence = choose_precision([encoder()], lambda _: pytest.fail("encoded for nothing"), 0)
        assert (chosen[0].arithmetic, sentence) == ("fp32", expected)


def test_auto_is_bfloat16_only_where_the_hardware_has_it(monkeypatch):
    for native, expected in [(True, "bfloat16"), (False, "fp32")]:
        monkeypatch.setattr(precision, "has_native_bfloat16", lambda native=native: native)
        assert resolve("auto") == expected
    with pytest.raises(UserError, match="precision 'fp16' is unknown: choose fp32, bfloat16 or auto"):
        resolve("fp16")


def test_hardware_is_judged_by_its_flags(tmp_path, monkeypatch):
    monkeypatch.setattr(precision.torch.cuda, "is_available", lambda: False)
    cpuinfo = tmp_path / "cpuinfo"
    for text, expected in [
        ("flags\t: fpu avx2 avx512f avx512_bf16 sse", True),
        ("flags\t: fpu avx512f amx_bf16", True),
        ("Features\t: fp asimd bf16", True),
        ("flags\t: fpu avx2 avx512f", False),
    ]:
        cpuinfo.write_text(text)
        assert has_native_bfloat16(cpuinfo) is expected, text
    assert has_native_bfloat16(tmp_path / "none") is False, "unknown hardware counts as one without"


def test_replacing_precision_keeps_everything_else():
    views = [encoder(View(mirror=True), precision="bfloat16")]
    chosen, _ = choose_precision(views, vectors_with({"fp32": 0, "bfloat16": 9}), FACES)
    assert chosen[0] == replace(views[0], precision="fp32"), "only the precision changes"
