from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest

from runmgr.graph import BaseNode, Edge, End, Graph, GraphRunContext, Join


@dataclass
class Ask(BaseNode):
    """Ask the question.
    Until it is answered.
    """

    docstring_notes = True

    async def run(self, ctx: GraphRunContext) -> Annotated[Evaluate, Edge(label="answered")]: ...


@dataclass
class Evaluate(BaseNode[None, None, str]):
    answer: str = ""

    async def run(
        self, ctx: GraphRunContext
    ) -> Annotated[End[str], Edge(label="right")] | Annotated[Ask, Edge(label="wrong")]: ...


questions = Graph(nodes=[Ask, Evaluate])


def test_whole():
    code = questions.mermaid_code(start_node=Ask, highlighted_nodes=[Evaluate()], direction="LR")
    assert code.replace("    \n", "\n") == (
        """\
---
title: questions
---
stateDiagram-v2
  direction LR
  [*] --> Ask
  Ask --> Evaluate: answered
  note right of Ask
    Ask the question.
    Until it is answered.
  end note
  Evaluate --> Ask: wrong
  Evaluate --> [*]: right

classDef highlighted fill:#fdff32
class Evaluate highlighted"""
    )


def test_bare():
    code = questions.mermaid_code(title=False, edge_labels=False, notes=False)
    assert code == "stateDiagram-v2\n  Ask --> Evaluate\n  Evaluate --> Ask\n  Evaluate --> [*]"


def test_title_css_and_several_nodes_however_they_are_named():
    code = questions.mermaid_code(
        title="Q & A",
        start_node=["Ask", Evaluate],
        highlighted_nodes=[Ask, "Evaluate"],
        highlight_css="fill:red",
    )
    assert code.startswith("---\ntitle: Q & A\n---\n")
    assert "[*] --> Ask\n" in code
    assert "[*] --> Evaluate\n" in code
    assert code.endswith("classDef highlighted fill:red\nclass Ask highlighted\nclass Evaluate highlighted")


@pytest.mark.parametrize("argument", ["start_node", "highlighted_nodes"])
def test_unknown_nodes_are_named(argument):
    with pytest.raises(LookupError, match='"Nowhere" is not in the graph.\nIt has Ask, Evaluate'):
        questions.mermaid_code(**{argument: ["Ask", "Nowhere"]})


def test_any_node_may_follow_a_node_that_says_base_node():
    class Any(BaseNode):
        async def run(self, ctx: GraphRunContext) -> BaseNode: ...

    code = Graph(nodes=[Any, Ask, Evaluate]).mermaid_code(title=False)
    assert all(f"  Any --> {name}\n" in code for name in ("Any", "Ask", "Evaluate"))


def test_forks():
    class Collect(BaseNode):
        async def run(self, ctx: GraphRunContext) -> End[int]: ...

    class Work(BaseNode):
        async def run(self, ctx: GraphRunContext) -> End[int]: ...

    class Spread(BaseNode):
        async def run(
            self, ctx: GraphRunContext
        ) -> Annotated[list[Work], Edge(label="each"), Join(Collect)]: ...

    code = Graph(nodes=[Spread, Work, Collect]).mermaid_code(title=False)
    assert code.splitlines()[1:5] == [
        "  state Spread_fork <<fork>>",
        "  Spread --> Spread_fork",
        "  Spread_fork --> Work: each",
        "  Spread_fork --> Collect: join",
    ]
