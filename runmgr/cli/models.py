"""``runmgr models``: which providers are configured here, and whether a key and URL work."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from runmgr.report.text import printable

__all__ = ("command",)

_TOKENS = 16
"""Of the answer to a check: the fewest that every API takes."""


@click.command("models")
@click.option("--all", "everything", is_flag=True, help="List every provider, with what it lacks.")
@click.option(
    "--check",
    "checks",
    metavar="MODEL",
    multiple=True,
    help="Ask MODEL (e.g. openai:gpt-4o-mini) one short question, which costs a few tokens. Repeatable.",
)
@click.option(
    "--timeout",
    metavar="S",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds for each check.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(*, everything: bool, checks: tuple[str, ...], timeout: float, as_json: bool) -> int:
    """List the providers whose keys and addresses are set in the environment; with --check, ask models instead.

    Keys are never shown. Exit codes: 0; 1 where a check failed; 2 where a model or its key is not there.
    """
    if checks:
        return _check(checks, timeout, as_json=as_json)
    from runmgr.models.infer import provider_prefixes
    from runmgr.providers.configured import configured

    known = [configured(prefix) for prefix in provider_prefixes()]
    listed = [one for one in known if everything or one.chosen]
    if as_json:
        rows = [
            {
                "prefix": one.prefix,
                "title": one.title,
                "key": one.key,
                "base_url": one.url,
                "base_url_from": one.url_from,
                "missing": one.missing,
            }
            for one in listed
        ]
        print(json.dumps(rows, indent=2))
        return 0
    head = ("MODEL", "PROVIDER", "KEY", "BASE URL")
    lines = [
        head,
        *(
            (
                f"{one.prefix}:NAME",
                one.title,
                one.key or (f"lacks {one.missing}" if one.missing else "needs none"),
                (one.url or "-") + (f" ({one.url_from})" if one.url_from else ""),
            )
            for one in listed
        ),
    ]
    if listed:
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            print(printable("  ".join(cells).rstrip()))
    if not everything:
        others = ", ".join(one.prefix for one in known if not one.chosen)
        print(f"not configured: {others} (--all says what they lack)", file=sys.stderr)
    return 0


def _check(names: tuple[str, ...], timeout: float, *, as_json: bool) -> int:
    import trio

    from runmgr.models import infer_model

    models = [infer_model(name) for name in names]  # all of them first: a wrong name costs nothing
    results = [trio.run(_ask, model, timeout) for model in models]
    if as_json:
        print(
            json.dumps(
                [{"model": name} | result for name, result in zip(names, results, strict=True)], indent=2
            )
        )
    else:
        for name, result in zip(names, results, strict=True):
            told = (
                f"ok: {result['answered_by']} answered in {result['seconds']:.2f} s "
                f"({result['input_tokens']} + {result['output_tokens']} tokens)"
                if result["ok"]
                else f"failed: {result['error']}"
            )
            print(printable(f"{name}: {told}"))
    return 0 if all(result["ok"] for result in results) else 1


async def _ask(model: Any, timeout: float) -> dict[str, Any]:
    """One short question in one try."""
    import trio

    from runmgr.exceptions import AgentRunError, ModelHTTPError
    from runmgr.messages import ModelRequest, UserPromptPart
    from runmgr.models import ModelRequestParameters

    messages = [ModelRequest([UserPromptPart("Answer with the word ok.")])]
    settings = {"max_tokens": _TOKENS, "timeout": timeout}
    ask = getattr(model, "request_once", model.request)
    started = trio.current_time()
    try:
        response = await ask(messages, settings, ModelRequestParameters())
    except ModelHTTPError as error:
        words = [str(error.status_code), error.provider_code, error.provider_message]
        told = ": ".join(word for word in words if word)
        where = f" (request {error.request_id})" if error.request_id else ""
        return {
            "ok": False,
            "status": error.status_code,
            "error": f"{told}{where}",
            "retriable": error.retriable,
        }
    except AgentRunError as error:
        return {
            "ok": False,
            "status": None,
            "error": str(error),
            "retriable": getattr(error, "retriable", False),
        }
    finally:
        await getattr(model, "aclose", trio.lowlevel.checkpoint)()
    return {
        "ok": True,
        "answered_by": response.model_name,
        "seconds": trio.current_time() - started,
        "input_tokens": response.usage.input_tokens,
        "output_tokens": response.usage.output_tokens,
    }
