"""Where rows come from: a file whose ending names its format, or JSONL on standard input."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

import attrs

from runmgr.batch.inputs import lines, table
from runmgr.batch.inputs.array import array_rows
from runmgr.exceptions import InputError

__all__ = (
    "FORMATS",
    "FileSource",
    "FilesSource",
    "Row",
    "RowsSource",
    "Source",
    "StdinSource",
    "open_source",
    "open_sources",
)

Row: TypeAlias = tuple[int, dict[str, Any]]
"""Where it stands (1-based line; for Parquet the row's number) and its fields."""

_Reader: TypeAlias = Callable[[IO[bytes], str], Iterator[Row]]


def _parquet_rows(file: IO[bytes], name: str) -> Iterator[Row]:
    from runmgr.batch.inputs.parquet import parquet_rows

    return parquet_rows(file, name)


_READERS: dict[str, _Reader] = {
    ".jsonl": lines.jsonl_rows,
    ".ndjson": lines.jsonl_rows,
    ".csv": table.csv_rows,
    ".tsv": table.tsv_rows,
    ".json": array_rows,
    ".parquet": _parquet_rows,
    ".txt": lines.text_rows,
}
FORMATS = tuple(_READERS)


@attrs.frozen
class FileSource:
    """A file that can be read more than once.

    Args:
        name: as the user wrote it, for messages.
        path: where it is.
        ending: one of ``FORMATS``.
        gzipped: whether it is compressed.
    """

    name: str
    path: Path
    ending: str
    gzipped: bool

    def rows(self) -> Iterator[Row]:
        """Reads the file from its start; holds one row (for Parquet one batch) at a time. Blocks on the disk.

        Raises:
            InputError: the file cannot be read, or a row is wrong; names the line.
        """
        try:
            with self._open() as file:
                yield from _READERS[self.ending](file, self.name)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"the gzip data is damaged or cut short: {error}", source=self.name) from error
        except OSError as error:
            raise InputError(f"cannot read it: {error.strerror or error}", source=self.name) from error

    def _open(self) -> IO[bytes]:
        if not self.gzipped:
            return self.path.open("rb")
        if self.ending != ".parquet":
            return cast("IO[bytes]", gzip.open(self.path, "rb"))
        # read from its end on, it is needed whole: on the disk, not in memory
        whole = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
        try:
            with gzip.open(self.path, "rb") as unpacked:
                shutil.copyfileobj(unpacked, whole)
            whole.seek(0)
        except BaseException:
            whole.close()
            raise
        return whole

    def error(self, message: str, row: int | None = None) -> InputError:
        """An error that says where: file and line, or file and row number for Parquet."""
        if row is not None and self.ending == ".parquet":
            return InputError(f"row {row}: {message}", source=self.name)
        return InputError(message, source=self.name, line=row)


@attrs.frozen
class StdinSource:
    """JSONL on standard input: read once, as it comes.

    Args:
        fd: the file descriptor to read.
    """

    fd: int = 0
    name: str = "<stdin>"

    def rows(self) -> AsyncIterator[Row]:
        """Rows as they arrive; waiting for more can be cancelled and loses nothing.

        Raises:
            InputError: a line is wrong; names it.
        """
        return lines.jsonl_rows_from_fd(self.fd, self.name)

    def error(self, message: str, row: int | None = None) -> InputError:
        """An error that says where."""
        return InputError(message, source=self.name, line=row)


@attrs.define(eq=False)
class FilesSource:
    """Several files, one after the other.

    Args:
        name: all of them, for messages.
        files: in the order in which they are read.
    """

    name: str
    files: tuple[FileSource, ...]
    _current: FileSource | None = None

    def rows(self) -> Iterator[Row]:
        """As `FileSource.rows`, of each file."""
        for file in self.files:
            self._current = file
            yield from file.rows()

    def error(self, message: str, row: int | None = None) -> InputError:
        """An error that names the file that is being read."""
        if row is None or self._current is None:
            return InputError(message, source=self.name)
        return self._current.error(message, row)


@attrs.frozen(eq=False)
class RowsSource:
    """Rows that a program has: a list of dicts, a Hugging Face dataset, anything that can be iterated more than once.

    Args:
        items: mappings.
        name: for messages.
    """

    items: Iterable[Any]
    name: str = "<rows>"

    def rows(self) -> Iterator[Row]:
        """Rows with their 1-based numbers.

        Raises:
            InputError: an item is no mapping.
        """
        for number, item in enumerate(self.items, 1):
            if not isinstance(item, Mapping):
                raise self.error(f"is {type(item).__name__}, a mapping of fields is needed", number)
            yield number, dict(item)  # pyright: ignore[reportUnknownArgumentType]

    def error(self, message: str, row: int | None = None) -> InputError:
        """An error that says which row."""
        return InputError(message if row is None else f"row {row}: {message}", source=self.name)


Source: TypeAlias = FileSource | FilesSource | RowsSource | StdinSource


def open_sources(names: Any) -> Source:
    """The source of a name, of several names and patterns, or of rows in memory. Does not read it yet.

    Args:
        names: a file's name, a pattern (``data/*.jsonl``), several of these, ``-``, or rows: a list of mappings, a Hugging Face dataset.

    Raises:
        InputError: as `open_source`; nothing matches a pattern; standard input among files; rows that can be iterated only once.
    """
    found: list[str] = []
    for name in _names(names):
        if any(c in name for c in "*?[") and not Path(name).exists():
            matching = sorted(each for each in glob(name, recursive=True) if Path(each).is_file())  # noqa: PTH207  may be absolute
            if not matching:
                raise InputError("no file matches this pattern", source=name)
            found += matching
        else:
            found.append(name)
    if not found:
        name = getattr(names, "name", None)
        return RowsSource(names, f"<{name}>" if isinstance(name, str) else "<rows>")
    sources = [open_source(name) for name in found]
    if len(sources) == 1:
        return sources[0]
    files = tuple(source for source in sources if isinstance(source, FileSource))
    if len(files) < len(sources):
        raise InputError("- (standard input) goes alone, not among files", source="-")
    return FilesSource(", ".join(found[:3]) + (", ..." if len(found) > 3 else ""), files)


def open_source(name: str | os.PathLike[str]) -> Source:
    """The source that a command's INPUT names; ``-`` is standard input. Does not read it yet.

    Raises:
        InputError: no such file, a directory, no permission, or an ending that names no format.
    """
    text = os.fspath(name)
    if text == "-":
        return StdinSource()
    path = Path(text)
    if not path.exists():
        raise InputError(_missing(path), source=text)
    if path.is_dir():
        raise InputError("is a directory, not a file of cases", source=text)
    if not os.access(path, os.R_OK):
        raise InputError("cannot read it: permission denied", source=text)
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    gzipped = bool(suffixes) and suffixes[-1] == ".gz"
    ending = suffixes[-2] if gzipped and len(suffixes) > 1 else suffixes[-1] if suffixes else ""
    if ending not in _READERS:
        raise InputError(
            f"its ending {path.suffix!r} names no format that is read here: "
            f"{', '.join(FORMATS)} (each also with .gz), or - for JSONL on standard input",
            source=text,
        )
    return FileSource(name=text, path=path, ending=ending, gzipped=gzipped)


def _names(names: Any) -> list[str]:
    """The files' names; none of rows."""
    if isinstance(names, (str, os.PathLike)):
        return [os.fspath(cast("str | os.PathLike[str]", names))]
    if isinstance(names, (list, tuple)):
        several = cast("list[Any]", names)
        if several and all(isinstance(each, (str, os.PathLike)) for each in several):
            return [os.fspath(each) for each in several]
    elif isinstance(names, Mapping):
        splits = [str(name) for name in cast("Mapping[Any, Any]", names)]
        raise InputError(
            f"{type(cast('object', names)).__name__}: has several splits ({', '.join(splits[:5])}); give one of them: dataset[{splits[0]!r}]"
            if splits
            else "a mapping is no rows; a list of mappings is needed"
        )
    elif isinstance(names, Iterator) or not isinstance(names, Iterable):
        raise InputError(
            f"{type(cast('object', names)).__name__}: files, or rows that can be iterated more than once (e.g. list(...)) are needed"
        )
    return []


def _missing(path: Path) -> str:
    """No such file, and a file beside it that may have been meant."""
    from difflib import get_close_matches

    try:
        neighbours = [entry.name for entry in os.scandir(path.parent) if entry.is_file()]
    except OSError:
        return f"no such file, and no folder {str(path.parent)!r} either"
    close = get_close_matches(path.name, neighbours, n=5)
    # 'nope.jsonl' is like any other '.jsonl'
    close = [name for name in close if get_close_matches(path.stem, [Path(name).stem], n=1)]
    hint = f"; did you mean {str(path.with_name(close[0]))!r}?" if close else ""
    return "no such file" + hint
