import itertools
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.core.tables import new_folder

PROJECT = Path(__file__).resolve().parents[2]


def table(rows: int = 100, width: int = 8) -> pa.Table:
    values = np.arange(rows * width, dtype=np.float32)
    schema = pa.schema(
        [
            pa.field("face_id", pa.string(), nullable=False),
            pa.field("vector", tables.vector_type(width), nullable=False),
        ]
    )
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values), width)
    return pa.table([pa.array([f"{i:064x}" for i in range(rows)]), vectors], schema=schema)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tables.write_table(table(), tmp_path / name, "test", {"b": 1, "a": [2]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_batches_and_one_table_hold_the_same_rows_and_name_their_producer(tmp_path: Path) -> None:
    whole = table()
    parts = [whole.slice(0, 30), whole.slice(30)]
    assert tables.write_batches(parts, tmp_path / "t", whole.schema, "test", {"x": 1}) == 100
    assert tables.read_table(tmp_path / "t").equals(whole)
    assert tables.producer_of(tmp_path / "t") == {"producer": "test", "settings": {"x": 1}}


def test_tables_are_zstd_with_page_checksums(tmp_path: Path) -> None:
    tables.write_table(table(), tmp_path / "t", "test")
    column = pq.ParquetFile(tmp_path / "t").metadata.row_group(0).column(1)
    assert column.compression == "ZSTD"
    data = bytearray((tmp_path / "t").read_bytes())
    data[column.data_page_offset + 60] ^= 1
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(UserError, match=r"t is damaged: .*checksum"):
        tables.read_table(tmp_path / "t")


def fail_half_way(path: Path) -> None:
    with tables.atomic_file(path) as file:
        file.write(b"new")
        raise RuntimeError("half-way")


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"text that is no table" * 10])
def test_names_a_file_that_is_no_parquet(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(UserError, match="t is not a readable Parquet file"):
        tables.read_table(tmp_path / "t")


def test_names_a_missing_file_and_a_missing_column(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist: run the stage that writes it"):
        tables.read_table(tmp_path / "none")
    tables.write_table(table(), tmp_path / "t", "test")
    with pytest.raises(UserError, match="has no column 'age': it has face_id, vector"):
        tables.read_table(tmp_path / "t", ["age"])


def test_a_folder_reads_as_one_table_in_the_order_of_names(tmp_path: Path) -> None:
    whole = table()
    tables.write_table(whole.slice(50), tmp_path / "00001.parquet", "test")
    tables.write_table(whole.slice(0, 50), tmp_path / "00000.parquet", "test")
    assert tables.read_folder(tmp_path).equals(whole)
    assert tables.read_folder(tmp_path, ["face_id"]).column_names == ["face_id"]


def test_an_empty_folder_is_no_table(tmp_path: Path) -> None:
    assert tables.read_folder(tmp_path) is None


WRITES = """
import os, resource, signal, sys
from pathlib import Path
import numpy, PIL.Image, pyarrow, torch
from pipeline.core import tables
from pipeline.core.errors import sentence_of

rng = numpy.random.default_rng(1)
noise = rng.normal(size=100_000)
def image(file): PIL.Image.fromarray(rng.integers(0, 255, (500, 500, 3), numpy.uint8)).save(file, "JPEG")
def checkpoint(file): torch.save({"weights": torch.from_numpy(noise)}, file)
def array(file): numpy.save(file, noise)
def plain(file): file.write(noise.tobytes())
def parquet(file):
    with pyarrow.parquet.ParquetWriter(file, TABLE.schema) as writer: writer.write_table(TABLE)
def csv(file):
    with pyarrow.csv.CSVWriter(file, TABLE.schema) as writer: writer.write_table(TABLE)
import pyarrow.csv, pyarrow.parquet
TABLE = pyarrow.table({"x": noise})
path = Path(sys.argv[1])
"""
WRITERS = ("plain", "array", "image", "checkpoint", "parquet", "csv")


def run_writes(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.run(
        [sys.executable, "-c", WRITES + code, *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_whichever_library_writes_a_file_that_cannot_grow_is_named_and_the_old_one_stays(
    tmp_path: Path,
) -> None:
    path = tmp_path / "result"
    path.write_bytes(b"old")
    code = """
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
for write in (plain, array, image, checkpoint, parquet, csv):
    try:
        with tables.atomic_file(path) as file: write(file)
    except OSError as error: print(sentence_of(error))
"""
    done = run_writes(code, str(path))
    remedy = "raise the limit of a file's size (ulimit -f), and run the same command again"
    sentence = f"{path}: File too large; {remedy}"
    assert done.stdout.splitlines() == [sentence] * len(WRITERS), done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["result"]
    assert path.read_bytes() == b"old"


def test_what_a_killed_writer_left_is_removed_by_the_next_and_what_another_is_writing_stays(
    tmp_path: Path,
) -> None:
    path = tmp_path / "result"
    code = """
with tables.atomic_file(path) as file:
    file.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_writes(code, str(path)).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    others = [tmp_path / ".results.abcd1234.tmp", tmp_path / ".result.tmp"]  # not of this file; not ours
    for other in others:
        other.write_bytes(b"theirs")
    with tables.atomic_file(path) as file:
        assert not left.exists()
        file.write(b"first")
        second = run_writes("with tables.atomic_file(path) as file: file.write(b'second')", str(path))
        assert (second.returncode, second.stderr) == (0, "")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


def test_a_temporary_file_that_is_taken_for_a_leftover_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked, lock = [], tables.fcntl.flock

    def swept_once(handle: int, operation: int) -> None:
        made = next(tmp_path.iterdir())
        if not locked:
            made.unlink()
        locked.append(made)
        lock(handle, operation)

    monkeypatch.setattr(tables.fcntl, "flock", swept_once)
    with tables.atomic_file(tmp_path / "result") as file:
        file.write(b"whole")
    assert len(set(locked)) == 2
    assert (tmp_path / "result").read_bytes() == b"whole"


def test_a_new_folder_takes_the_old_one_s_place_whole_or_not_at_all(tmp_path):
    place = tmp_path / "figures"
    with new_folder(place) as fresh:
        (fresh / "a").write_text("1")
    with pytest.raises(FileNotFoundError), new_folder(place) as fresh:
        (fresh / "no folder" / "b").write_text("2")
    assert [path.name for path in place.iterdir()] == ["a"]
    place.rename(tmp_path / ".figures.earlier")  # killed between the two renamings
    with pytest.raises(ValueError, match="again"), new_folder(place):
        raise ValueError("again")
    assert [path.name for path in place.iterdir()] == ["a"]
    with new_folder(place) as fresh:
        (fresh / "c").write_text("3")
    assert [path.name for path in place.iterdir()] == ["c"]
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]


def test_a_new_folder_is_open_to_nobody_whom_the_earlier_one_kept_out(tmp_path: Path) -> None:
    for earlier, left in ((0o700, 0o700), (0o750, 0o750), (0o777, 0o755), (0o500, 0o700)):
        place = tmp_path / "bundle"
        place.mkdir(exist_ok=True)
        place.chmod(earlier)
        before = os.umask(0o022)
        try:
            exchange(place)
        finally:
            os.umask(before)
        assert stat.S_IMODE(place.stat().st_mode) == left


@pytest.mark.parametrize("word", ["unfinished", "earlier"])
def test_a_link_where_a_new_folder_is_put_together_is_refused(word: str, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis").write_text("three years of work")
    (tmp_path / f".results.{word}").symlink_to("own")
    with pytest.raises(
        UserError, match=rf"\.results\.{word} is a link, where .*results is put together: move"
    ):
        exchange(tmp_path / "results")
    assert (tmp_path / "own" / "thesis").read_text() == "three years of work"
    assert not (tmp_path / "results").exists()


def test_a_refused_file_of_a_new_folder_is_named_as_it_would_be_called(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught, new_folder(tmp_path / "adam") as fresh:
        raise OSError(28, "No space left on device", str(fresh / "members"))
    assert caught.value.filename == str(tmp_path / "adam/members")


def exchange(folder: Path) -> None:
    with new_folder(folder) as made:
        for name in ("a", "b"):
            (made / name).write_text("new")


MOMENTS = ("open", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "os.scandir", "ctypes.dlsym")


def killed_at(moment: int, folder: Path) -> bool:
    """Exchange a folder, and die at one of the moments that it takes; whether there were so many."""
    child = os.fork()
    if not child:
        passed = 0

        def heard(event: str, _: object) -> None:
            nonlocal passed
            if event in MOMENTS:
                passed += 1
                if passed == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(heard)
        try:
            exchange(folder)
        finally:
            os._exit(passed >= moment)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


@pytest.fixture(params=["at once", "by two renamings"])
def way(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """How folders are exchanged: as here, or as where the system cannot do it at once."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    if request.param != "at once":
        monkeypatch.setattr(tables, "_exchanged", lambda one, other: False)
    elif not tables._exchanged(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this system, or this file system, exchanges no two names at once")
    return str(request.param)


def test_a_folder_is_the_old_or_the_new_wherever_its_exchange_is_killed(tmp_path: Path, way: str) -> None:
    found = set()
    for moment in itertools.count(1):
        folder = tmp_path / str(moment) / "results"
        folder.mkdir(parents=True)
        for name in ("a", "b"):
            (folder / name).write_text("old")
        more = killed_at(moment, folder)
        assert folder.is_dir() or way != "at once"
        with pytest.raises(KeyError), new_folder(folder):
            raise KeyError  # the next one, which fails, finds what there was
        assert [path.name for path in folder.parent.iterdir()] == ["results"]
        texts = {path.read_text() for path in folder.iterdir()}
        assert len(texts) == 1
        assert len(list(folder.iterdir())) == 2
        found |= texts
        if not more:
            break
    assert found == {"old", "new"}
    assert moment > 8


@pytest.mark.parametrize("read", [tables.open_table, tables.read_table, tables.producer_of, tables.sha256])
def test_a_pipe_in_a_tables_place_is_not_waited_for(read: Callable[[Path], object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.parquet")
    with pytest.raises(
        UserError, match=r"t\.parquet is a folder, pipe, socket or device, not a file: run the"
    ):
        read(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"producer": 1, "settings": {}}', b"[" * 10**5, b"\xff"]
)
def test_a_producer_that_says_nothing_is_named(text: bytes, tmp_path: Path) -> None:
    schema = pa.schema([("a", pa.int64())], {tables.PRODUCER_KEY: text})
    pq.write_table(pa.table({"a": [1]}, schema=schema), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"t\.parquet does not say who wrote it \([^\n]+\): run the stage"):
        tables.producer_of(tmp_path / "t.parquet")


def test_reading_many_columns_asks_for_the_schema_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # it is made anew for each who asks: 50,000 columns took a minute and a half
    names = [f"c{number}" for number in range(50)]
    pq.write_table(pa.table({name: [1] for name in names}), tmp_path / "wide.parquet")
    asked = []
    schema = pq.ParquetFile.schema_arrow.fget
    monkeypatch.setattr(
        pq.ParquetFile, "schema_arrow", property(lambda file: (asked.append(file), schema(file))[1])
    )
    assert tables.read_table(tmp_path / "wide.parquet", names).column_names == names
    assert len(asked) <= 2


def test_a_table_that_asks_for_too_much_memory_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*_: object, **__: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 1073741824 failed")

    pq.write_table(pa.table({"a": [1]}), tmp_path / "t.parquet")
    monkeypatch.setattr(pq.ParquetFile, "read", greedy)
    with pytest.raises(UserError, match=r"t\.parquet takes more memory to read than there is: split it"):
        tables.read_table(tmp_path / "t.parquet")
