"""A matrix: every model with every combination of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import attrs

from runmgr.batch.settings import typed_settings
from runmgr.exceptions import UserError

__all__ = ("Variant", "combinations", "names_of")

MOST_VARIANTS = 256


@attrs.frozen(kw_only=True)
class Variant:
    """One combination of a matrix.

    Args:
        label: what tells it from the others, e.g. ``openai:a temperature=0.7``; empty where there is only one.
        options: what each of its runs gives to the agent: model, settings, instructions.
        model: the model that is asked.
        identity: what makes its runs the same runs: those of a batch with this combination alone.
    """

    label: str
    options: dict[str, Any]
    model: Any
    identity: dict[str, Any]


def combinations(settings: Mapping[str, Any], model: Any) -> list[dict[str, Any]]:
    """Typed settings, one a combination: ``temperature=0,0.7`` is two values where ``0,0.7`` is none.

    Args:
        settings: as they were written; a list or tuple where the setting takes none is several values.
        model: what takes them.

    Raises:
        UserError: an unknown key or a value of another type.
    """
    axes: list[list[tuple[str, Any]]] = []
    for key, value in settings.items():
        try:
            axes.append([(key, typed_settings({key: value}, model)[key])])
        except UserError:
            several: list[Any] = []
            if isinstance(value, str) and "," in value:
                several = value.split(",")
            elif isinstance(value, (list, tuple)):
                several = list(value)  # pyright: ignore[reportUnknownArgumentType]
            if len(several) < 2:
                raise
            values = [typed_settings({key: each}, model)[key] for each in several]
            axes.append([(key, each) for number, each in enumerate(values) if each not in values[:number]])
    return [dict(pairs) for pairs in product(*axes)]


def names_of(models: Sequence[Any], settings: Sequence[Sequence[dict[str, Any]]]) -> list[list[str]]:
    """A label for each combination of each model: only what differs.

    Raises:
        UserError: there are more than `MOST_VARIANTS`, or a model is given twice.
    """
    varies = {
        key
        for several in settings
        for each in several
        for key in each
        if any(other.get(key) != each[key] for other in several)
    }
    labels: list[list[str]] = []
    for model, several in zip(models, settings, strict=True):
        name = (
            "" if model is None else model if isinstance(model, str) else f"{model.system}:{model.model_name}"
        )
        labels.append(
            [
                " ".join(
                    [
                        *([name] if len(models) > 1 and name else []),
                        *(f"{k}={each[k]}" for k in each if k in varies),
                    ]
                )
                for each in several
            ]
        )
    flat = [label for several in labels for label in several]
    if len(flat) > MOST_VARIANTS:
        raise UserError(
            f"the matrix has {len(flat)} combinations of models and settings; {MOST_VARIANTS} is the most"
        )
    if len(set(flat)) < len(flat):
        raise UserError("--model: the same model is given twice")
    return labels
