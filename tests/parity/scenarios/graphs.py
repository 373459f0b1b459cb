"""Graphs: running, drawing, persistence, errors."""

# ruff: noqa: UP045, PERF401, B006, B008, B023, E741, F811
from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic_graph import Edge, Graph, GraphRunContext
from pydantic_graph.exceptions import GraphNodeStatusError, GraphRuntimeError, GraphSetupError
from pydantic_graph.nodes import generate_snapshot_id
from pydantic_graph.persistence.file import BaseNode, End, FileStatePersistence
from pydantic_graph.persistence.in_mem import FullStatePersistence, SimpleStatePersistence


@dataclass
class St:
    n: int = 0
    log: list[str] = field(default_factory=list)


@dataclass
class F2S(BaseNode[St, None, int]):
    f: float

    async def run(self, ctx: GraphRunContext[St]) -> S2L:
        ctx.state.n += 1
        return S2L(str(self.f))


@dataclass
class S2L(BaseNode[St, None, int]):
    """String to length."""

    docstring_notes = True
    s: str

    async def run(self, ctx: GraphRunContext[St]) -> Annotated[Dbl, Edge(label="twice")]:
        ctx.state.log.append(self.s)
        return Dbl(len(self.s))


@dataclass
class Dbl(BaseNode[St, None, int]):
    x: int

    async def run(self, ctx: GraphRunContext[St]) -> S2L | Annotated[End[int], Edge(label="done")]:
        """run doc"""
        if self.x == 7:
            return S2L("x" * 21)
        return End(self.x * 2)


g = Graph(nodes=(F2S, S2L, Dbl))


async def check_run(show):
    st = St()
    r = await g.run(F2S(3.14), state=st)
    show(r, st)
    r = await g.run(F2S(3.14159), state=st)
    show(r.output, r.state, st)


def check_sync(show):
    r = g.run_sync(F2S(3.14), state=St())
    show(r.output, r.state)


def check_attrs(show):
    for node_id, node_def in g.node_defs.items():
        show(g.name, node_id, node_def.node, node_def.note, node_def.next_node_edges, node_def.end_edge)
    show(g.inferred_types)


def check_mermaid(show):
    show(g.mermaid_code())
    show(
        g.mermaid_code(
            start_node=F2S, title="T", highlighted_nodes=S2L, edge_labels=False, notes=False, direction="LR"
        )
    )
    show(
        g.mermaid_code(
            start_node=[F2S, Dbl], highlight_css="fill:#fff", highlighted_nodes=[S2L, Dbl], title=False
        )
    )
    g.mermaid_code(start_node="zz")


def check_mermaid2(show):
    class Oth(BaseNode):
        async def run(self, ctx) -> End: ...

    try:
        g.mermaid_code(highlighted_nodes="Nope")
    except Exception as e:
        show(type(e).__name__, e)
    g.mermaid_code(start_node=S2L, highlighted_nodes=Oth)


async def check_iter(show):
    async with g.iter(F2S(3.14), state=St()) as run:
        show(run.next_node, run.result, run.state, run.deps)
        async for n in run:
            show(n)
        show(run.result, run.result.output, run.state)


async def check_next(show):
    async with g.iter(F2S(3.14), state=St()) as run:
        n = run.next_node
        while not isinstance(n, End):
            n = await run.next(n)
            show(n)
        show(run.result)
        try:
            await run.next(n)
        except Exception as e:
            show(type(e).__name__, e)


async def check_next_noarg(show):
    async with g.iter(F2S(3.14), state=St()) as run:
        show(await run.next(), await run.next())


async def check_next_bad(show):
    async with g.iter(F2S(3.14), state=St()) as run:
        await run.next("x")


async def check_full(show):
    p = FullStatePersistence()
    await g.run(F2S(3.14), state=St(), persistence=p)
    show(
        [
            (
                type(s).__name__,
                s.state,
                getattr(s, "node", None),
                getattr(s, "status", None),
                getattr(s, "result", None),
            )
            for s in p.history
        ]
    )
    j = p.dump_json(indent=None)
    show(
        re.sub(
            r'"(id|start_ts|ts|duration)":("[^"]*"|[\d.e-]+)',
            "",
            json.dumps(json.loads(j), sort_keys=True, separators=(",", ":")),
        )
    )
    q = FullStatePersistence()
    g.set_persistence_types(q) if hasattr(g, "set_persistence_types") else q.set_graph_types(g)
    q.load_json(j)
    show(q.history == p.history, [s.kind for s in await q.load_all()])


async def check_simple(show):
    p = SimpleStatePersistence()
    await g.run(F2S(3.14), state=St(), persistence=p)
    s = p.last_snapshot
    show(type(s).__name__, s.state, s.result)
    await p.load_all()


async def check_simple_next(show):
    p = SimpleStatePersistence()
    async with g.iter(F2S(3.14), state=St(), persistence=p) as run:
        await run.next()
        s = p.last_snapshot
        show(type(s).__name__, s.node, s.status, s.state, s.id.split(":")[0])
        await run.next()
        s = p.last_snapshot
        show(type(s).__name__, s.node, s.status, s.state)


async def check_file(show):
    d = Path(tempfile.mkdtemp()) / "x.json"
    p = FileStatePersistence(d)
    r = await g.run(F2S(3.14), state=St(), persistence=p)
    show(r.output)
    show(
        [
            (x["kind"], x.get("status"), x["state"], x.get("node"), x.get("result"))
            for x in json.loads(d.read_text())
        ]
    )
    g2 = FileStatePersistence(d)
    g2.set_graph_types(g)
    show([type(s).__name__ for s in await g2.load_all()])


async def check_resume(show):
    for P in [
        FullStatePersistence,
        SimpleStatePersistence,
        lambda: FileStatePersistence(Path(tempfile.mkdtemp()) / "x.json"),
    ]:
        p = P()
        await g.initialize(F2S(3.14), state=St(n=10), persistence=p)
        async with g.iter_from_persistence(p) as run:
            n = await run.next()
            show(n, run.state)
        async with g.iter_from_persistence(p) as run:
            n = await run.next()
            show(n, run.state)
        async with g.iter_from_persistence(p) as run:
            n = await run.next()
            show(n, run.state)
        try:
            async with g.iter_from_persistence(p) as run:
                pass
        except Exception as e:
            show(type(e).__name__, e)


async def check_fail(show):
    @dataclass
    class Bad(BaseNode[St, None, int]):
        async def run(self, ctx) -> End[int]:
            ctx.state.n = 5
            raise ValueError("boom")

    b = Graph(nodes=[Bad])
    p = FullStatePersistence()
    try:
        await b.run(Bad(), state=St(), persistence=p)
    except ValueError as e:
        show(e)
    show([(s.status, s.state) for s in p.history])
    try:
        await b.run(Bad(), state=St(), persistence=p)
    except Exception as e:
        show(type(e).__name__, e)
    show(len(p.history))


async def check_history_reuse(show):
    p = FullStatePersistence()
    await g.run(F2S(3.14), state=St(), persistence=p)
    await g.run(F2S(3.14), state=St(), persistence=p)
    show(len(p.history), p.deep_copy)


async def check_nodeid(show):
    show(
        F2S.get_node_id(),
        F2S(1).get_snapshot_id().split(":")[0],
        F2S(1.0).get_node_id(),
    )
    s = F2S(1.0)
    s.set_snapshot_id("abc")
    show(s.get_snapshot_id())
    show(generate_snapshot_id("q").split(":")[0])
    show(
        F2S.get_note(),
        S2L.get_note(),
        F2S(1.0).deep_copy(),
        F2S(2.0) == F2S(2.0),
        End(1).deep_copy_data(),
        End(1) == End(1),
        End(1),
    )


async def check_no_state(show):
    @dataclass
    class A(BaseNode):
        async def run(self, ctx: GraphRunContext) -> B:
            return B()

    @dataclass
    class B(BaseNode[None, int, str]):
        async def run(self, ctx: GraphRunContext[None, int]) -> End[str]:
            return End(f"d{ctx.deps}")

    show(await Graph(nodes=[A, B]).run(A(), deps=3))


def check_missing_node(show):
    Graph(nodes=[F2S, S2L])


def check_dup(show):
    Graph(nodes=[F2S, S2L, Dbl, Dbl])


def check_bad_nodes(show):
    @dataclass
    class NoRet(BaseNode):
        async def run(self, ctx):
            return End(1)

    @dataclass
    class BadRet(BaseNode):
        async def run(self, ctx) -> int:
            return 1

    for c in [NoRet, BadRet]:
        try:
            Graph(nodes=[c])
        except Exception as e:
            show(type(e).__name__, e)

    @dataclass
    class Gen(BaseNode):
        async def run(self, ctx) -> BaseNode:
            return 1

    try:
        Graph(nodes=[Gen])
        show("ok")
    except Exception as e:
        show(type(e).__name__, e)


async def check_wrong_return(show):
    @dataclass
    class W(BaseNode[None, None, int]):
        async def run(self, ctx) -> End[int]:
            return 42

    await Graph(nodes=[W]).run(W())


async def check_unknown_node(show):
    @dataclass
    class Un(BaseNode[None, None, int]):
        async def run(self, ctx) -> End[int]:
            return End(1)

    await g.run(Un(), state=St())


async def check_return_unknown(show):
    @dataclass
    class Un(BaseNode[None, None, int]):
        async def run(self, ctx) -> End[int]:
            return End(1)

    @dataclass
    class W(BaseNode[None, None, int]):
        async def run(self, ctx) -> End[int]:
            return Un()

    await Graph(nodes=[W]).run(W())


def check_excs(show):
    for e in [
        GraphSetupError("a"),
        GraphRuntimeError("b"),
        GraphNodeStatusError("c"),
        GraphNodeStatusError.check("created") if hasattr(GraphNodeStatusError, "check") else None,
    ]:
        show(repr(e), str(e), type(e).__mro__[1].__name__ if e else None)
    try:
        GraphNodeStatusError.check("running")
    except Exception as e:
        show(type(e).__name__, e, e.message)


def check_infer_name(show):
    my = Graph(nodes=[F2S, S2L, Dbl])
    my.run_sync(F2S(1.0), state=St())
    show(my.name)


async def check_types(show):
    show(g.inferred_types)
    g2 = Graph(nodes=[F2S, S2L, Dbl], name="nm", state_type=St, run_end_type=int, auto_instrument=False)
    show(g2.name, g2.inferred_types)


async def check_run_result(show):
    r = await g.run(F2S(3.14), state=St())
    show(type(r).__name__, r)


async def check_iter_break(show):
    p = FullStatePersistence()
    async with g.iter(F2S(3.14), state=St(), persistence=p) as run:
        async for n in run:
            show(n)
            break
    show(run.result, len(p.history))


async def check_ctx_graph(show):
    show(
        GraphRunContext(state=1, deps=2), GraphRunContext(state=1, deps=2) == GraphRunContext(state=1, deps=2)
    )


async def check_record_run(show):
    p = SimpleStatePersistence()
    await p.snapshot_node(St(), F2S(1.0))
    s = p.last_snapshot
    async with p.record_run(s.id):
        pass
    show(s.status)
    try:
        async with p.record_run(s.id):
            pass
    except Exception as e:
        show(type(e).__name__, e)
    try:
        async with p.record_run("zz"):
            pass
    except Exception as e:
        show(type(e).__name__, e)
    f = FullStatePersistence()
    await f.snapshot_node(St(), F2S(1.0))
    try:
        async with f.record_run("zz"):
            pass
    except Exception as e:
        show(type(e).__name__, e)


async def check_persist_unset(show):
    f = FullStatePersistence()
    try:
        f.dump_json()
    except Exception as e:
        show(type(e).__name__, e)
    show(f.should_set_types())
    f.set_types(St, int)
    show(f.should_set_types())
    try:
        f.load_json(b"[]")
        show(f.history)
    except Exception as e:
        show(type(e).__name__, e)


def check_mermaid_edge(show):
    @dataclass
    class N(BaseNode[None, None, None]):
        """Docs here

        more
        """

        docstring_notes = True

        async def run(self, ctx) -> Annotated[N, Edge(label="again")] | End[None]:
            return End(None)

    gg = Graph(nodes=[N])
    show(gg.mermaid_code())
    show(gg.mermaid_code(edge_labels=False, notes=False))
