"""A pool that Prometheus watches, and whose spans nest under the program's own.

    python app.py 9464        # then: curl localhost:9464/metrics

Needs opentelemetry-sdk and opentelemetry-exporter-prometheus. It answers the lines of its input, one tenant after the other.
The model is `openai:gpt-4o-mini`, or what the variable MODEL says.
"""

import os
import sys

from opentelemetry import metrics, trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from prometheus_client import start_http_server

from runmgr import Agent
from runmgr.pool import RunPool
from runmgr.telemetry import Metrics


def one_line(span) -> str:
    parent = None if span.parent is None else f"{span.parent.span_id:016x}"
    return f"span {span.name} id={span.context.span_id:016x} parent={parent}\n"


def main() -> None:
    metrics.set_meter_provider(MeterProvider(metric_readers=[PrometheusMetricReader()]))
    traces = TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(sys.stderr, formatter=one_line)))
    trace.set_tracer_provider(traces)
    start_http_server(int(sys.argv[1]), addr="127.0.0.1")
    tracer = trace.get_tracer("host")
    agent = Agent(os.environ.get("MODEL", "openai:gpt-4o-mini"), name="brief", instrument=True)
    with RunPool(agent, metrics=Metrics()) as pool:
        for number, line in enumerate(sys.stdin):
            with tracer.start_as_current_span("line"):
                future = pool.submit(line.strip(), group=f"tenant {number % 3}")
            print(future.result().output, flush=True)


if __name__ == "__main__":
    main()
