"""The schemas that functions get are those of Pydantic AI 1.46, side by side."""
# ruff: noqa: UP007, UP045, B006, B008 (the spellings are what is tested)

import dataclasses
import enum
from typing import Annotated, Any, Literal, NotRequired, Optional

import pydantic_ai
import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

import runmgr.tools
from runmgr.exceptions import UserError


class Point(BaseModel):
    """A point."""

    x: int = Field(description="across", title="EX")
    label: str = "a"


class Bare(BaseModel):
    x: int


class Empty(BaseModel):
    pass


class Tree(BaseModel):
    value: int
    kids: "list[Tree]" = []


@dataclasses.dataclass
class Size:
    """A size."""

    width: int
    unit: str = "cm"


class Options(TypedDict):
    """Some options."""

    key: int
    zoom: NotRequired[float]


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


def functions(RunContext: Any) -> list[Any]:
    """Functions of many signatures; those that take a context take the given library's."""

    def nothing(): ...
    def scalars(x: int, y: str = "a", *, z: float | None = None):
        "One.\n\nMore text."

    def one_model(m: Point):
        "takes m"

    def one_model_undocumented(m: Point): ...
    def one_bare(m: Bare): ...
    def one_empty(m: Empty): ...
    def model_and_more(m: Point, n: int): ...
    def defaulted_model(m: Point = Point(x=1)): ...
    def keyword_model(*, m: Point): ...
    def positional_model(m: Point, /): ...
    def models_by_position(*m: Point): ...
    def models_by_name(**m: Point): ...
    def one_dataclass(d: Size): ...
    def one_typed_dict(t: Options): ...
    def dataclass_and_more(d: Size, n: int): ...
    def one_tree(t: Tree): ...
    def two_trees(t: Tree, u: Tree): ...
    def typed_args(*args: int): ...
    def untyped_args(*args): ...
    def typed_kwargs(**kwargs: int): ...
    def untyped_kwargs(**kwargs): ...
    def kwargs_beside(a: int, b: bool = True, **kwargs: Any): ...
    def untyped(a, b=3): ...
    def annotated(
        a: Annotated[int, Field(description="A desc", ge=3)],
        b: Annotated[str, "x"] = "k",
        c: int = Field(default=4, description="cdesc", title="T"),
    ): ...
    def default_in_annotation(x: Annotated[int, Field(default=7)]): ...
    def two_defaults(x: Annotated[int, Field(default=7)] = 8): ...
    def factory(x: list[int] = Field(default_factory=list)): ...
    def dataclass_field(x: int = dataclasses.field(default=3)): ...
    def described_only(x: int = Field(description="only")): ...
    def none_default(x: int = None): ...
    def positional_only(x: int, /, y: int): ...
    def mapping(x: dict[str, int]): ...
    def models(x: list[Point]): ...
    def literal(x: Literal["a", "b"], y: Optional[Point] = None): ...
    def union(m: Point | Size): ...
    def anything(m: Any): ...
    def quoted(m: "Point", n: "list[Size]"): ...
    def odd_names(_x: int, model_config: int, __y: int): ...
    def alias(x: Annotated[int, Field(alias="ex")]): ...
    def enums(
        e: Colour,
        f: Colour = Colour.RED,
        g: tuple[int, str] = (1, "a"),
        h: bytes = b"x",
        i: set[int] = set(),
    ): ...
    async def coroutine(x: int) -> str:
        "async"

    def context(ctx: RunContext[int], x: int):
        "with a context"

    def context_alone(ctx: RunContext): ...
    def context_and_model(ctx: RunContext[Any], m: Point): ...

    def google(x: int, y: str):
        """Foo bar.

        Longer thing here.

        Args:
            x: The x value.
            y: The y value, that
                goes on.

        Returns:
            A thing.
        """

    def google_typed(x: int):
        """Foo

        Args:
            x (int): typed x

        Returns:
            dict[str, int]: the map,
            and more.

        Raises:
            ValueError: if bad.

        Example:
            >>> 1
        """

    def google_args_only(x: int):
        """
        Args:
            x: only x
        """

    def google_admonitions(x: int):
        """Foo.

        Note: hi there
            and indented

        Args:
            x: ex
              - list

        Yields:
            int: zz
        """

    def google_model(m: Annotated[Point, Field(description="kk")]):
        """Foo.

        Args:
            m: the m param.
        """

    def google_ref(a: int, m: Point):
        """S

        Args:
            a: A a
            m: the m
        """

    def google_stars(*args: int, **kwargs: str):
        """S

        Args:
            args: the args
            kwargs: the kwargs
        """

    def google_default(x: int = 3):
        """S

        Args:
            x: the x
        """

    def google_own_description(x: Annotated[int, Field(description="of the annotation")]):
        """S

        Args:
            x: of the docstring
        """

    def google_named_return(x: int):
        """Foo.

        Returns:
            foo: named thing
        """

    def google_several_returns(x: int) -> tuple[int, str]:
        """Foo.

        Returns:
            int: a
            str: b
        """

    def google_middle(x: int):
        """Look at http://foo: bar

        Args:
            x: ex

        Text at the end.
        """

    def numpy(x: int, y: str) -> str:
        """Foo bar.

        Longer thing here.

        Parameters
        ----------
        x : int, optional
            The x value
            and more.

        y : str
            The y value.

        Returns
        -------
        str
            A thing.
        """

    def numpy_untyped(x: int) -> int:
        """Foo.

        Parameters
        ----------
        x
            ex

        Returns
        -------
        int
            aa
        name : str
            bb

        Notes
        -----
        foo
        """

    def sphinx(x: int, y: str) -> str:
        """Foo bar.

        :param x: The x.
        :param str y: The y.
        :return: A thing.
        """

    def sphinx_return_type(x):
        """:param x: ze x
        :returns: foo
        :rtype: int"""

    def blank(x: int):
        """ """

    def indented(x: int):
        """
            Indented.

              more

        Args:
            x: hi
        """

    return [value for value in locals().values() if callable(value) and value is not RunContext]


OURS = functions(runmgr.tools.RunContext)
THEIRS = functions(pydantic_ai.RunContext)


@pytest.mark.parametrize(
    ("ours", "theirs"), list(zip(OURS, THEIRS, strict=True)), ids=[f.__name__ for f in OURS]
)
def test_signature(ours, theirs):
    tool = runmgr.tools.Tool(ours)
    expected = pydantic_ai.Tool(theirs)
    assert tool.tool_def.parameters_json_schema == expected.tool_def.parameters_json_schema
    assert tool.description == expected.description
    assert tool.name == expected.name
    assert tool.takes_ctx == expected.takes_ctx
    assert tool.function_schema.is_async == expected.function_schema.is_async


@pytest.mark.parametrize("docstring_format", ["google", "numpy", "sphinx"])
@pytest.mark.parametrize(
    "name", ["google", "google_typed", "numpy", "numpy_untyped", "sphinx", "sphinx_return_type"]
)
def test_docstring_format_is_obeyed(name, docstring_format):
    ours = next(f for f in OURS if f.__name__ == name)
    theirs = next(f for f in THEIRS if f.__name__ == name)
    tool = runmgr.tools.Tool(ours, docstring_format=docstring_format)
    expected = pydantic_ai.Tool(theirs, docstring_format=docstring_format)
    assert tool.description == expected.description
    assert tool.tool_def.parameters_json_schema == expected.tool_def.parameters_json_schema


def misplaced(RunContext: Any) -> list[tuple[Any, bool | None]]:
    def second(x: int, ctx: RunContext[int]): ...
    def twice(ctx: RunContext, y: RunContext): ...
    def plain(x: int): ...
    def first(ctx: RunContext, x: int): ...

    return [(second, None), (twice, None), (twice, False), (plain, True), (first, False)]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    list(zip(misplaced(runmgr.tools.RunContext), misplaced(pydantic_ai.RunContext), strict=True)),
)
def test_misplaced_context(ours, theirs):
    with pytest.raises(UserError) as error:
        runmgr.tools.Tool(ours[0], takes_ctx=ours[1])
    with pytest.raises(pydantic_ai.UserError) as expected:
        pydantic_ai.Tool(theirs[0], takes_ctx=theirs[1])
    assert str(error.value) == str(expected.value)


INPUTS = [
    "{}",
    '{"x": 1}',
    '{"x": "1"}',
    '{"x": "q", "extra": 1}',
    "[]",
    "{",
    '{"x": 1, "y": null}',
    '{"x": 1, "n": {}}',
]


@pytest.mark.parametrize("data", INPUTS)
@pytest.mark.parametrize(
    "name", ["scalars", "one_model", "typed_kwargs", "alias", "untyped", "annotated", "google_ref"]
)
def test_validation_errors(name, data):
    ours = runmgr.tools.Tool(next(f for f in OURS if f.__name__ == name)).function_schema.validator
    theirs = pydantic_ai.Tool(next(f for f in THEIRS if f.__name__ == name)).function_schema.validator

    def result(validator):
        try:
            return validator.validate_json(data)
        except ValueError as error:
            return error.errors(include_url=False)

    assert result(ours) == result(theirs)
