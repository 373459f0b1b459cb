# ruff: noqa: B018, F704, PERF401, PLE1142
# %% [markdown]
# Runs in a notebook. Each block below is a cell; a notebook's own event loop is asyncio's.

# %%
import os

from runmgr import Agent
from runmgr.pool import RunPool

agent = Agent(os.environ.get("MODEL", "openai:gpt-4o-mini"), instructions="Answer in one word.")
pool = RunPool(
    agent, max_running=16
).as_asyncio()  # its thread starts with the first run, and stays for the next cells

# %% one run; interrupting the cell cancels it
result = await pool.run("What is the capital of France?")
result.output

# %% many, as they come
table = []
async for outcome in pool.outcomes(f"What is {n} + {n}?" for n in range(20)):
    table.append((outcome.input, outcome.output if outcome.succeeded else outcome.error.message))
len(table)

# %% what it cost so far
(await pool.usage()).total_tokens, (await pool.snapshot()).cost

# %% the end; without it, the kernel's end cancels what runs
await pool.aclose()
