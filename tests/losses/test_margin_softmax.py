"""Numbers in brackets are equations of the EmoSynthNet thesis."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from pipeline import losses
from pipeline.core.errors import UserError

TARGETS = [0, 2, 1, 3, 3]
FEATURES = 4
CLASSES = 4


def make(rows, columns, seed=0, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(rows, columns, dtype=torch.float64, generator=generator)).to(dtype)


def minus_log_softmax(scores, y):
    top = max(scores)
    return math.log(sum(math.exp(s - top) for s in scores)) - (scores[y] - top)


def slow_soft_margin(x, y, margin):
    return minus_log_softmax([s - margin if j == y else s for j, s in enumerate(x)], y)


def slow_mam(x, y, initial=0.2, maximum=4.0, form="equations"):
    mean = sum(x) / len(x)
    x = [s - mean for s in x]
    upper = max(x) + initial
    if form == "equations":
        margin = min(max(math.log(upper) if upper > 0 else 0.0, 0.0), maximum)
    else:
        clipped = min(max(upper, 0.0), maximum)
        margin = math.log(sum(math.exp(s) for s in x) / len(x) + math.log(1 + clipped))
    return slow_soft_margin(x, y, margin)


def length(v):
    return math.sqrt(sum(a * a for a in v))


def angles_and_lengths(x, vectors):
    """Of one feature vector against the class vectors (the columns)."""
    found = []
    for j in range(len(vectors[0])):
        w = [row[j] for row in vectors]
        product = sum(a * b for a, b in zip(w, x, strict=True))
        found.append((math.acos(product / length(w) / length(x)), length(w)))
    return found


def slow_psi(angle, m):
    k = math.floor(angle / (math.pi / m))
    return (-1) ** k * math.cos(m * angle) - 2 * k


def slow_arc(angle, m):
    return math.cos(angle + m) if angle + m <= math.pi else math.cos(angle) - m * math.sin(m)


def slow_features(name, x, vectors, y, m, s):
    scores = []
    for j, (angle, w) in enumerate(angles_and_lengths(x, vectors)):
        own = j == y
        cos = math.cos(angle)
        scores.append(
            {
                "l_softmax": lambda: w * length(x) * (slow_psi(angle, m) if own else cos),  # noqa: B023
                "a_softmax": lambda: length(x) * (slow_psi(angle, m) if own else cos),  # noqa: B023
                "am_softmax": lambda: s * (cos - m if own else cos),  # noqa: B023
                "lmcl": lambda: s * (cos - m if own else cos),  # noqa: B023
                "double_margin_softmax": lambda: s * (cos - m if own else cos + m),  # noqa: B023
                "aam_softmax": lambda: s * (slow_arc(angle, m) if own else cos),  # noqa: B023
                "dam_softmax": lambda: s * (cos - m * math.exp(1 - cos) / 2 if own else cos),  # noqa: B023
            }[name]()
        )
    return minus_log_softmax(scores, y)


ON_FEATURES = {
    "l_softmax": {"margin": 3},
    "a_softmax": {"margin": 4},
    "am_softmax": {"margin": 0.35, "scale": 8.0},
    "lmcl": {"margin": 0.35, "scale": 8.0},
    "aam_softmax": {"margin": 0.5, "scale": 8.0},
    "dam_softmax": {"margin": 0.4, "scale": 8.0},
    "double_margin_softmax": {"margin": 0.2, "scale": 8.0},
}
NO_MARGIN = {"l_softmax": 1, "a_softmax": 1}


def built(name, **settings):
    torch.manual_seed(7)
    return losses.build(name, classes=CLASSES, features=FEATURES, **settings)


@pytest.mark.parametrize("weights", [None, [1.0, 0.0, 2.0, 0.5, 3.0]])
@pytest.mark.parametrize(
    ("name", "settings", "formula"),
    [
        ("soft_margin_softmax", {"margin": 0.7}, lambda x, y: slow_soft_margin(x, y, 0.7)),
        ("mam_softmax", {}, slow_mam),
        ("mam_softmax", {"form": "algorithm"}, lambda x, y: slow_mam(x, y, form="algorithm")),
        ("mam_softmax", {"initial": 1.0, "maximum": 0.9}, lambda x, y: slow_mam(x, y, 1.0, 0.9)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_loss_on_scores_equals_a_plain_loop(name, settings, formula, weights, dtype):
    logits = make(5, 6, scale=3.0, dtype=dtype)
    each = [formula(row, y) for row, y in zip(logits.tolist(), TARGETS, strict=True)]
    w = weights or [1.0] * 5
    expected = sum(a * b for a, b in zip(w, each, strict=True)) / 5
    given = None if weights is None else torch.tensor(weights)
    value = losses.build(name, **settings)(logits, torch.tensor(TARGETS), given)
    assert value.shape == ()
    assert float(value) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ON_FEATURES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_loss_on_features_equals_a_plain_loop(name, dtype):
    loss = built(name, **ON_FEATURES[name])
    x = make(5, FEATURES, dtype=dtype)
    vectors = loss.inner.W.tolist()
    m, s = ON_FEATURES[name]["margin"], ON_FEATURES[name].get("scale")
    expected = [
        slow_features(name, row, vectors, y, m, s) for row, y in zip(x.tolist(), TARGETS, strict=True)
    ]
    assert loss.per_sample(x, torch.tensor(TARGETS)).tolist() == pytest.approx(expected, rel=2e-4)
    assert float(loss(x, torch.tensor(TARGETS)).detach()) == pytest.approx(sum(expected) / 5, rel=2e-4)


@pytest.mark.parametrize("name", ["soft_margin_softmax", "mam_softmax"])
def test_gradients_on_scores_are_those_of_finite_differences(name):
    loss = losses.build(name)
    assert gradcheck(lambda z: loss(z, torch.tensor(TARGETS)), make(5, 6, scale=3.0).requires_grad_())


def test_the_gradient_of_mam_by_its_algorithm_is_that_of_finite_differences():
    loss = losses.build("mam_softmax", form="algorithm")
    assert gradcheck(lambda z: loss(z, torch.tensor(TARGETS)), make(5, 6, scale=3.0).requires_grad_())


@pytest.mark.parametrize("name", ON_FEATURES)
def test_gradients_on_features_and_class_vectors_are_those_of_finite_differences(name):
    loss = built(name, **ON_FEATURES[name]).double()

    def value(x, vectors):
        loss.inner.W.data = vectors.data
        return torch.func.functional_call(loss, {"inner.W": vectors}, (x, torch.tensor(TARGETS)))

    vectors = loss.inner.W.detach().clone().requires_grad_()
    assert gradcheck(value, (make(5, FEATURES).requires_grad_(), vectors))


def test_margin_0_equals_plain_softmax_on_scores():
    logits, target = make(5, 6, scale=3.0), torch.tensor(TARGETS)
    plain = torch.nn.functional.cross_entropy(logits, target)
    for loss in (
        losses.build("soft_margin_softmax", margin=0.0),
        losses.build("mam_softmax", maximum=0.0),
        losses.build("cross_entropy"),
    ):
        torch.testing.assert_close(loss(logits, target), plain)


@pytest.mark.parametrize("name", ON_FEATURES)
def test_margin_0_equals_plain_softmax_on_the_scores_of_prediction(name):
    loss = built(name, margin=NO_MARGIN.get(name, 0.0))
    x, target = make(5, FEATURES, dtype=torch.float32), torch.tensor(TARGETS)
    plain = torch.nn.functional.cross_entropy(loss.logits(x), target)
    torch.testing.assert_close(loss(x, target), plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [*ON_FEATURES, "soft_margin_softmax"])
def test_larger_margins_never_raise_the_targets_probability(name):
    x = make(64, FEATURES, seed=3, dtype=torch.float32, scale=2.0)
    target = torch.arange(64) % CLASSES
    before = torch.ones(64)
    for margin in [1, 2, 3, 4] if name in NO_MARGIN else [0.0, 0.1, 0.3, 0.7, 1.5]:
        settings = {"margin": margin}
        loss = losses.build(name, **settings) if name.startswith("soft") else built(name, **settings)
        probability = (-loss.per_sample(x, target)).exp()
        assert (probability <= before + 1e-6).all(), margin
        before = probability


@pytest.mark.parametrize("form", ["equations", "algorithm"])
@pytest.mark.parametrize("setting", ["initial", "maximum"])
def test_a_larger_initial_or_maximum_margin_never_raises_the_targets_probability_in_mam(form, setting):
    x, target = make(64, 6, seed=3, scale=4.0), torch.arange(64) % 6
    plain = torch.nn.functional.cross_entropy(x, target, reduction="none")
    before = (-plain).exp()
    for value in [0.0, 0.2, 1.0, 4.0, 20.0]:
        loss = losses.build("mam_softmax", form=form, **{setting: value})
        assert (loss.margin(x) >= 0).all()
        probability = (-loss.per_sample(x, target)).exp()
        assert (probability <= before + 1e-12).all()
        before = probability


def test_the_mam_margin_of_equations_is_within_its_clipping_and_grows_with_the_lead():
    x = torch.zeros(1, 5, dtype=torch.float64)
    margins = []
    for lead in [0.0, 1.0, 10.0, 1e3]:
        x[0, 0] = lead
        margins.append(float(losses.build("mam_softmax").margin(x)))
    # (4.14): ln(lead 4/5 + 0.2) where that is between 0 and 4
    assert margins == pytest.approx([0.0, 0.0, math.log(8.2), 4.0])


@pytest.mark.parametrize("name", ["mam_softmax", "soft_margin_softmax", "cross_entropy"])
def test_a_common_shift_of_the_scores_changes_nothing(name):
    x, target = make(5, 6, scale=3.0), torch.tensor(TARGETS)
    loss = losses.build(name)
    torch.testing.assert_close(loss(x, target), loss(x + 50.0, target))


@pytest.mark.parametrize("form", ["equations", "algorithm"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_mam_is_finite_for_scores_up_to_ten_thousand(form, dtype):
    loss = losses.build("mam_softmax", form=form)
    for size in [0.0, 1.0, 100.0, 1e4]:
        x = torch.cat(
            [size * torch.eye(7), -size * torch.eye(7), size * make(9, 7).sign(), size * torch.ones(1, 7)]
        )
        for y in (0, 6):
            z = x.to(dtype).requires_grad_()
            value = loss(z, torch.full((len(x),), y))
            value.backward()
            assert value.isfinite(), (size, y)
            assert z.grad.isfinite().all(), (size, y)


@pytest.mark.parametrize("name", ON_FEATURES)
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_features_along_and_against_their_class_vector_have_finite_gradients(name, size):
    loss = built(name, **ON_FEATURES[name])
    along = (loss.inner.W.detach() / loss.inner.W.detach().norm(dim=0)).T * size
    for x in (along, -along, torch.zeros_like(along)):
        z = x.clone().requires_grad_()
        loss.zero_grad()
        value = loss(z, torch.arange(CLASSES))
        value.backward()
        assert value.isfinite()
        assert z.grad.isfinite().all()
        assert loss.inner.W.grad.isfinite().all()


@pytest.mark.parametrize("name", ON_FEATURES)
def test_the_class_vectors_are_trained_and_predict(name):
    loss = built(name, **ON_FEATURES[name])
    assert loss.outputs == FEATURES
    assert [tuple(p.shape) for p in loss.parameters()] == [(FEATURES, CLASSES)]
    along = loss.inner.W.detach().T
    if name != "l_softmax":  # there a longer class vector may win
        assert loss.prediction(along).tolist() == list(range(CLASSES))
    torch.testing.assert_close(loss.probabilities(along).sum(-1), torch.ones(CLASSES))
    with pytest.raises(ValueError, match=r"\(2, 9\), not \(N, 4\)"):
        loss(torch.zeros(2, 9), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("soft_margin_softmax", {"margin": -1.0}, "margin -1"),
        ("mam_softmax", {"form": "figure"}, "no form 'figure'"),
        ("mam_softmax", {"initial": -0.1}, "initial -0.1"),
        ("l_softmax", {"classes": 3, "features": 4, "margin": 1.5}, "whole number"),
        ("a_softmax", {"classes": 3, "features": 4, "margin": 0}, "whole number"),
        ("aam_softmax", {"classes": 3, "features": 4, "margin": 2.0}, "radians"),
        ("am_softmax", {"classes": 3, "features": 4, "scale": 0.0}, "scale 0"),
        ("dam_softmax", {"classes": 3, "features": 4, "decay": 0.0}, "decay 0"),
    ],
)
def test_settings_that_make_no_margin_are_refused(name, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        losses.build(name, **settings)
