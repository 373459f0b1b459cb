"""A live report over HTTP: Starlette on trio, by hypercorn.

What it shows was written by models: it reaches the page as JSON and text nodes only, under a policy that runs nothing but the page's own script. On a
loopback address anybody on this machine may look; on any other a token is needed. Names of other hosts are refused, so that no web page can
reach it by a name of its own (DNS rebinding).
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import secrets
from collections.abc import Callable
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from runmgr.exceptions import UserError
from runmgr.report.live import LiveResults

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ("serve_view", "view_app")

_BEFORE_LISTENING = 1.0
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_COOKIE = "runmgr_view"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _needed(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f"view needs {name.partition('.')[0]}: pip install 'runmgr[view]'") from error


def view_app(live: LiveResults, *, token: str | None = None, host: str = "127.0.0.1") -> Any:
    """The ASGI application. Runs under trio.

    Args:
        live: what it shows.
        token: what a reader must know; None asks for none.
        host: the name or address it is reached by; others are refused, where no token is asked for.

    Raises:
        UserError: Starlette is not installed.
    """
    responses = _needed("starlette.responses")
    routing = _needed("starlette.routing")

    def respond(body: bytes | str, kind: str, status: int = 200) -> Response:
        return responses.Response(body, status_code=status, media_type=kind, headers=_HEADERS)

    def data(value: Any, status: int = 200) -> Response:
        # surrogates that a model wrote have no UTF-8
        body = json.dumps(value, ensure_ascii=False).encode(errors="replace")
        return respond(body, "application/json", status)

    def refused(request: Request) -> Response | None:
        if token is None:
            said = request.headers.get("host", "")
            name = said.rpartition(":")[0] if said.rpartition(":")[2].isdigit() else said
            if name.strip("[]") != host and not _is_loopback(name.strip("[]")):
                return respond("this address is not served here", "text/plain", 421)
            return None
        given = request.query_params.get("token")
        if given is not None and hmac.compare_digest(given.encode(), token.encode()):
            if request.url.path != "/":
                return None
            there = responses.RedirectResponse("/", status_code=303, headers=_HEADERS)
            there.set_cookie(_COOKIE, token, httponly=True, samesite="strict")
            return there
        known = request.cookies.get(_COOKIE, "")
        if hmac.compare_digest(known.encode(), token.encode()):
            return None
        return respond("a token is needed: open the address that runmgr view printed", "text/plain", 401)

    async def ask(what: Callable[[], Any]) -> Any:
        return await trio.to_thread.run_sync(what)

    def page(name: str, kind: str) -> Any:
        async def endpoint(request: Request) -> Response:
            return refused(request) or respond(_asset(name), kind)

        return endpoint

    async def nothing(_: Request) -> Response:
        return respond(b"", "image/x-icon", 204)

    async def summary(request: Request) -> Response:
        return refused(request) or data(await ask(live.summary))

    async def cases(request: Request) -> Response:
        wrong = refused(request)
        if wrong is not None:
            return wrong
        q = request.query_params
        try:
            offset, limit = int(q.get("offset", "0")), int(q.get("limit", "50"))
        except ValueError:
            return data({"error": "offset and limit are numbers"}, 400)
        right = {"right": True, "wrong": False}.get(q.get("kind", ""))
        return data(
            await ask(
                lambda: live.cases(
                    offset=min(offset, 1 << 40),
                    limit=limit,
                    sort=q.get("sort", "index"),
                    down=q.get("down") == "1",
                    status=q.get("status", ""),
                    scorer=q.get("scorer", ""),
                    right=right,
                    find=q.get("find", ""),
                    variant=q.get("variant", ""),
                )
            )
        )

    async def run(request: Request) -> Response:
        wrong = refused(request)
        if wrong is not None:
            return wrong
        found = await ask(lambda: live.run(request.path_params["run_id"]))
        return data({"error": "no such run"}, 404) if found is None else data(found)

    route = routing.Route
    return _needed("starlette.applications").Starlette(
        routes=[
            route("/", page("view.html", "text/html; charset=utf-8")),
            route("/favicon.ico", nothing),
            route("/view.js", page("view.js", "text/javascript; charset=utf-8")),
            route("/page.css", page("page.css", "text/css; charset=utf-8")),
            route("/api/summary", summary),
            route("/api/cases", cases),
            route("/api/run/{run_id}", run),
        ]
    )


def _asset(name: str) -> bytes:
    return files("runmgr.report").joinpath(name).read_bytes()


async def serve_view(
    directory: Path,
    *,
    journal: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    every: float = 1.0,
    listening: Callable[[str], None] = print,
) -> None:
    """Serves a batch's results until cancelled.

    Args:
        directory: the batch's.
        journal: the journal's file.
        host: the address to listen on; one that is not loopback asks readers for a token.
        port: 0 takes a free one.
        every: seconds between two looks at the results.
        listening: told the address to open, with its token.

    Raises:
        UserError: no batch there, the extra is not installed, or the address cannot be listened on.
    """
    serve = _needed("hypercorn.trio").serve
    config = _needed("hypercorn.config").Config()
    config.bind = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    token = None if _is_loopback(host) else secrets.token_urlsafe(24)
    failure: OSError | None = None
    with LiveResults(directory, journal) as live:
        app = view_app(live, token=token, host=host)
        with trio.move_on_after(
            _BEFORE_LISTENING
        ):  # what is small is there whole when the page is first asked for
            while await trio.to_thread.run_sync(live.update):
                await trio.lowlevel.checkpoint()
        try:
            async with trio.open_nursery() as nursery:
                addresses: list[str] = await nursery.start(serve, app, config)
                listening(addresses[0].rstrip("/") + "/" + (f"?token={token}" if token else ""))
                while True:
                    while await trio.to_thread.run_sync(live.update):
                        await trio.lowlevel.checkpoint()
                    await trio.sleep(every)
        except* OSError as group:
            failure = _first(group)
    if failure is not None:
        raise UserError(f"cannot listen on {host}:{port}: {failure.strerror or failure}") from failure


def _first(group: BaseExceptionGroup[OSError]) -> OSError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
