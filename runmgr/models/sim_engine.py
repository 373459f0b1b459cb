"""The simulated engine: for each request, what it will answer, when, and whether it fails.

Pure: no clock, no trio, no I/O. The in-process model and the HTTP server both act its plans out.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from runmgr.models.sim_config import Fault, SimConfig
from runmgr.models.sim_script import Script

__all__ = ("Engine", "Offer", "Plan", "PlannedCall")

_PROSE = (
    "the run keeps its place while many others wait and each one answers in turn with a few plain words about what "
    "was asked so that a reader can see how long a reply is without reading any of it to the end because every word "
    "here counts as a token and nothing more than that is meant by them"
)
_WORDS = _PROSE.split()
_TEXT = " ".join(_WORDS * 64)
_ENDS = [match.end() for match in re.finditer(r"\S+", _TEXT)]
_SPREAD = 2.0**-32


class PlannedCall(msgspec.Struct, frozen=True, gc=False):
    """A tool call to make: its name and JSON arguments."""

    id: str
    name: str
    arguments: str


class Offer(msgspec.Struct, frozen=True, gc=False):
    """What a request lets the model do, as far as the simulation looks at it.

    Args:
        question: the text of the last user message: what answers are looked up by.
        digest_of: bytes that stand for the whole request: equal requests get equal plans.
        input_tokens: words of the whole request.
        answered: tool results that follow the last user message.
        tools: function tools as (name, JSON schema of the arguments).
        output_tool: the tool that ends the run, where text may not; answered instead of text.
        max_tokens: the request's limit on the answer.
    """

    question: str
    digest_of: bytes
    input_tokens: int
    answered: int = 0
    tools: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    output_tool: tuple[str, Mapping[str, Any]] | None = None
    max_tokens: int | None = None


class Plan(msgspec.Struct, frozen=True, gc=False):
    """What will happen to one request.

    Args:
        fault: the fault it meets, or None.
        ttft: seconds to the first token.
        gaps: seconds before each further token; empty when they are all ``gap``.
        more: further calls of the same turn.
        gap: seconds before each further token, where ``gaps`` is empty.
        text: the answer, or None when it is a call.
        call: the call, or None when it is text.
        input_tokens: tokens of the request.
        output_tokens: tokens of the answer.
        cut: whether ``max_tokens`` cut the answer.
    """

    fault: Fault | None
    ttft: float
    gap: float
    text: str | None
    call: PlannedCall | None
    input_tokens: int
    output_tokens: int
    cut: bool = False
    gaps: tuple[float, ...] = ()
    more: tuple[PlannedCall, ...] = ()

    @property
    def calls(self) -> tuple[PlannedCall, ...]:
        """All calls."""
        return () if self.call is None else (self.call, *self.more)

    @property
    def seconds(self) -> float:
        """From the request to the last token."""
        return self.ttft + (sum(self.gaps) if self.gaps else self.gap * max(0, self.output_tokens - 1))


class Engine:
    """Makes plans. One engine a simulated model or server; not shared between threads.

    Args:
        config: what it does.
        answers: known questions and their answers; a question is found where it stands in the user message.
        scripts: what to say turn by turn; the first that fits counts, before answers.
    """

    def __init__(
        self,
        config: SimConfig | None = None,
        answers: Mapping[str, str] | None = None,
        scripts: Sequence[Script] = (),
    ) -> None:
        self.config = config or SimConfig()
        self.answers = dict(answers or {})
        self.scripts = tuple(scripts)
        self.requests = 0
        self.faults = 0
        self._seed = self.config.seed.to_bytes(8, "little", signed=True)
        self._random = random.Random(self.config.seed)
        self._found: dict[str, str | None] = {}

    def plan(self, offer: Offer) -> Plan:
        """Decide one request. O(length of the answer); the same request gets the same answer and times, always."""
        config = self.config
        self.requests += 1
        digest = hashlib.blake2b(offer.digest_of, key=self._seed, digest_size=16).digest()
        u0, u1, u2, u3 = (int.from_bytes(digest[i : i + 4], "little") * _SPREAD for i in (0, 4, 8, 12))
        fault: Fault | None = None
        if config.fail and self._random.random() < config.fail:
            self.faults += 1
            fault = self._random.choice(config.faults)
        more: tuple[PlannedCall, ...] = ()
        scripted = self._scripted(offer, digest) if self.scripts else None
        call = self._call(offer, digest) if scripted is None else None
        if scripted is not None:
            text, calls = scripted
            call, more = (calls[0], calls[1:]) if calls else (None, ())
            wanted = len(text.split()) if text is not None else sum(map(_call_tokens, calls))
            output_tokens = max(1, min(wanted, offer.max_tokens or wanted) if text is not None else wanted)
            cut = output_tokens < wanted
            if text is not None and cut:
                text = " ".join(text.split()[:output_tokens])
        elif call is not None:
            text, cut, output_tokens = None, False, _call_tokens(call)
        else:
            text, output_tokens, cut = self._text(offer, u1, u3)
        ttft = config.ttft.draw(u0)
        if config.itl.shape == "constant":
            return Plan(
                fault, ttft, config.itl.a, text, call, offer.input_tokens, output_tokens, cut, (), more
            )
        draws = random.Random(int.from_bytes(digest, "little"))
        gaps = tuple(config.itl.draw(draws.random()) for _ in range(output_tokens - 1))
        return Plan(
            fault, ttft, config.itl.draw(u2), text, call, offer.input_tokens, output_tokens, cut, gaps, more
        )

    def _scripted(self, offer: Offer, digest: bytes) -> tuple[str | None, tuple[PlannedCall, ...]] | None:
        """The turn that a script has here: its text, or its calls."""
        script = next(
            (one for one in self.scripts if one.prompt is None or one.prompt in offer.question), None
        )
        if script is None:
            return None
        turn = script.turn(offer.answered)
        calls = tuple(
            PlannedCall(f"call_{digest[:6].hex()}{number or ''}", call.name, call.text)
            for number, call in enumerate(turn.calls)
        )
        return turn.text, calls

    def _call(self, offer: Offer, digest: bytes) -> PlannedCall | None:
        if offer.tools and offer.answered < self.config.calls:
            name, schema = offer.tools[offer.answered % len(offer.tools)]
        elif offer.output_tool is not None:
            name, schema = offer.output_tool
        else:
            return None
        arguments = json.dumps(example(schema, schema.get("$defs", {}), digest[0]))
        return PlannedCall(f"call_{digest[:6].hex()}", name, arguments)

    def _text(self, offer: Offer, u_length: float, u_wrong: float) -> tuple[str, int, bool]:
        known = self._answer(offer.question) if self.answers else None
        if known is not None:
            words = _wrong(known).split() if u_wrong < self.config.wrong else known.split()
            limit = offer.max_tokens or len(words)
            return " ".join(words[:limit]), max(1, min(limit, len(words))), limit < len(words)
        wanted = max(1, round(self.config.tokens.draw(u_length)))
        length = min(wanted, offer.max_tokens or wanted)
        if length <= len(_ENDS):
            return _TEXT[: _ENDS[length - 1]], length, length < wanted
        return " ".join(_WORDS[i % len(_WORDS)] for i in range(length)), length, length < wanted

    def _answer(self, question: str) -> str | None:
        answer = self.answers.get(question.strip())
        if answer is not None:
            return answer
        if question not in self._found:
            if (
                len(self._found) > 10_000
            ):  # templated questions repeat within a batch; no more is kept than that
                self._found.clear()
            self._found[question] = next((known for known in self.answers if known in question), None)
        found = self._found[question]
        return None if found is None else self.answers[found]


def _call_tokens(call: PlannedCall) -> int:
    return len(call.arguments.split()) + 1


def _wrong(answer: str) -> str:
    """A wrong form of an answer: every number one more, else its words turned round."""
    changed = re.sub(r"\d+", lambda match: str(int(match[0]) + 1), answer)
    return changed if changed != answer else " ".join(reversed(answer.split())) + " not"


def example(schema: Mapping[str, Any], defs: Mapping[str, Any], pick: int, depth: int = 0) -> Any:
    """The smallest value that a JSON schema allows, varied a little by ``pick``; optional properties are left out."""
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return (
            example(defs.get(reference.rsplit("/", 1)[-1], {}), defs, pick, depth + 1) if depth < 32 else None
        )
    if "const" in schema:
        return schema["const"]
    if choices := schema.get("enum"):
        return choices[pick % len(choices)]
    for union in ("anyOf", "oneOf", "allOf"):
        options: Sequence[Mapping[str, Any]] | None = schema.get(union)
        if options:
            return example(options[0], defs, pick, depth + 1)
    kind: Any = schema.get("type")
    if isinstance(kind, list):
        kind = cast("list[str]", kind)[0]
    match str(kind):
        case "object":
            properties = schema.get("properties", {})
            return {
                key: example(properties.get(key, {}), defs, pick, depth + 1)
                for key in schema.get("required", ())
            }
        case "array":
            prefix = [example(item, defs, pick, depth + 1) for item in schema.get("prefixItems", ())]
            missing = schema.get("minItems", 0) - len(prefix)
            return prefix + [
                example(schema.get("items", {}), defs, pick + i, depth + 1) for i in range(missing)
            ]
        case "integer" | "number":
            return _number(schema, pick)
        case "boolean":
            return bool(pick % 2)
        case "null":
            return None
        case _:
            return "word".ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength", 1_000)]


def _number(schema: Mapping[str, Any], pick: int) -> float:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    value: float = pick % 10
    if low is not None:
        value = max(value, low)
    if above is not None:
        value = max(value, above + 1)
    if high is not None:
        value = min(value, high)
    if below is not None:
        value = min(value, below - 1)
    return value
