"""From a row to a case: the prompt to send and the target to score against."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, cast

import attrs

from runmgr.batch.extract import extract
from runmgr.batch.inputs.lines import kind_of
from runmgr.batch.scorers import BuiltInScorer, Scorer
from runmgr.exceptions import InputError, UserError

__all__ = ("Case", "CaseReader", "compile_template", "compile_where")

_USUAL_FIELDS = ("prompt", "input", "question")


@attrs.frozen
class Case:
    """One line of a batch.

    Args:
        prompt: what is sent: a text, or messages as ``[{"role", "content"}]``.
        target: the row's target as it stands; None where the batch has none.
        index: the row's place in the input, from 0.
        images: paths and URLs of images that follow the prompt.
        folder: where images may lie, besides here.
        shots: messages that come first, the same for all cases.
    """

    prompt: Any
    target: Any = None
    index: int = 0
    images: tuple[str, ...] = ()
    folder: Path | None = None
    shots: tuple[dict[str, Any], ...] = ()

    @property
    def input(self) -> Any:
        """What the results show as the input: the prompt, or messages where there are several or images."""
        if not self.images:
            return self.prompt
        parts = [{"type": "image", "image": where} for where in self.images]
        if isinstance(self.prompt, str):
            return [{"role": "user", "content": [{"type": "text", "text": self.prompt}, *parts]}]
        *before, last = self.prompt
        content = last["content"]
        texts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        return [*before, {"role": "user", "content": [*texts, *parts]}]

    @property
    def content(self) -> str:
        """What it is known by, as a text."""
        found = self.input
        return found if isinstance(found, str) else json.dumps(found, sort_keys=True, ensure_ascii=False)

    def sent(self) -> tuple[Any, list[Any] | None]:
        """The prompt and the history that an agent is given. Reads images from the disk.

        Raises:
            UserError: an image is gone.
        """
        found = self.input
        if isinstance(found, str) and not self.shots:
            return found, None
        from runmgr.batch.chat import chat_messages

        messages: list[dict[str, Any]] = (
            [{"role": "user", "content": found}] if isinstance(found, str) else found
        )
        # a system message of the case's stays in front of the examples
        leading = [m for m in messages[:1] if m["role"] == "system"]
        return chat_messages([*leading, *self.shots, *messages[len(leading) :]], self.folder)


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


def compile_where(text: str) -> Callable[[dict[str, Any]], bool]:
    """A function from a row's fields to whether a Jinja expression holds, in Jinja's sandbox; an undefined name is an error.

    Raises:
        UserError: it is no expression.
    """
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False)
    try:
        expression = environment.compile_expression(text, undefined_to_none=False)
    except jinja2.TemplateSyntaxError as error:
        raise UserError(
            f"--where {text!r} is no expression: {error.message}; write it as in --where 'topic == \"history\" and level > 2'"
        ) from error

    def holds(fields: dict[str, Any]) -> bool:
        try:
            return bool(expression(fields))
        except jinja2.UndefinedError as error:
            raise UserError(
                f"--where needs what the row lacks: {error.message}; it has {_names(fields)} "
                "(a condition that begins with 'NAME is defined and' leaves such rows out)"
            ) from error
        except Exception as error:
            raise UserError(f"--where fails on this row: {type(error).__name__}: {error}") from error

    return holds


class CaseReader:
    """Makes cases of rows, and says what is wrong with a row before anything is sent.

    Args:
        source: whose rows they are, for messages.
        prompt_field: the field that is the prompt; None takes the first of prompt, input, question that the first row has.
        template: what makes the prompt instead: a text, or messages.
        image_field: the field that names images.
        where: whether a row is a case.
        folder: where images may lie, besides here.
        shots: messages that come first in every case.
        target_field: the field that is the target.
        target_extract: the pattern that takes the answer out of the target.
        scorers: those that will score; each may check targets.
    """

    def __init__(
        self,
        source: _Source,
        *,
        prompt_field: str | None = None,
        template: Callable[[dict[str, Any]], Any] | None = None,
        image_field: str | None = None,
        where: Callable[[dict[str, Any]], bool] | None = None,
        folder: Path | None = None,
        shots: tuple[dict[str, Any], ...] = (),
        target_field: str | None = None,
        target_extract: re.Pattern[str] | None = None,
        scorers: tuple[Scorer, ...] = (),
    ) -> None:
        self._source = source
        self._field = prompt_field
        self._template = template
        self._image_field = image_field
        self._where = where
        self._folder = folder
        self._shots = shots
        self._target_field = target_field
        self._target_extract = target_extract
        self._checks = [s.check for s in scorers if isinstance(s, BuiltInScorer) and s.check]
        self._scored = any(isinstance(s, BuiltInScorer) for s in scorers)

    def wanted(self, row: int, fields: dict[str, Any]) -> bool:
        """Whether ``where`` takes the row.

        Raises:
            InputError: it cannot be told; names the line.
        """
        if self._where is None:
            return True
        try:
            return self._where(fields)
        except UserError as error:
            raise self._source.error(error.message, row) from error

    def read(self, row: int, fields: dict[str, Any], index: int = 0) -> Case:
        """The row's case.

        Raises:
            InputError: a field is missing, empty or of a type that cannot be sent or scored; names the line.
        """
        prompt = self._prompt(row, fields)
        images = () if self._image_field is None else self._images(row, fields, self._image_field)
        if self._target_field is None:
            return Case(prompt, None, index, images, self._folder, self._shots)
        target = self._value(row, fields, self._target_field, "--target-field")
        if self._scored:
            self._check_target(row, target)
        return Case(prompt, target, index, images, self._folder, self._shots)

    def _images(self, row: int, fields: dict[str, Any], name: str) -> tuple[str, ...]:
        from runmgr.batch.chat import check_images

        several = _several(self._value(row, fields, name, "--image-field"))
        parts = [{"type": "image", "image": where} for where in several]
        try:
            check_images([{"content": parts}], self._folder)
        except UserError as error:
            hint = ""
            if any(isinstance(each, str) and re.search(r"\w[,;|\s]+\S", each) for each in several):
                hint = """; several are a list, in a table's cell as JSON: ["a.png", "b.png"]"""
            raise self._source.error(f"{name!r}: {error.message}{hint}", row) from error
        return tuple(several)

    def _chat(self, row: int, messages: Any) -> Any:
        from runmgr.batch.chat import check_chat, check_images

        try:
            check_chat(messages)
            check_images(messages, self._folder)
        except UserError as error:
            raise self._source.error(error.message, row) from error
        return messages

    def _prompt(self, row: int, fields: dict[str, Any]) -> Any:
        if self._template is not None:
            try:
                prompt = self._template(fields)
            except UserError as error:
                raise self._source.error(error.message, row) from error
            if not isinstance(prompt, str):
                return self._chat(row, prompt)
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
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return self._chat(row, value)  # pyright: ignore[reportUnknownArgumentType]
        if not isinstance(value, (str, int, float)):
            value = cast("Any", value)
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
        return [json.dumps(target, sort_keys=True, ensure_ascii=False)]
    return [target if isinstance(target, str) else str(target)]


def _several(value: Any) -> list[Any]:
    """What a field names: a list's elements; a table's cell may be empty, or hold a list as JSON."""
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            with suppress(ValueError):
                value = json.loads(text)
        elif not text:
            return []
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownArgumentType]


def _names(fields: dict[str, Any]) -> str:
    names = [repr(name) for name in fields]
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") if names else "no fields"
