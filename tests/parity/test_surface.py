"""Every public name of Pydantic AI 1.46's core is here, with its members and what its functions take, or it says why not."""

import importlib
import inspect
import re
import typing
from dataclasses import MISSING
from functools import cache

import pytest
from pydantic_core import PydanticUndefined
from typing_extensions import is_typeddict

MODULES = [
    "pydantic_ai",
    "pydantic_ai.agent",
    "pydantic_ai.agent.abstract",
    "pydantic_ai.agent.wrapper",
    "pydantic_ai.builtin_tools",
    "pydantic_ai.direct",
    "pydantic_ai.exceptions",
    "pydantic_ai.format_prompt",
    "pydantic_ai.messages",
    "pydantic_ai.models",
    "pydantic_ai.models.fallback",
    "pydantic_ai.models.function",
    "pydantic_ai.models.instrumented",
    "pydantic_ai.models.test",
    "pydantic_ai.models.wrapper",
    "pydantic_ai.output",
    "pydantic_ai.profiles",
    "pydantic_ai.profiles.openai",
    "pydantic_ai.result",
    "pydantic_ai.run",
    "pydantic_ai.settings",
    "pydantic_ai.tools",
    "pydantic_ai.toolsets",
    "pydantic_ai.toolsets.abstract",
    "pydantic_ai.toolsets.approval_required",
    "pydantic_ai.toolsets.combined",
    "pydantic_ai.toolsets.external",
    "pydantic_ai.toolsets.filtered",
    "pydantic_ai.toolsets.function",
    "pydantic_ai.toolsets.prefixed",
    "pydantic_ai.toolsets.prepared",
    "pydantic_ai.toolsets.renamed",
    "pydantic_ai.toolsets.wrapper",
    "pydantic_ai.usage",
    "pydantic_graph",
    "pydantic_graph.exceptions",
    "pydantic_graph.graph",
    "pydantic_graph.mermaid",
    "pydantic_graph.nodes",
    "pydantic_graph.persistence",
    "pydantic_graph.persistence.file",
    "pydantic_graph.persistence.in_mem",
]

# Patterns of ``name | difference``, and why it is so.
ON_PURPOSE = {
    r"pydantic_ai\.Embed\w+ \| missing": "not the core: embeddings",
    r"pydantic_ai\.(\w+\.)*\w*Agent\.to_\w+ \| missing": "not the core: other programs' protocols, a terminal, a web page",
    r"pydantic_ai\.Agent\.(run_mcp_servers|set_mcp_sampling_model) \| missing": "deprecated, or of MCP's package",
    r".* \| no (part_|event_|part_delta_)?kind": "the kind is the class's, and no argument",
    r"pydantic_ai\.CachePoint \| positions": "the kind is the class's, and no argument",
    r".*\.otel_events? \| missing": "events as logs, the older half of instrumentation; spans hold the messages here",
    r"pydantic_ai\.InstrumentationSettings.* (event_mode|logger_provider|missing)$": "events as logs, or for the models within",
    r"pydantic_ai\.InstrumentationSettings.*include_content=false": "content is recorded only where it is asked for (issue 3)",
    r"pydantic_ai\.InstrumentationSettings.*version=3": "the newest shape of spans",
    r"pydantic_ai\.models\.instrumented\.InstrumentedModel\.\w+ \| missing": "helpers of its own spans",
    r".*approval_required_func=": "asks for every call by default, as there",
    r".*\.approval_required_func \| ": "the default, called by position",
    r"pydantic_ai\.models\.(DownloadedItem|download_item|cached_async_http_client|get_user_agent) \| missing": "of httpx and asyncio",
    r"pydantic_ai\.models\.OpenAI\w+CompatibleProvider \| missing": "names of providers that are not here",
    r"pydantic_ai\.models\.infer_model \| provider_factory=none": "the same factory by default",
    r"pydantic_ai\.result\.StreamedRunResultSync \| ": "made by run_stream_sync, not by users",
    r"pydantic_ai\.toolsets\.abstract\.SchemaValidatorProt \| missing": "a protocol for typing the inside",
    r"pydantic_graph\..*(mermaid_image|mermaid_save|MermaidConfig|request_image|save_image) \| missing": "a network service",
    r"pydantic_graph\.exceptions\.Graph(Building|Validation)Error \| missing": "of the beta builder of graphs",
    r"pydantic_graph\.persistence\.build_snapshot_list_type_adapter \| missing": "snapshots have a codec of their own",
}


def public(module):
    """Names that a module lists, or else defines itself."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and not isinstance(value, typing.TypeVar)
        and getattr(value, "__module__", "") == module.__name__
    )


def translated(name):
    return name.replace("pydantic_graph", "runmgr.graph").replace("pydantic_ai", "runmgr")


def members(cls):
    """Public attributes of a class and its bases, as far as the library defines them."""
    return sorted(
        {
            name
            for base in cls.__mro__
            if base.__module__.startswith(("pydantic_ai", "pydantic_graph"))
            for name in (*vars(base), *getattr(base, "__annotations__", ()))
            if not name.startswith("_")
        }
    )


def has_member(cls, name):
    return hasattr(cls, name) or any(
        name in getattr(base, "__annotations__", ())
        or name in getattr(base, "__slots__", ())
        or re.search(rf"self\.{name}\b\s*[:=]", _source(base))
        for base in cls.__mro__
    )


def _source(cls):
    try:
        return inspect.getsource(cls.__init__) if "__init__" in vars(cls) else ""
    except (OSError, TypeError):
        return ""


def shown(default):
    if default is inspect.Parameter.empty:
        return "required"
    if default is MISSING or default is PydanticUndefined or "factory" in repr(default).lower():
        return "made"
    if default in ((), []) or default == {}:
        return "empty"
    return re.sub(r" at 0x\w+|(\w+\.)+(?=[A-Z_])", "", repr(default)).lower()


@cache
def option_types():
    """TypedDicts that stand for keyword arguments, by name."""
    modules = ("runmgr.agent.options", "runmgr.tools.types")
    return {
        name: value
        for module in modules
        for name, value in vars(importlib.import_module(module)).items()
        if is_typeddict(value)
    }


def parameters(function):
    """Parameters by name: how they are passed, and their defaults; keywords of a TypedDict count as parameters."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    found = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            unpacked = re.match(r"Unpack\[(\w+)", str(parameter.annotation))
            options = unpacked and option_types().get(unpacked[1])
            if options is not None:
                found |= {
                    key: ("keyword", "?") for key in options.__required_keys__ | options.__optional_keys__
                }
                continue
        how = {
            parameter.KEYWORD_ONLY: "keyword",
            parameter.VAR_KEYWORD: "any",
            parameter.VAR_POSITIONAL: "any",
        }.get(parameter.kind, "position")
        found[name] = how, shown(parameter.default)
    return found


def mismatches(theirs, ours):
    """What a call that fits theirs could not be with ours."""
    theirs, ours = parameters(theirs), parameters(ours)
    if theirs is None or ours is None or any(name.startswith("_") for name in theirs):
        return []
    problems = []
    if any(how == "any" for how, _ in theirs.values()) and len(theirs) <= 2:
        return []  # a decorator around it hides what it takes
    positions = [name for name, (how, _) in theirs.items() if how == "position" and name != "cls"]
    here = [name for name, (how, _) in ours.items() if how == "position" and name != "cls"]
    if here[: len(positions)] != positions:
        problems.append(f"positions {positions}, not {here}")
    for name, (how, default) in theirs.items():
        if how == "any" or name == "cls":
            continue
        if name not in ours:
            if any(kind == "any" for kind, _ in ours.values()):
                continue
            problems.append(f"no {name}")
        elif (
            ours[name][1] not in {default, "?"}
            and default != "required"
            and "unset" not in default + ours[name][1]
        ):
            problems.append(f"{name}={ours[name][1]}, not {default}")
    problems += [
        f"{name} is required"
        for name, (how, default) in ours.items()
        if name not in theirs and how != "any" and default == "required" and name != "cls"
    ]
    return problems


def function_of(cls, name):
    found = inspect.getattr_static(cls, name, None)
    return found.__func__ if isinstance(found, (staticmethod, classmethod)) else found


def differences():
    """Each difference as a name and what is different."""
    seen = set()
    for module_name in MODULES:
        theirs = importlib.import_module(module_name)
        try:
            ours = importlib.import_module(translated(module_name))
        except ImportError:
            yield module_name, "missing"
            continue
        for name in public(theirs):
            where = f"{module_name}.{name}"
            there = getattr(theirs, name)
            if not hasattr(ours, name):
                yield where, "missing"
                continue
            here = getattr(ours, name)
            if id(there) in seen:
                continue
            seen.add(id(there))
            if inspect.isfunction(there):
                for problem in mismatches(there, here):
                    yield where, problem
            if not inspect.isclass(there):
                continue
            for problem in mismatches(there, here):
                yield where, problem
            for member in members(there):
                if not has_member(here, member):
                    yield f"{where}.{member}", "missing"
                    continue
                mine, other = function_of(there, member), function_of(here, member)
                if inspect.isfunction(mine) and inspect.isfunction(other):
                    for problem in mismatches(mine, other):
                        yield f"{where}.{member}", problem
                    if inspect.iscoroutinefunction(mine) is not inspect.iscoroutinefunction(other):
                        yield f"{where}.{member}", "is async in one of them"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_public_name_is_here():
    found = [f"{where} | {what}" for where, what in differences()]
    unexplained = [each for each in found if not any(re.match(pattern, each) for pattern in ON_PURPOSE)]
    assert not unexplained
    idle = [pattern for pattern in ON_PURPOSE if not any(re.match(pattern, each) for each in found)]
    assert not idle, "these do not differ any more"
