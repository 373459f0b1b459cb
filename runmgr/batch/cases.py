"""From a row to a case: the prompt to send and the target to score against."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

import attrs

from runmgr.batch.extract import extract
from runmgr.batch.inputs.lines import kind_of
from runmgr.batch.scorers import BuiltInScorer, Scorer
from runmgr.exceptions import InputError, UserError

__all__ = ("Case", "CaseReader", "compile_template")

_USUAL_FIELDS = ("prompt", "input", "question")


@attrs.frozen
class Case:
    """One line of a batch.

    Args:
        prompt: what is sent.
        target: the row's target as it stands; None where the batch has none.
    """

    prompt: str
    target: Any = None


class _Source(Protocol):
    def error(self, message: str, row: int | None = None) -> InputError: ...


def compile_template(text: str) -> Callable[[dict[str, Any]], str]:
    """A function from a row's fields to the prompt, by Jinja2 in its sandbox; an undefined name is an error.

    Raises:
        UserError: the template is none.
    """
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False)
    try:
        template = environment.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        raise UserError(
            f"--prompt: the template is wrong at its line {error.lineno}: {error.message}"
        ) from error

    def render(fields: dict[str, Any]) -> str:
        try:
            return template.render(fields)
        except jinja2.UndefinedError as error:
            raise UserError(
                f"the template needs what the row lacks: {error.message}; it has {_names(fields)}"
            ) from error
        except Exception as error:
            raise UserError(f"the template fails on this row: {type(error).__name__}: {error}") from error

    return render


class CaseReader:
    """Makes cases of rows, and says what is wrong with a row before anything is sent.

    Args:
        source: whose rows they are, for messages.
        prompt_field: the field that is the prompt; None takes the first of prompt, input, question that the first row has.
        template: what makes the prompt instead.
        target_field: the field that is the target.
        target_extract: the pattern that takes the answer out of the target.
        scorers: those that will score; each may check targets.
    """

    def __init__(
        self,
        source: _Source,
        *,
        prompt_field: str | None = None,
        template: Callable[[dict[str, Any]], str] | None = None,
        target_field: str | None = None,
        target_extract: re.Pattern[str] | None = None,
        scorers: tuple[Scorer, ...] = (),
    ) -> None:
        self._source = source
        self._field = prompt_field
        self._template = template
        self._target_field = target_field
        self._target_extract = target_extract
        self._checks = [s.check for s in scorers if isinstance(s, BuiltInScorer) and s.check]
        self._scored = any(isinstance(s, BuiltInScorer) for s in scorers)

    def read(self, row: int, fields: dict[str, Any]) -> Case:
        """The row's case.

        Raises:
            InputError: a field is missing, empty or of a type that cannot be sent or scored; names the line.
        """
        prompt = self._prompt(row, fields)
        if self._target_field is None:
            return Case(prompt)
        target = self._value(row, fields, self._target_field, "--target-field")
        if self._scored:
            self._check_target(row, target)
        return Case(prompt, target)

    def _prompt(self, row: int, fields: dict[str, Any]) -> str:
        if self._template is not None:
            try:
                prompt = self._template(fields)
            except UserError as error:
                raise self._source.error(error.message, row) from error
            if not prompt.strip():
                raise self._source.error("the template gives an empty prompt for this row", row)
            return prompt
        if self._field is None:
            self._field = next((name for name in _USUAL_FIELDS if name in fields), None)
            if self._field is None:
                raise self._source.error(
                    f"which field is the prompt? The row has {_names(fields)}: say --prompt-field NAME, or --prompt TEMPLATE",
                    row,
                )
        value = self._value(row, fields, self._field, "--prompt-field")
        if not isinstance(value, (str, int, float)):
            raise self._source.error(
                f"field {self._field!r} is {kind_of(value)}, a text is needed; --prompt TEMPLATE can make one of it",
                row,
            )
        prompt = value if isinstance(value, str) else str(value)
        if not prompt.strip():
            raise self._source.error(f"field {self._field!r} is empty: there is nothing to send", row)
        return prompt

    def _value(self, row: int, fields: dict[str, Any], name: str, option: str) -> Any:
        try:
            return fields[name]
        except KeyError:
            raise self._source.error(
                f"no field {name!r} ({option}); the row has {_names(fields)}", row
            ) from None

    def _check_target(self, row: int, target: Any) -> None:
        texts = target_texts(target)
        if not texts:
            raise self._source.error(
                f"the target {self._target_field!r} is {kind_of(target)}: there is nothing to score against",
                row,
            )
        for text in texts:
            answer = text if self._target_extract is None else extract(self._target_extract, text)
            if answer is None:
                assert self._target_extract is not None
                shown = text if len(text) <= 60 else "..." + text[-60:]
                raise self._source.error(
                    f"--target-extract {self._target_extract.pattern!r} matches nowhere in the target {shown!r}",
                    row,
                )
            for check in self._checks:
                if problem := check(answer):
                    raise self._source.error(problem, row)


def target_texts(target: Any) -> list[str]:
    """A target as the texts that each count as right: itself, or the elements of a list."""
    if target is None:
        return []
    if isinstance(target, (list, tuple)):
        return [text for each in target for text in target_texts(each)]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(target, bool):
        return ["true" if target else "false"]
    if isinstance(target, dict):
        import json

        return [json.dumps(target, sort_keys=True, ensure_ascii=False)]
    return [target if isinstance(target, str) else str(target)]


def _names(fields: dict[str, Any]) -> str:
    names = [repr(name) for name in fields]
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") if names else "no fields"
