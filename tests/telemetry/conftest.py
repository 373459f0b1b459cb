"""A meter provider that keeps what it is told: OpenTelemetry's API without its SDK."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider


def key(attributes):
    return tuple(sorted((attributes or {}).items()))


class Instrument:
    def __init__(self, kind, callbacks=()):
        self.kind = kind
        self.callbacks = callbacks
        self.values = defaultdict(list)

    def add(self, amount, attributes=None, context=None):
        assert amount > 0
        self.values[key(attributes)].append(amount)

    def record(self, amount, attributes=None, context=None):
        assert amount >= 0
        self.values[key(attributes)].append(amount)


class Recording(MeterProvider, Meter):
    def __init__(self):
        Meter.__init__(self, "x")
        self.made = {}

    def get_meter(self, name, version=None, schema_url=None, attributes=None):
        return self

    def make(self, kind, name, callbacks=()):
        assert name not in self.made
        self.made[name] = Instrument(kind, callbacks)
        return self.made[name]

    def create_counter(self, name, unit="", description=""):
        assert unit
        assert description
        return self.make("counter", name)

    def create_histogram(self, name, unit="", description="", *, explicit_bucket_boundaries_advisory=None):
        assert list(explicit_bucket_boundaries_advisory) == sorted(explicit_bucket_boundaries_advisory)
        return self.make("histogram", name)

    def create_observable_counter(self, name, callbacks=None, unit="", description=""):
        return self.make("observable counter", name, callbacks)

    def create_observable_up_down_counter(self, name, callbacks=None, unit="", description=""):
        return self.make("observable", name, callbacks)

    create_up_down_counter = create_observable_gauge = None

    # -- what the tests ask

    def total(self, name, **labels):
        """The sum of what was recorded, or is observed now, with these labels (dots as ``__``)."""
        wanted = {name.replace("__", "."): value for name, value in labels.items()}.items()
        return sum(
            sum(values) for attributes, values in self.series(name).items() if wanted <= set(attributes)
        )

    def count(self, name):
        return sum(len(values) for values in self.series(name).values())

    def series(self, name):
        instrument = self.made[name]
        if not instrument.callbacks:
            return instrument.values
        values = {}
        for callback in instrument.callbacks:
            for observation in callback(CallbackOptions()):
                assert key(observation.attributes) not in values
                values[key(observation.attributes)] = [observation.value]
        return values

    def label_values(self, name, label):
        return Counter(dict(attributes)[label] for attributes in self.series(name))


@pytest.fixture
def provider():
    return Recording()
