import gzip
import json
import os

import pytest
import trio

from runmgr.batch.inputs import FileSource, StdinSource, open_source
from runmgr.exceptions import InputError

ROWS = [{"question": "1+1?", "answer": "2"}, {"question": "Größe\nzwei", "answer": "ja, so"}]


def write(path, data):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wb") as file:
        file.write(data if isinstance(data, bytes) else data.encode())
    return str(path)


def read(path, data=None):
    if data is not None:
        write(path, data)
    source = open_source(str(path))
    assert isinstance(source, FileSource)
    return list(source.rows())


def complaint(path, data):
    with pytest.raises(InputError) as caught:
        read(path, data)
    return str(caught.value)


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (".jsonl", "\n".join(json.dumps(row) for row in ROWS)),
        (".ndjson", "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\r\n"),
        (".json", json.dumps(ROWS, indent=1)),
        (".csv", 'question,answer\n1+1?,2\n"Größe\nzwei","ja, so"\n'),
        (".csv", 'question;answer\n1+1?;2\n"Größe\nzwei";ja, so\n'),
        (".tsv", 'question\tanswer\r\n1+1?\t2\r\n"Größe\nzwei"\tja, so\r\n'),
        (".txt", "1+1?\n\nGröße\n"),
    ],
)
def test_each_format_plain_and_gzipped_with_and_without_bom(tmp_path, ending, text, gz):
    for bom in ("", "\ufeff"):
        rows = [row for _, row in read(tmp_path / f"in{ending}{gz}", bom + text)]
        assert rows == ([{"prompt": "1+1?"}, {"prompt": "Größe"}] if ending == ".txt" else ROWS)


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    many = ROWS * 1500
    pq.write_table(pa.Table.from_pylist(many), tmp_path / "in.parquet")
    rows = read(tmp_path / "in.parquet")
    assert [row for _, row in rows] == many
    assert [number for number, _ in rows] == list(range(1, 3001))


def test_parquet_may_be_gzipped_like_the_others(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    many = [{"a": i} for i in range(3000)]
    pq.write_table(pa.Table.from_pylist(many), tmp_path / "in.parquet")
    packed = gzip.compress((tmp_path / "in.parquet").read_bytes())
    (tmp_path / "in.parquet.gz").write_bytes(packed)
    assert [row for _, row in read(tmp_path / "in.parquet.gz")] == many
    (tmp_path / "in.parquet.gz").write_bytes(packed[:-500])
    with pytest.raises(InputError, match=r"in.parquet.gz: the gzip data is damaged or cut short"):
        read(tmp_path / "in.parquet.gz")


def test_parquet_without_pyarrow_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert "pip install 'runmgr[parquet]'" in complaint(tmp_path / "in.parquet", b"PAR1")


def test_not_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    assert "in.parquet: not Parquet" in complaint(tmp_path / "in.parquet", b"no such thing at all")


def test_line_numbers_count_blank_lines(tmp_path):
    assert read(tmp_path / "in.jsonl", '\n{"a": 1}\n\n\n{"a": 2}') == [(2, {"a": 1}), (5, {"a": 2})]
    assert read(tmp_path / "in.csv", 'a\n1\n"x\ny"\n\n3\n') == [
        (2, {"a": "1"}),
        (3, {"a": "x\ny"}),
        (6, {"a": "3"}),
    ]
    assert read(tmp_path / "in.json", '\n[\n {"a": "x\\ny"},\n\n {"a":\n 2}\n,{"a": 3}]') == [
        (3, {"a": "x\ny"}),
        (5, {"a": 2}),
        (7, {"a": 3}),
    ]


@pytest.mark.parametrize(
    ("name", "data", "parts"),
    [
        ("in.jsonl", '{"a": 1}\n{"a": ', ["in.jsonl:2:", "not JSON"]),
        ("in.jsonl", '{"a": 1}\n{"a": 2} {"a": 3}\n', ["in.jsonl:2:", "not JSON", "Extra data"]),
        ("in.jsonl", '{"a": 1}\n\n[1]\n', ["in.jsonl:3:", "object is needed", "an array"]),
        ("in.jsonl", '"text"\n', ["in.jsonl:1:", "a string"]),
        ("in.jsonl", b'{"a": 1}\n{"a": "\xe4"}\n', ["in.jsonl:2:", "not UTF-8", "0xe4", "iconv"]),
        ("in.txt", b"fine\n\xff\xfe\n", ["in.txt:2:", "not UTF-8"]),
        ("in.csv", "a,b\n1,2\n1,2,3\n", ["in.csv:3:", "3 cells", "names 2 (a, b)"]),
        ("in.csv", "a,b\n1,2\n1\n", ["in.csv:3:", "1 cell where"]),
        ("in.csv", "a,a\n1,2\n", ["in.csv:1:", "'a' twice"]),
        ("in.csv", "a;b\n1,2\n", ["in.csv:2:", "1 cell where", "names 2 (a, b)"]),
        ("in.csv", "a,\n1,2\n", ["in.csv:1:", "empty name"]),
        ("in.csv", 'a\n1\n"open\n', ["in.csv:3:", "not CSV"]),
        ("in.csv", b"a\n\xe4\n", ["in.csv:2:", "not UTF-8"]),
        ("in.csv", "a\n1\0\n", ["in.csv:2:", "NUL"]),
        ("in.json", '{"a": 1}\n{"a": 2}', ["in.json:1:", "one array of objects", ".jsonl"]),
        ("in.json", '[{"a": 1},\n {"a": 2}', ["in.json:2:", "closing ']'"]),
        ("in.json", '[{"a": 1},\n {"a": "', ["in.json:2:", "not JSON", "the file ends here"]),
        ("in.json", '[{"a": 1},\n{"a": 2,\n b}, {"a": 3}, {"a": 4}]', ["in.json:3:", "not JSON"]),
        ("in.json", '[{"a": 1},\n 7]', ["in.json:2:", "must be objects", "a number"]),
        ("in.json", '[{"a": 1}] x', ["in.json:1:", "follows"]),
        ("in.json", '[{"a": 1} {"a": 2}]', ["in.json:1:", "',' or ']'"]),
        ("in.json", b'[{"a": "\xe4"}]', ["in.json:1:", "not UTF-8"]),
        ("in.jsonl.gz", None, ["in.jsonl.gz", "gzip"]),
    ],
)
def test_bad_input_names_file_line_and_fault(tmp_path, name, data, parts):
    path = tmp_path / name
    if data is None:
        path.write_bytes(gzip.compress(b'{"a": 1}\n' * 1000)[:-20])
    message = complaint(path, data)
    for part in parts:
        assert part in message
    assert "\n" not in message


def test_not_gzip_at_all(tmp_path):
    (tmp_path / "in.csv.gz").write_bytes(b"a\n1\n")
    with pytest.raises(InputError, match="gzip data is damaged"):
        read(tmp_path / "in.csv.gz")


def test_sources_that_cannot_be_opened(tmp_path):
    write(tmp_path / "cases.jsonl", "{}")
    with pytest.raises(InputError, match=r"casse\.jsonl: no such file; did you mean '.*cases\.jsonl'"):
        open_source(tmp_path / "casse.jsonl")
    with pytest.raises(InputError, match=r"cases\.json: no such file; did you mean '.*cases\.jsonl'"):
        open_source(tmp_path / "cases.json")
    with pytest.raises(InputError, match=r"rows\.jsonl: no such file$"):
        open_source(tmp_path / "rows.jsonl")
    with pytest.raises(InputError, match="no folder"):
        open_source(tmp_path / "nowhere" / "x.jsonl")
    with pytest.raises(InputError, match="is a directory"):
        open_source(tmp_path)
    write(tmp_path / "cases.xlsx", "")
    with pytest.raises(InputError, match=r"'\.xlsx' names no format.*\.jsonl.*standard input"):
        open_source(tmp_path / "cases.xlsx")


def test_json_array_is_read_in_pieces(tmp_path):
    """Elements larger than a chunk, strings that hold brackets, and a cut at every place of a multibyte character."""
    rows = [{"text": ('}]äß€😀\\"' * 30_000)[: 1 + i * 40_001], "i": i} for i in range(6)]
    assert [row for _, row in read(tmp_path / "in.json", json.dumps(rows, ensure_ascii=False))] == rows


def test_malformed_json_array_is_refused_without_reading_it_whole(tmp_path):
    path = tmp_path / "in.json"
    with path.open("wb") as file:
        file.write(b'[{"a": 1, b: 2},')
        file.truncate(3 * 2**30)  # sparse: reading it whole would take gigabytes
    with pytest.raises(InputError, match="not JSON"):
        read(path)


async def stdin_rows(data):
    reader, writer = os.pipe()
    rows = []

    async def feed():
        with os.fdopen(writer, "wb", buffering=0) as file:
            for start in range(0, len(data), 7):
                await trio.lowlevel.checkpoint()
                file.write(data[start : start + 7])

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed)
            rows.extend([row async for row in StdinSource(fd=reader).rows()])
    finally:
        os.close(reader)
    return rows


async def test_stdin_arrives_in_pieces():
    data = b'\xef\xbb\xbf{"a": 1}\n\n{"a": "\xc3\xa4"}\r\n{"a": 3}'
    assert await stdin_rows(data) == [(1, {"a": 1}), (3, {"a": "ä"}), (4, {"a": 3})]


async def test_stdin_may_be_a_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n')
    with path.open("rb") as file:
        assert [row async for row in StdinSource(fd=file.fileno()).rows()] == [(1, {"a": 1}), (2, {"a": 2})]


async def test_a_bad_line_of_stdin_is_named():
    with pytest.RaisesGroup(pytest.RaisesExc(InputError, match=r"<stdin>:2: not JSON")):
        await stdin_rows(b'{"a": 1}\n{"a":\n{"a": 3}\n')
