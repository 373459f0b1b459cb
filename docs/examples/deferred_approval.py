"""A tool whose calls a person approves first: the run ends, and another one goes on with the answers."""

import trio

from runmgr import Agent, DeferredToolRequests, DeferredToolResults, ToolDenied

agent = Agent("openai:gpt-4o-mini", output_type=[str, DeferredToolRequests])


@agent.tool_plain(requires_approval=True)
def delete_file(path: str) -> str:
    """Delete a file."""
    return f"{path} is gone"


@agent.tool_plain
def list_files() -> list[str]:
    """Files there are."""
    return ["notes.txt", "secrets.txt"]


def ask(path: str) -> bool | ToolDenied:
    """What a person would be asked."""
    print(f"May {path!r} be deleted?")
    return True if path == "notes.txt" else ToolDenied("Not that one.")


async def main() -> None:
    result = await agent.run("Delete all files.")
    while isinstance(result.output, DeferredToolRequests):
        answers = DeferredToolResults()
        for call in result.output.approvals:
            answers.approvals[call.tool_call_id] = ask(call.args_as_dict()["path"])
        result = await agent.run(message_history=result.all_messages(), deferred_tool_results=answers)
    print(result.output)


trio.run(main)
