"""The same batch by Inspect AI: mockllm, two scorers, its log written."""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time

from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import f1, includes

parser = argparse.ArgumentParser()
parser.add_argument("--runs", type=int, default=2_000)
args = parser.parse_args()


ANSWER = "the answer is one more than that, as far as anybody can tell"


def outputs():
    while True:
        output = ModelOutput.from_content("mockllm/model", ANSWER)
        output.usage = ModelUsage(input_tokens=8, output_tokens=12, total_tokens=20)  # else it counts them itself
        yield output


def task(runs: int) -> Task:
    samples = [
        Sample(id=i + 1, input=f"What is {i} + 1? Answer briefly.", target="the") for i in range(runs)
    ]
    return Task(dataset=MemoryDataset(samples), scorer=[includes(), f1()])


def run(runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = get_model("mockllm/model", custom_outputs=outputs())
        (log,) = eval(
            task(runs), model=model, log_dir=folder, display="none", max_connections=200, max_samples=200
        )
        assert log.status == "success", str(log.error)[:300]
        assert log.results is not None
        assert log.results.completed_samples == runs


run(20)  # imports and first-use costs
began, cpu = time.perf_counter(), time.process_time()
run(args.runs)
seconds, busy = time.perf_counter() - began, time.process_time() - cpu
print(
    json.dumps(
        {
            "runs": args.runs,
            "seconds": seconds,
            "runs_per_s": args.runs / seconds,
            "cpu_us": 1e6 * busy / args.runs,
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
    )
)
