"""No password, token or key gets out of where it was typed."""

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from urllib.parse import quote

import pytest

from pipeline import config as params
from pipeline.config.profiles import use
from pipeline.core.credentials import credentials_in, masked, masked_tree, names_a_secret
from pipeline.core.errors import UserError, sentence_of
from pipeline.stages.running import print_counts, write_log
from pipeline.tracking.tracker import Tracker, Trackers
from pipeline.training.search.storage import open_storage

PROJECT = Path(__file__).resolve().parents[2]
SECRET = "Tr0ub4dor"
URLS = [
    f"http://me:{SECRET}@host:5000",
    f"https://me:{SECRET}@host/path?page=2#part",
    f"HTTPS://me:{SECRET}@host",
    f"https://{SECRET}@github.com/me/code.git",
    f"https://me@corp.com:{SECRET}@host",
    f"http://:{SECRET}@host",
    f"postgresql://me:{SECRET}@host/db",
    f"postgresql+psycopg2://me:{SECRET}@host:5432/db?sslmode=require",
    f"postgresql://me@host/db?password={SECRET}",
    f"postgresql://host/db?sslmode=require&sslpassword={SECRET}",
    f"postgresql://me:1234/{SECRET}@host/db",
    f"postgresql://me:a@b{SECRET}@host/db",
    f"postgresql://me:a'b{SECRET}@host/db",
    f"postgresql://me:a b{SECRET}@host/db",
    f"mssql+pyodbc:///?odbc_connect={quote(f'DRIVER=x;SERVER=y;UID=me;PWD={SECRET}', safe='')}",
    f"mysql://me:{SECRET}%40x@host/db",
    f"me:{SECRET}@host/db",
    f"//me:{SECRET}@host/db",
    f"http://host/x?token={SECRET}",
    f"http://host/x?page=1;api_key={SECRET}",
    f"http://host/x?API-KEY={SECRET}",
    f"http://host/#access_token={SECRET}",
    f"s3://AKIA0123456789ABCDEF:{SECRET}@bucket/key",
    f"https://bucket.example/x?X-Amz-Credential={SECRET}&X-Amz-Signature={SECRET}",
    f"https://account.example/x?sv=1&sig={SECRET}",
    f"host=h user=me password={SECRET} dbname=d",
    f"host=h password='{SECRET} x' dbname=d",
    quote(f"http://me:{SECRET}@host", safe=""),
    quote(quote(f"http://me:{SECRET}@host", safe=""), safe=""),
    f"http://host/go?to={quote(f'http://me:{SECRET}@host', safe='')}",
    f"Authorization: Bearer {SECRET}",
    f"{{'password': '{SECRET}'}}",
    f'{{"api_token": "{SECRET}"}}',
    json.dumps(f'{{"api_token": "{SECRET}"}}'),
    json.dumps(json.dumps(f"{{'password': '{SECRET}'}}")),
]
SOUND = [
    "sqlite:///mlflow.db",
    "sqlite:////home/me/study.db",
    "http://host:5000",
    "http://host:5000/#/experiments/1?page=2",
    "http://host:5000/@me",
    "postgresql://vec2age@127.0.0.1:5432/db",
    "s3://bucket/key",
    "git@github.com:me/code.git",
    "data/sample",
    "C:/Users/me/photos",
    "/photographs/me@home/12:30.jpg",
    "unexpected token: end of file",
    "lr=0.1, weight_decay=0.01",
    "it took 50% of 12 s",
    "write to me@corp.com: it is 12:30",
    "caf%C3%A9.jpg",
    "max_tokens=100, max_tokens: 1_000",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("sentence", ["{}", "no answer from {}", "'{}' is bad", "({}): try again"])
def test_a_secret_is_hidden_wherever_it_stands(url: str, sentence: str) -> None:
    told = masked(sentence.format(url))
    assert SECRET not in told
    assert SECRET not in masked(told)
    assert "***" in told
    assert masked(told) == told


@pytest.mark.parametrize("text", SOUND)
def test_what_holds_no_secret_stays_as_it_is(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize(
    "token",
    [
        "eyJhcGlfYWRkcmVzcyI6Imh0dHA6Ly9ob3N0In0=",
        "ghp_" + "a1" * 18,
        "hf_" + "aB3" * 11,
        "AKIA0123456789ABCDEF",
    ],
)
def test_a_token_is_known_by_its_looks(token: str) -> None:
    assert token not in masked(f"refused: {token}.")


def test_the_settings_that_come_along_hold_none() -> None:
    for path in (PROJECT / "params.yaml", *(PROJECT / "profiles").glob("*.yaml")):
        assert list(credentials_in(params.plain(params.read_yaml(path)))) == []


def test_masking_a_long_text_takes_no_time_to_speak_of() -> None:
    for long in ("a" * 200_000, "a:" * 100_000, "%41" * 60_000, "://a:b" * 30_000, "x=" * 100_000):
        assert masked(long)  # quadratic ones would run into the time limit of the tests


@pytest.mark.parametrize("secret", [12345, 0, 1.5, "abc", ["abc", 12345], date(2020, 1, 2)])
@pytest.mark.parametrize("key", ["password", "api_token", "store.secret_key"])
def test_a_key_hides_whatever_stands_under_it(key: str, secret: object) -> None:
    tree = {"data": {"settings": {key: secret}}}
    told = str(masked_tree(tree))
    assert "***" in told
    assert all(str(one) not in told for one in (secret if isinstance(secret, list) else [secret]))
    assert next(credentials_in(tree))[:3] == ("data", "settings", key)


@pytest.mark.parametrize(
    "tree",
    [{"max_tokens": 100}, {"password": None}, {"password": " "}, {"has_password": True}, {"passes": 3}],
)
def test_what_is_no_secret_stays_under_any_key(tree: dict[str, object]) -> None:
    assert masked_tree(tree) == tree
    assert list(credentials_in(tree)) == []


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_bytes((PROJECT / "params.yaml").read_bytes())
    (tmp_path / "none.yaml").write_text("{}\n")
    return tmp_path / "params.yaml"


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("key", ["tracking.mlflow.uri", "data.root"])
def test_settings_that_hold_one_are_refused_without_repeating_it(settings: Path, key: str, url: str) -> None:
    before = settings.read_bytes()
    with pytest.raises(UserError, match="holds a password, token or key") as refused:
        use(settings.with_name("none.yaml"), [f"{key}={json.dumps(url)}"], settings)
    assert SECRET not in str(refused.value)
    assert f"'{key}'" in str(refused.value)
    assert settings.read_bytes() == before


@pytest.mark.parametrize(
    ("assignment", "variable"),
    [
        (
            f"tracking.mlflow.uri=http://me:{SECRET}@host",
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        ),
        (f"tracking.mlflow.uri=postgresql://me:{SECRET}@host/db", "PGPASSWORD"),
        (f"tracking.mlflow.token={SECRET}", "MLFLOW_TRACKING_TOKEN"),
        (f"tracking.mlflow.experiment=s3://a:{SECRET}@b", "AWS_SECRET_ACCESS_KEY"),
        (f"tracking.neptune.api_token={SECRET}", "NEPTUNE_API_TOKEN"),
        (f"study.storage=postgresql://me:{SECRET}@host/db", "VEC2AGE_STORAGE"),
        (f"study.password={SECRET}", "VEC2AGE_STORAGE"),
        (f"data.root=s3://me:{SECRET}@bucket/faces", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (f"data.settings.secret={SECRET}", "an environment variable of the program that needs it"),
        (f"data.settings.several=[a, 'http://me:{SECRET}@host']", "an environment variable"),
    ],
)
def test_the_refusal_names_the_variable_to_use(settings: Path, assignment: str, variable: str) -> None:
    with pytest.raises(UserError) as refused:
        use(settings.with_name("none.yaml"), [assignment], settings)
    assert SECRET not in str(refused.value)
    assert variable in str(refused.value)


def test_settings_that_held_one_can_be_mended_and_the_change_does_not_show_it(settings: Path) -> None:
    text = settings.read_text()
    settings.write_text(text.replace("sqlite:///mlflow.db", f"http://me:{SECRET}@host"))
    with pytest.raises(UserError, match=r"tracking\.mlflow\.uri.*MLFLOW_TRACKING_PASSWORD") as refused:
        params.load(settings)
    assert SECRET not in str(refused.value)
    changes = use(settings.with_name("none.yaml"), ["tracking.mlflow.uri=sqlite:///mlflow.db"], settings)
    assert changes == ["tracking.mlflow.uri: http://me:***@host -> sqlite:///mlflow.db"]


@pytest.mark.parametrize(
    "text", [f"a=[http://me:{SECRET}@host", f"http://me:{SECRET}@host", f"password: {SECRET}"]
)
def test_an_assignment_that_cannot_be_read_is_not_repeated_with_it(settings: Path, text: str) -> None:
    with pytest.raises(UserError) as refused:
        use(settings.with_name("none.yaml"), [text], settings)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("text", [f"a: [http://me:{SECRET}@host", f"password: {SECRET}\n - x: ["])
def test_a_file_that_is_no_yaml_is_not_quoted_with_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match="is not YAML") as refused:
        params.load(tmp_path / "params.yaml")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        f"sqlite:////proc/none/x.db?password={SECRET}",
        f"oracle://me:{SECRET}@host/db",
        f"postgresql://127.0.0.1:1/db?connect_timeout=1&password={SECRET}",
        f"postgresql://me:{SECRET}@127.0.0.1:1/db?connect_timeout=1&sslpassword={SECRET}",
        f"not an address password={SECRET}",
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_it(url: str) -> None:
    with pytest.raises(UserError) as refused:
        open_storage(url)
    assert SECRET not in str(refused.value)


class Failing(Tracker):
    """A tracker whose server repeats the address."""

    def start(self, run: str) -> None:
        raise ConnectionError(f"HTTPConnectionPool: http://me:{SECRET}@host/api?token={SECRET}")

    params = metrics = figure = artefact = end = start  # type: ignore[assignment]


def test_what_a_tracker_complains_of_is_told_without_it() -> None:
    told: list[str] = []
    Trackers({"mlflow": Failing}, told.append).start("run")
    (sentence,) = told
    assert sentence.endswith("HTTPConnectionPool: http://me:***@host/api?token=***")


def test_summaries_and_logs_are_written_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_log("study", 1.0, 1, {"storage": f"postgresql://me:{SECRET}@host"})
    print_counts("study", {"storage": f"postgresql://me:{SECRET}@host"})
    text = Path("logs/study.json").read_text()
    assert json.loads(text)["summary"] == {"storage": "postgresql://me:***@host"}
    assert SECRET not in text + capsys.readouterr().out
    assert SECRET not in sentence_of(OSError(2, "gone", f"http://me:{SECRET}@host"))


PROGRAM = """
import logging, sys, warnings
from pipeline.cli import app as cli

def act():
    {}

sys.modules["pipeline.cli.doctor"] = type(sys)("pipeline.cli.doctor")
sys.modules["pipeline.cli.doctor"].print_diagnosis = act
sys.argv[:1] = ["vec2age"]
cli.main()
"""
URL = f"http://me:{SECRET}@host/x?token={SECRET}"


@pytest.mark.parametrize(
    ("act", "words", "code"),
    [
        (f"raise ValueError('{URL}')", ["doctor"], 1),
        (f"raise OSError(5, 'no answer', '{URL}')", ["doctor"], 2),
        (f"warnings.warn('{URL}')", ["doctor"], 0),
        (f"logging.getLogger('urllib3').warning('retrying %s', '{URL}')", ["doctor"], 0),
        ("pass", ["doctor", URL], 2),
        ("pass", ["study", f"postgresql://me:{SECRET}@host/db"], 2),
        ("pass", [f"--storage=postgresql://me:{SECRET}@host/db"], 2),
        ("pass", ["study", "--workers", URL], 2),
        ("pass", ["explain", "vectors", "--method", URL], 2),
        ("pass", [f"postgresql://me:{SECRET}@host/db"], 2),
    ],
)
def test_the_command_line_tells_no_secret_whatever_goes_wrong(
    act: str, words: list[str], code: int, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(act), *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert ("***" in done.stderr) or act == "pass"


def test_names_of_settings_are_told_apart_from_secrets() -> None:
    assert not [name for name in ("seed", "passes", "keys", "author", "patience") if names_a_secret(name)]
