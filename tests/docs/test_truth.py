"""What the documentation says beyond its programs: options, layers, diagrams, links. It has to be so."""

import inspect
import re
import tomllib
from pathlib import Path

import pytest

import runmgr
from runmgr import exceptions, open_supervisor
from runmgr.agent.options import RunOptions
from runmgr.cli.batch import command as batch
from runmgr.cli.compare import command as compare
from runmgr.cli.models import command as models
from runmgr.cli.sim import command as sim
from runmgr.models.infer import infer_model, known_prefixes
from runmgr.models.sim_config import SimConfig
from runmgr.records.outcomes import RunOutcome
from runmgr.report.lines import ResultLine
from runmgr.report.summary import Summary
from runmgr.supervisor import RunHandle, Supervisor
from runmgr.supervisor.states import diagram

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)


def page(name):
    return (DOCS / name).read_text(encoding="utf-8")


def public(kind):
    ours = [base for base in kind.__mro__ if base.__module__.startswith("runmgr.")]
    return {name for base in ours for name in vars(base) if not name.startswith("_")}


def options(command):
    return {
        option.opts[0].removeprefix("--") for option in command.params if option.param_type_name == "option"
    }


def agent_arguments():
    parameters = inspect.signature(runmgr.Agent.__init__).parameters.values()
    return {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - {"self"}


MENTIONED = {
    "options of runmgr batch": ("guides/batch.md", options(batch)),
    "options of runmgr compare": ("guides/batch.md", options(compare)),
    "options of runmgr models": ("guides/models.md", options(models)),
    "options of runmgr sim": (
        "guides/simulated-models.md",
        {o.opts[0].removeprefix("--") for o in sim.params},
    ),
    "keys of sim:": ("guides/simulated-models.md", set(SimConfig.__struct_fields__)),
    "fields of results.jsonl": ("guides/batch.md", set(ResultLine.__struct_fields__) - {"variant"}),
    "fields of summary.json": ("guides/batch.md", set(Summary.__struct_fields__)),
    "arguments of open_supervisor": (
        "guides/supervisor.md",
        set(inspect.signature(open_supervisor).parameters),
    ),
    "methods of Supervisor": ("guides/supervisor.md", public(Supervisor) - {"journal"}),
    "methods of RunHandle": ("guides/supervisor.md", public(RunHandle)),
    "fields of RunOutcome": (
        "guides/supervisor.md",
        set(RunOutcome.__struct_fields__) - {"new_message_index"},
    ),
    "arguments of Agent": ("guides/agents.md", agent_arguments()),
    "options of a run": (
        "guides/agents.md",
        set(RunOptions.__annotations__) - {"infer_name"},
    ),
}


@pytest.mark.parametrize("what", MENTIONED)
def test_all_of_them_are_mentioned(what):
    name, names = MENTIONED[what]
    words = set(re.findall(r"\w[\w-]*", page(name)))
    assert names <= words, f"{name} lacks {sorted(names - words)}"


def test_models_are_those_there_are(monkeypatch):
    table = page("guides/agents.md").partition("## Models")[2].partition("\n##")[0]
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "any-word")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_API_VERSION", "2024-10-21")
    monkeypatch.setenv("OLLAMA_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("VERCEL_AI_GATEWAY_API_KEY", "any-word")
    monkeypatch.setenv("HEROKU_INFERENCE_KEY", "any-word")
    for prefix in known_prefixes():
        monkeypatch.setenv(f"{prefix.partition('-')[0].upper()}_API_KEY", "any-word")
        try:
            infer_model("test" if prefix == "test" else f"{prefix}:" if prefix == "sim" else f"{prefix}:x")
        except runmgr.UserError:
            assert f"`{prefix}:" not in table
        else:
            assert f"`{prefix}" in table


def test_layers():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = config["tool"]["importlinter"]["contracts"][0]["layers"]
    expected = [re.split(r" [:|] ", layer) for layer in layers]
    rows = re.findall(r"^\| (`.*?`) \|", page("design/architecture.md"), re.MULTILINE)
    assert [re.findall(r"`(\w+)`", row) for row in rows] == expected


def test_states():
    assert f"```mermaid\n{diagram()}```" in page("design/architecture.md")


def test_exceptions():
    tree = exceptions.__doc__.partition("::\n\n")[2]
    assert f"```text\n{inspect.cleandoc(tree)}\n```" in page("design/exceptions.md")


def anchors(text):
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        assert file.exists(), f"{path.name} links to {target}"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{path.name} links to {target}"


def test_every_page_can_be_reached_from_the_index():
    index = page("README.md")
    linked = set(re.findall(r"\]\(([^)\s#]+)", index))
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - {"README.md"}
    examples = {f"examples/{path.name}" for path in (DOCS / "examples").glob("*.py")}
    assert pages | examples <= linked
