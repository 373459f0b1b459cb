"""Hugging Face datasets as they are, by the real library: `make test-datasets` installs it."""

import json

import pytest

from runmgr.batch import Case, Dataset, run_batch
from runmgr.exceptions import InputError

datasets = pytest.importorskip("datasets", reason="needs the library `datasets`: make test-datasets")

ROWS = [{"prompt": f"q{i}", "target": str(i), "level": i % 3} for i in range(12)]


async def inputs(tmp_path, given, **options):
    result = await run_batch(
        input=given, model="sim:", target_field="target", scorers=["includes"], out=tmp_path / "out", report=False, **options
    )  # fmt: skip
    assert result.exit_code == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    return [line["input"] for line in sorted(lines, key=lambda line: line["index"])]


async def test_a_dataset_in_memory(tmp_path):
    assert await inputs(tmp_path, datasets.Dataset.from_list(ROWS)) == [row["prompt"] for row in ROWS]


async def test_where_sample_and_slice(tmp_path):
    given = datasets.Dataset.from_list(ROWS)
    found = await inputs(tmp_path, given, where="level == 1", offset=1, limit=2)
    assert found == ["q4", "q7"]


async def test_a_file_mapped_filtered_and_shuffled_by_the_library(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    loaded = datasets.load_dataset(
        "json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    loaded = (
        loaded.filter(lambda row: row["level"] == 0)
        .map(lambda row: {"prompt": row["prompt"].upper()})
        .shuffle(seed=1)
    )
    found = await inputs(tmp_path, loaded)
    assert sorted(found) == ["Q0", "Q3", "Q6", "Q9"]
    assert found == list(loaded["prompt"])


async def test_a_stream_is_read_a_row_at_a_time(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    stream = datasets.load_dataset(
        "json", data_files=str(path), split="train", streaming=True, cache_dir=str(tmp_path / "cache")
    )
    assert await inputs(tmp_path, stream) == [row["prompt"] for row in ROWS]


async def test_nested_fields_and_chats(tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": f"hello {i}"}], "target": "x", "meta": {"n": i}}
        for i in range(3)
    ]
    found = await inputs(
        tmp_path, datasets.Dataset.from_list(rows), prompt_field="messages", where="meta.n > 0"
    )
    assert len(found) == 2
    assert "hello 2" in json.dumps(found[1])


async def test_it_resumes_by_content(tmp_path):
    given = datasets.Dataset.from_list(ROWS)
    await inputs(tmp_path, given, limit=5)
    result = await run_batch(
        input=given, model="sim:", target_field="target", scorers=["includes"], out=tmp_path / "out", resume=True, report=False
    )  # fmt: skip
    assert (result.resumed, result.summary.succeeded) == (5, 12)


def test_as_a_dataset_of_ours():
    found = Dataset(datasets.Dataset.from_list(ROWS), name="hf")
    assert (len(found), found[3]["prompt"], found.has_targets) == (12, "q3", True)
    assert Case("a").input == "a"


async def test_several_splits_are_named(tmp_path):
    given = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list(ROWS[:2])}
    )
    with pytest.raises(
        InputError, match=r"has several splits \(train, test\); give one of them: dataset\['train'\]"
    ):
        await inputs(tmp_path, given)
    assert await inputs(tmp_path, given["test"]) == ["q0", "q1"]
