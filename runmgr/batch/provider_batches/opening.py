"""A run's provider batches: opened beside its supervisor, and gone on with from the journal."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from runmgr.batch.model import model_of
from runmgr.batch.provider_batches.anthropic import AnthropicBatches
from runmgr.batch.provider_batches.api import Api, Seen
from runmgr.batch.provider_batches.http import open_http
from runmgr.batch.provider_batches.lane import Lane, Patience
from runmgr.batch.provider_batches.model import ProviderBatchModel
from runmgr.batch.provider_batches.openai import OpenAIBatches
from runmgr.batch.provider_batches.records import OPEN, BatchRecord, read_records
from runmgr.batch.provider_batches.spool import Results
from runmgr.exceptions import JournalError
from runmgr.journal import JournalWriter, open_journal, open_journal_writer

__all__ = (
    "Standing",
    "cancel_batches",
    "forget_claims",
    "look_at_batches",
    "open_batches",
    "open_provider_batches",
)


@attrs.frozen
class Standing:
    """How a provider batch stands, for people.

    Args:
        record: what the journal says.
        seen: what the provider says; None where it was not asked.
        problem: why it could not be asked.
    """

    record: BatchRecord
    seen: Seen | None = None
    problem: str | None = None


@asynccontextmanager
async def open_provider_batches(
    models: Sequence[ProviderBatchModel],
    *,
    writer: JournalWriter,
    folder: Path,
    patience: Patience,
    retry_failed: bool,
) -> AsyncGenerator[list[Lane]]:
    """Gives each model its lane, and takes up what the journal says is under way. Leaving the block leaves batches at their providers.

    Args:
        models: whom runs will ask.
        writer: the journal.
        folder: for requests on their way and for results.
        patience: how often providers are looked at.
        retry_failed: whether runs that the journal holds as failed are asked for anew.

    Raises:
        JournalError: the journal cannot be read.
    """
    with open_journal(writer.path) as reader:
        records = read_records(reader)
        forget: set[str] = set()
        if retry_failed:
            forget = {outcome.run_id for outcome in reader.outcomes() if outcome.status != "succeeded"}
    last = max((record.number for record, _ in records), default=0)

    def number() -> int:
        nonlocal last
        last += 1
        return last

    results = Results(folder)
    taken = {record.id for record, _ in records if record.id is not None}
    failure: Exception | None = None
    try:
        async with AsyncExitStack() as clients, trio.open_nursery() as nursery:
            clients.callback(results.close)
            lanes: list[Lane] = []
            for model in models:
                wrapped: Any = model.wrapped
                lane = model.lane = Lane(
                    api=await _api(clients, wrapped, taken),
                    model=wrapped,
                    name=_name(model),
                    endpoint=model.endpoint,
                    writer=writer,
                    results=results,
                    number=number,
                    patience=patience,
                    nursery=nursery,
                )
                lanes.append(lane)
                for record, entries in records:
                    if (record.model, record.endpoint, record.base_url) == (
                        lane.name,
                        lane.endpoint,
                        lane.base_url,
                    ):
                        lane.take_up(record, entries, forget)
            try:
                yield lanes
            except Exception as error:  # noqa: BLE001  raised below, out of the nursery, bare
                failure = error
            finally:
                for model in models:
                    model.lane = None
                nursery.cancel_scope.cancel()
    except* Exception as group:  # noqa: BLE001  of the lanes: the first of them is raised below, bare
        failure = failure or _first(group)
    if failure is not None:
        raise failure


def _first(group: BaseExceptionGroup[Any]) -> Exception:
    error: Any = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]
    return error  # pyright: ignore[reportUnknownVariableType]


def _name(model: ProviderBatchModel) -> str:
    prefix = "openai-responses" if model.endpoint == "/v1/responses" else model.system
    return f"{prefix}:{model.model_name}"


async def _api(clients: AsyncExitStack, model: Any, taken: set[str]) -> Api:
    from runmgr.models.anthropic import AnthropicModel

    if isinstance(model, AnthropicModel):
        return AnthropicBatches(await clients.enter_async_context(open_http(model, unwrap=False)), taken)
    return OpenAIBatches(await clients.enter_async_context(open_http(model, unwrap=True)))


# -------------------------------------------------------------------- from outside


def open_batches(journal: Path) -> list[BatchRecord]:
    """The batches that providers have, or may have, of a journal; none where there is no journal. Blocks.

    Raises:
        JournalError: it cannot be read.
    """
    if not journal.exists():
        return []
    with open_journal(journal) as reader:
        return [record for record, _ in read_records(reader) if record.state in OPEN]


async def look_at_batches(journal: Path) -> list[Standing]:
    """How a journal's batches stand, those that are under way as their providers say.

    Raises:
        JournalError: the journal cannot be read.
        UserError: a provider's key is missing.
    """
    return await _each(journal, cancel=False)


async def cancel_batches(journal: Path) -> list[Standing]:
    """Asks providers to stop the batches that are under way. What they have answered by then is charged, and ``--resume`` collects it.

    Errors as of `look_at_batches`.
    """
    return await _each(journal, cancel=True)


async def _each(journal: Path, *, cancel: bool) -> list[Standing]:
    from runmgr.batch.provider_batches.api import BatchRefused
    from runmgr.exceptions import ModelAPIError

    with open_journal(journal) as reader:
        records = [record for record, _ in read_records(reader)]
    found: list[Standing] = []
    async with AsyncExitStack() as clients:
        apis: dict[tuple[str, str], Api] = {}
        taken = {record.id for record in records if record.id is not None}
        for record in records:
            if record.state not in OPEN:
                found.append(Standing(record))
                continue
            where = (record.model, record.base_url)
            if where not in apis:
                apis[where] = await _api(clients, model_of(record.model, record.base_url), taken)
            try:
                batch_id = record.id or await apis[where].find(record)
                if batch_id is None:
                    found.append(Standing(record, None, "the provider has none such: it was not submitted"))
                    continue
                record.id = batch_id
                seen = await (apis[where].cancel if cancel else apis[where].look)(batch_id)
                found.append(Standing(record, seen))
            except (ModelAPIError, BatchRefused) as error:
                found.append(Standing(record, None, str(error)))
    return found


async def forget_claims(journal: Path) -> None:
    """Before a resume: what a killed process had reserved for requests in batches is not lost, it is reserved again.

    Raises:
        JournalError: the journal cannot be written.
    """
    try:
        with open_journal(journal) as reader:
            spent: dict[str, Any] | None = reader.meta("spent")
    except JournalError:
        return  # there is none, or nothing in it
    if spent is not None and spent.get("claimed") is not None:
        async with open_journal_writer(journal) as writer:
            writer.set_meta("spent", {**spent, "claimed": None})
