"""The scenarios of Pydantic AI 1.46 and of runmgr come to the same; where they must not, it says why."""

import re
from itertools import zip_longest

WORDING = "the message begins with Pydantic AI's words and goes on with the way out"
PARTIAL = "a stream left early keeps the text and the usage that had come (issue 3)"
TITLE = "pydantic's name for a wrapped output, in the text of a cause"
MISTAKE = "1.46 fails here, for no reason that its documentation gives"

DIFFER = {
    "graphs.next_bad": WORDING,
    "graphs.persist_unset": MISTAKE,
    "graphs.simple": WORDING,
    "models.setup_errors": MISTAKE,
    "models.tooloutput_max_retries": "validators see the output tool's own number of retries, not the agent's",
    "models.validator_text_retry": "validators of text know which retry it is; in 1.46 it is always 0 of 0",
    "outputs.content_filter": "the order of keys in JSON: kinds come first",
    "outputs.structured_dict": "the order of keys in a schema: the user's",
    "outputs.text_output_ctx_retry": "output functions of text know which retry it is; in 1.46 it is always 0 of 0",
    "outputs.unknown_model": WORDING,
    "outputs.unknown_model2": WORDING,
    "streamed_outputs.builtin_stream": "deprecated events have a repr",
    "streamed_outputs.merge_runids": "requests of one run that are merged keep its id",
    "streamed_outputs.stream_output_tool_return_content": MISTAKE,
    "streamed_outputs.testmodel_custom": TITLE,
    "streamed_outputs.testmodel_schema": "TestModel makes what the schema asks for in more cases (tuples, bytes, patterns)",
    "streamed_outputs.validator_retry_stream": "asked a second time, a stream raises the validator's own ModelRetry",
    "streams.stream_early_break": PARTIAL,
    "streams.stream_nothing_read": PARTIAL,
    "streams.stream_output_and_other": "tool calls at the end of a stream are counted",
    "streams.stream_plain_err": TITLE,
    "streams.stream_usage_limit": "token limits hold while a text comes, not only at its end",
    "streams.tool_returns": "1.46 writes a private field of binary content within tool results",
    "streams.user_content": "a repr without defaults, for CachePoint too",
    "tools.dynamic": "a toolset function that is to be asked once per run is, also when it returned None",
    "tools.iter_manual": MISTAKE,
    "tools.system_prompt_dupes": "a history that is given is not changed; 1.46 writes new dynamic prompts into it",
    "tools.tool_callable_class": MISTAKE,
    "tools.tool_partial": MISTAKE,
    "tools.toolset_docs": "a toolset's timeout is the tools' own",
    "values.usage_ops": "adding usages changes neither; 1.46 changes the details of the first",
}


def words(lines):
    return re.split(r"(?<=[,\n])\s", "\n".join(lines))


def test_comes_to_the_same(scenario, both):
    theirs, ours = both
    assert theirs, "a scenario that shows nothing compares nothing"
    if scenario in DIFFER:
        assert ours != theirs, f"{scenario} does not differ any more: take it out of DIFFER"
        return
    different = [pair for pair in zip_longest(words(theirs), words(ours)) if pair[0] != pair[1]]
    assert not different, different[:5]
    assert ours == theirs
