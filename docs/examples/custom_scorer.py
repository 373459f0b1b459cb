"""A scorer of one's own, from the command line and from Python.

runmgr batch questions.jsonl --model openai:gpt-4o-mini --target-field target --scorer custom_scorer:close_enough
"""

import re

import trio

from runmgr.batch import run_batch


def close_enough(output: str, target: str) -> float | None:
    """1 for the target's number, less the further away; None where the target is no number: not scored."""
    if not target.isdigit():
        return None
    numbers = re.findall(r"-?\d+", output)
    if not numbers:
        return 0.0
    return 1 / (1 + abs(int(numbers[-1]) - int(target)))


async def main() -> None:
    result = await run_batch(
        input="questions.jsonl",
        model="openai:gpt-4o-mini",
        target_field="target",
        scorers=["includes", close_enough],
        limit=20,
    )
    for name, score in result.summary.scores.items():
        print(name, score.mean, "+-", score.stderr, "over", score.n)
    print(result.directory.path)


if __name__ == "__main__":
    trio.run(main)
