"""Passwords, tokens and keys in texts: found, and never shown.

What stands in params.yaml is copied into bundles, reports and trackers' records, so that credentials belong
into environment variables. Whatever is printed or stored passes through `masked`.
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"
ROUNDS = 3
"""How often a text may have been percent-encoded."""

ORDINARY = ("token", "signature", "auth", "credential", "credentials", "pass")
"""Words that stand before a colon in sentences as well."""

_SECRET_NAME = re.compile(
    r"passw|passphrase|^pass$|^pwd$|secret|token|apikey|accesskey|accountkey|privatekey|signature|^sig$|credential"
    r"|^auth(orization)?$|^jwt$|^bearer$|^sas$"
)
_PATTERNS = (
    # scheme://user:password@host; a page's port before its path is none
    re.compile(
        r"(?P<keep>(?<![\w+.-])(?:(?i:https?)://[^\s:/?#]{,500}:(?!\d{1,5}(?:[/?#]|$))"
        r"|(?!(?i:https?):)[A-Za-z][\w+.-]*://[^\s:/?#]{,500}:))(?P<secret>\S{,500}|[^@/\n]{,80})(?=@)"
    ),
    # https://token@host
    re.compile(r"(?P<keep>\b(?i:https?)://)(?P<secret>[^\s/?#@:'\"<>]{1,500})(?=@)"),
    # user:password@host without a scheme
    re.compile(
        r"(?P<keep>(?:^|(?<=[\s'\"(=]))(?://)?[^\s:/?#@'\"()=]+:)(?P<secret>[^\s@/'\"]{1,500})(?=@[\w\[])"
    ),
    re.compile(r"(?P<keep>(?i:authorization)\W{1,4}(?:\w+ )?)(?P<secret>[^\s'\"]+)"),
    # tokens that say what they are: JSON in base64, Amazon, GitHub, GitLab, Hugging Face, Databricks
    re.compile(
        r"(?P<keep>)(?P<secret>\b(?:eyJ[\w+/=-]{12,}[\w.+/=-]*|A(?:KI|SI)A[0-9A-Z]{16}|gh[oprsu]_\w{20,}"
        r"|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_\w{20,}|dapi[0-9a-f]{32}))"
    ),
)
_NAMED = re.compile(r"(?<![\w.-])(?P<name>[A-Za-z][\w.-]*)(?P<equals>\s?=\s?|\\*['\"]\s?:\s?|:\s)")
_NUMBER = re.compile(r"\d[\d_]*")
_VALUE = re.compile(r"\\*'[^']*'|\\*\"[^\"]*\"|[^\s&;#'\",)\]}]+")


def masked(text: str) -> str:
    r"""A text with every password, token and key in it hidden, in URLs and outside of them.

    Examples
    --------
    >>> masked("no answer from http://me:pa55@host:80/x?token=abc&page=2")
    'no answer from http://me:***@host:80/x?token=***&page=2'
    >>> masked("sqlite:///mlflow.db, http://host:5000/a@b, lr=0.1")
    'sqlite:///mlflow.db, http://host:5000/a@b, lr=0.1'
    >>> masked("postgresql%3A%2F%2Fme%3Apa55%40host")
    '***'
    """
    plainly = _masked_as_it_stands(text)
    return "".join(map(_word, re.split(r"(\s+)", plainly))) if "%" in plainly else plainly


def _word(word: str) -> str:
    """A word that is percent-encoded, whole or not at all."""
    decoded = word
    for _ in range(ROUNDS):
        decoded = unquote(decoded)
        if decoded != word and _masked_as_it_stands(decoded) != decoded:
            return HIDDEN
    return word


def _masked_as_it_stands(text: str) -> str:
    for pattern in _PATTERNS:
        text = pattern.sub(lambda found: f"{found['keep']}{HIDDEN if found['secret'] else ''}", text)
    told, at = [], 0
    while found := _NAMED.search(text, at):
        told.append(text[at : found.end()])
        at = found.end()
        words = found["equals"] == ": " and found["name"].lower() in ORDINARY
        value = None if words else _VALUE.match(text, at)
        if value and is_secret(found["name"], value[0]):
            told.append(HIDDEN)
            at = value.end()
    return "".join([*told, text[at:]])


def names_a_secret(name: str) -> bool:
    """Whether a key is called like something that is not to be seen.

    Examples
    --------
    >>> [names_a_secret(name) for name in ("sslpassword", "API_KEY", "api_token", "passes", "author")]
    [True, True, True, False, False]
    """
    plain = re.sub(r"[\W_]", "", name.rpartition(".")[2].lower())
    return _SECRET_NAME.search(plain) is not None


def is_secret(name: str, value: Any) -> bool:
    """Whether a value, be it text or a number, is hidden for its key alone; a number of tokens is none.

    Examples
    --------
    >>> is_secret("password", 12345), is_secret("password", ""), is_secret("has_password", True)
    (True, False, False)
    >>> is_secret("max_tokens", 100), is_secret("tokens", "abc")
    (False, True)
    """
    if value is None or isinstance(value, bool | dict | list | tuple) or not str(value).strip():
        return False
    counts = name.lower().endswith("tokens") and _NUMBER.fullmatch(str(value)) is not None
    return names_a_secret(name) and not counts


def masked_tree(tree: Any, name: str = "") -> Any:
    """Mappings and lists with every text in them masked, and what stands under a key that names a secret."""
    if isinstance(tree, dict):
        return {masked_tree(key): masked_tree(value, str(key)) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [masked_tree(item, name) for item in tree]
    if is_secret(name, tree):
        return HIDDEN
    return masked(tree) if isinstance(tree, str) else tree


def credentials_in(tree: Any, *key: str, name: str = "") -> Iterator[tuple[str, ...]]:
    """The keys under which a tree of settings holds a credential; `name` is the last that is no number."""
    if isinstance(tree, dict):
        for inner, value in tree.items():
            if masked(str(inner)) != str(inner):
                yield (*key, masked(str(inner)))
            yield from credentials_in(value, *key, str(inner), name=str(inner))
    elif isinstance(tree, list | tuple):
        for number, value in enumerate(tree):
            yield from credentials_in(value, *key, str(number), name=name)
    elif (hidden := masked_tree(tree, name)) is not tree and hidden != tree:  # nan is no nan
        yield key


def remedy(key: tuple[str, ...], tree: Any) -> str:
    """The variables that take a credential instead, by the key where it was found and the address there."""
    for name in key:
        tree = tree.get(name) if isinstance(tree, dict) else None
    address = str(tree).lower()
    if "neptune" in key:
        return "NEPTUNE_API_TOKEN"
    if key[:1] == ("study",):
        return "VEC2AGE_STORAGE"
    if re.match(r"(s3|gs|azure|abfss?|wasbs?)[:%]", address):
        return "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or those of your store"
    if "mlflow" in key and re.match(r"(postgres|mysql|mssql)", address):
        return "PGPASSWORD, or what your database's driver reads"
    if "mlflow" in key:
        return "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    return "an environment variable of the program that needs it"
