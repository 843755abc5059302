"""The model card: what a bundle is for, what it is not for, and how wrong it is for whom."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, StrictUndefined

from pipeline.core.files import escaped
from pipeline.serving.reference import Reference

MARKS = re.compile(r"[\\&<>|`\[\]]|:(?=//)")
TEMPLATE = """\
# Model card: {{ target.name }} from face vectors

Written by vec2age {{ about.version }}, revision {{ about.revision }}. Method: {{ about.method }}, calibrated
as {{ about.kind }}.

## Intended use

To estimate the {{ target.name }} of faces in photographs for people who look at the estimate, its interval
and its warnings before they decide anything. Not for decisions without a person, and not as the only
evidence for anything.

## Limits

- It was never asked to identify anybody, and says nothing about identity.
- An interval holds over many faces like those it was calibrated on, and for no single face with certainty.
- Training faces were {{ range }} {{ target.unit }}; predictions outside are marked.
- A face unlike the training faces gets a warning (far_from_training, low_sharpness, ...), and then nothing
  is promised. Makeup, filters, generated pictures and strong compression were not looked into.
- What holds over all faces may fail in a group: see the table of groups below before relying on it.
- Probabilities suppose that people come in the proportions of the validation faces: where minors are rarer,
  fewer of those called minors are.
- reference.safetensors holds vectors of training faces, which new faces are compared with. A vector is
  biometric data of a person: pass the bundle on only where the training pictures could be passed on.

## The sample

Data set `{{ data.name }}`:
{%- for split, count in data.faces.items() %} {{ "{:,}".format(count) }} {{ split }}
{%- if not loop.last %},{% endif %}{% endfor %} faces.
{%- if data.name == "sample" %}

**These faces were drawn by a program. No number here says anything about people.**
{%- endif %}

## Errors on test faces
{% if measured %}
| measure | value |
|---|---:|
{%- for name, value in measured.items() %}
| {{ name }} | {{ "%.4g" | format(value) }} |
{%- endfor %}
{% else %}
Not measured: `vec2age evaluate` had not run.
{% endif %}
{%- if groups %}
How often intervals of {{ "%g" | format(100 * about.level) }} % hold, by group:

| by | group | test faces | covered | mean width ({{ target.unit }}) |
|---|---|---:|---:|---:|
{%- for one in groups %}
| {{ one.grouping }} | {{ one.group }} | {{ one.faces }} | {{ "%.3f" | format(one.coverage) }} | {{ "%.1f" | format(one.width) }} |
{%- endfor %}
{% endif %}
## Encoders
{% for one in about.encoder.fingerprints %}
- `{{ one }}`
{%- else %}
- none: the data set held vectors
{%- endfor %}
"""  # noqa: E501


def marked(value: Any) -> Any:
    """A text in Markdown that is nothing but text: no cell, code, link or HTML begins or ends in it.

    Examples
    --------
    >>> marked("a|b [x](http://y)")
    'a&#124;b &#91;x&#93;(http&#58;//y)'
    """
    if not isinstance(value, str):
        return value
    return MARKS.sub(lambda found: f"&#{ord(found[0])};", escaped(value))


def model_card(
    described: Mapping[str, Any],
    reference: Reference,
    measured: Mapping[str, Any],
    groups: Sequence[Mapping[str, Any]],
) -> str:
    """The card as Markdown.

    Parameters
    ----------
    described
        bundle.json.
    reference
        What the training faces were like.
    measured
        Numbers on test faces of the method and kind that the bundle holds, by name.
    groups
        Coverage by group: grouping, group, faces, coverage, width, at the bundle's level.
    """
    environment = Environment(
        undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False, finalize=marked
    )
    return environment.from_string(TEMPLATE).render(
        about=described,
        target=described["target"],
        data=described["data"],
        range=f"{reference.lowest:g} to {reference.highest:g}",
        measured=measured,
        groups=groups,
    )
