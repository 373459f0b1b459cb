"""Cases in Python."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs

from runmgr.batch.cases import Case
from runmgr.batch.config import BatchConfig
from runmgr.batch.inputs import StdinSource, open_sources
from runmgr.exceptions import InputError

__all__ = ("Dataset", "with_dataset")


class Dataset:
    """Cases that a program has: what `run_batch` takes as its input.

    Its rows have the fields ``prompt`` and ``target``, and those of the rows it was made of.

    Args:
        cases: `Case` values, mappings, or texts that are prompts. A Hugging Face dataset can be passed here, or to `run_batch` itself.
        name: for messages and reports.

    Raises:
        InputError: an item is none of these.
    """

    def __init__(self, cases: Iterable[Case | dict[str, Any] | str], *, name: str = "dataset") -> None:
        self.name = name
        self._rows = [_row(case, number, name) for number, case in enumerate(cases, 1)]

    @classmethod
    def read(cls, *files: Any, name: str | None = None) -> Dataset:
        """All rows of files, by their endings; patterns are expanded. Blocks, and holds them in memory: give the names to `run_batch` instead
        where there are very many.

        Raises:
            InputError: a file is missing or wrong; names file and line.
        """
        source = open_sources(list(files))
        if isinstance(source, StdinSource):
            raise InputError("files are needed", source="-")
        return cls((fields for _, fields in source.rows()), name=name or source.name)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._rows[index]

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self)} cases)"

    def filter(self, holds: Callable[[dict[str, Any]], bool]) -> Dataset:
        """Those rows for which it holds."""
        return Dataset((row for row in self._rows if holds(row)), name=self.name)

    def map(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Dataset:
        """Each row changed."""
        return Dataset((change(dict(row)) for row in self._rows), name=self.name)

    def sample(self, count: int, *, seed: int = 0) -> Dataset:
        """So many rows, drawn by the seed, in their order."""
        chosen = sorted(random.Random(seed).sample(range(len(self)), min(count, len(self))))
        return Dataset((self._rows[index] for index in chosen), name=self.name)

    @property
    def has_targets(self) -> bool:
        """Whether every row has a ``target``."""
        return bool(self._rows) and all(row.get("target") is not None for row in self._rows)


def with_dataset(config: BatchConfig) -> BatchConfig:
    """A list of cases or texts as a dataset, and its fields as the batch's where nothing else is said.

    Raises:
        InputError: an item is neither.
    """
    given: Any = config.input
    if isinstance(given, list):
        items: list[Any] = given  # pyright: ignore[reportUnknownVariableType]
        if any(isinstance(item, Case) for item in items):
            given = Dataset(items)
    if not isinstance(given, Dataset):
        return config
    changes: dict[str, Any] = {"input": given}
    if (
        config.prompt_field is None
        and config.prompt is None
        and config.chat is None
        and all("prompt" in row for row in given)
    ):
        changes["prompt_field"] = "prompt"
    if config.target_field is None and given.has_targets:
        changes["target_field"] = "target"
    return attrs.evolve(config, **changes)


def _row(case: Any, number: int, name: str) -> dict[str, Any]:
    if isinstance(case, Case):
        row: dict[str, Any] = {"prompt": case.input}
        if case.target is not None:
            row["target"] = case.target
        return row
    if isinstance(case, str):
        return {"prompt": case}
    try:
        return dict(case)
    except (TypeError, ValueError):
        raise InputError(
            f"item {number} is {type(case).__name__}: a Case, a mapping or a text is needed", source=name
        ) from None
