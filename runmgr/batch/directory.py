"""A batch's results directory: its files, and whether it may be written to."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import msgspec

from runmgr.exceptions import UserError
from runmgr.report.summary import write_atomically

__all__ = ("BatchDirectory", "Manifest", "new_directory")

_VERSION = 1


class Manifest(msgspec.Struct, kw_only=True):
    """``batch.json``: what the directory's batch is. Written before anything is sent."""

    version: int = _VERSION
    identity: dict[str, Any]
    """What decides which runs are the same; another value is another batch."""
    scoring: dict[str, Any]
    """What decides their scores; another value has them scored again on resume."""
    input: str
    """The input's absolute path, several a line each, or ``-``."""
    epochs: int = 1
    command: tuple[str, ...] = ()
    """The command to resume with."""
    variants: list[dict[str, Any]] = msgspec.field(default_factory=list[dict[str, Any]])
    """Of a matrix: each combination's own identity."""
    labels: list[str] = msgspec.field(default_factory=list[str])
    """Of a matrix: each combination's name, in the same order."""
    selection: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """Which rows of the input are cases, as far as options say."""
    runs: int | None = None
    """How many there are to be; None where standard input has not ended yet. For who shows the batch."""
    created: str = ""
    """UTC time, for people."""


@attrs.frozen
class BatchDirectory:
    """The files of a batch.

    Args:
        path: the directory; made by `begin`.
        journal: where the journal is.
    """

    path: Path
    journal: Path

    @property
    def results(self) -> Path:
        """A line a run."""
        return self.path / "results.jsonl"

    @property
    def summary(self) -> Path:
        """What they come to."""
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        """The same, to look at."""
        return self.path / "report.html"

    @property
    def manifest(self) -> Path:
        """What the batch is."""
        return self.path / "batch.json"

    @classmethod
    def at(cls, path: Path, journal: Path | None = None) -> BatchDirectory:
        """The files of a batch in this directory."""
        return cls(path, path / "journal.sqlite" if journal is None else journal)

    def holds_batch(self) -> bool:
        """Whether a batch has been begun here."""
        return any(file.exists() for file in (self.manifest, self.results, self.journal))

    def read_manifest(self) -> Manifest | None:
        """What the batch here is; None where nothing says it.

        Raises:
            UserError: there is one that cannot be read.
        """
        try:
            return msgspec.json.decode(self.manifest.read_bytes(), type=Manifest)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, msgspec.ValidationError) as error:
            raise UserError(
                f"{self.manifest}: cannot be read: {error}; without it this directory's batch cannot be resumed"
            ) from error

    def check(self, manifest: Manifest, *, resume: bool) -> Manifest | None:
        """Whether a batch may run here, before anything is written.

        Args:
            manifest: what it would be.
            resume: whether it may go on from what is here.

        Returns:
            What the batch to resume was, or None if there is nothing here yet.

        Raises:
            UserError: there are results and ``resume`` is not asked for, or they are of another batch (says what differs).
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--out {self.path}: is a file; a directory is needed")
        if not self.holds_batch():
            return None
        before = self.read_manifest()
        if before is None:
            raise UserError(
                f"{self.path}: holds results of a batch, but no {self.manifest.name} says which; choose another --out, or empty it"
            )
        differences = _differences(before.identity, manifest.identity)
        if differences:
            raise UserError(
                f"{self.path}: holds the results of another batch ({'; '.join(differences)}); "
                "choose another --out, or go on with what it was begun with"
            )
        if not resume:
            raise UserError(
                f"{self.path}: holds results of this batch already; add --resume to go on from them, or choose another --out"
            )
        return before

    def begin(self, manifest: Manifest) -> None:
        """Makes the directory and says in it what the batch is. Blocks.

        Raises:
            UserError: it cannot be made or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            manifest.created = manifest.created or datetime.now(UTC).isoformat(timespec="seconds")
            write_atomically(
                self.manifest, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
            )
            self.journal.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {self.path}: cannot write there: {error.strerror or error}") from error


def new_directory(root: Path = Path("runs")) -> Path:
    """A directory named by the time of day that does not exist yet: ``runs/2025-06-01_12-30-00``."""
    name = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
    path, number = root / name, 2
    while path.exists():
        path, number = root / f"{name}_{number}", number + 1
    return path


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for key in [*before, *(key for key in now if key not in before)]:
        was, is_now = before.get(key), now.get(key)
        if json.loads(json.dumps(was, default=str)) != json.loads(json.dumps(is_now, default=str)):
            what = key.replace("_", " ")
            if key == "agent_fingerprint":
                found.append("the agent's own instructions, tools, output or settings have changed")
            else:
                found.append(f"{what} was {_short(was)}, now is {_short(is_now)}")
    if len(found) > 1:  # a fingerprint differs because of what is already said
        found = [text for text in found if not text.startswith("the agent's own")] or found
    return found


def _short(value: Any) -> str:
    if value is None or value == {}:
        return "not given"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return repr(text if len(text) <= 60 else text[:60] + "...")
