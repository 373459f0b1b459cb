"""`Model`: what an agent asks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from runmgr.messages import ModelMessage, ModelResponse, request_instructions
from runmgr.models.prepare import Prepared, prepare_parameters
from runmgr.models.stream import StreamedResponse
from runmgr.profiles import DEFAULT_PROFILE, ModelProfile, ModelProfileSpec
from runmgr.records.definitions import ModelRequestParameters
from runmgr.settings import ModelSettings, merge_model_settings
from runmgr.usage import RequestUsage

if TYPE_CHECKING:
    from runmgr.builtin_tools import AbstractBuiltinTool
    from runmgr.tools import RunContext

__all__ = ("Halves", "Model", "ModelRequestParameters", "StreamedResponse", "get_instructions")

Halves: TypeAlias = tuple[
    Callable[[list[ModelMessage], ModelSettings | None, ModelRequestParameters], Awaitable[Any]],
    Callable[[list[ModelMessage], Any], ModelResponse],
]
"""See `Model.in_halves`."""


class Model(ABC):
    """A model that can be asked.

    A subclass implements `request` (or, where it resends failed requests itself, `request_once` and a `request`
    around it), `request_stream` if it can stream, `model_name` and `system`. It calls `prepare_request` first in each.

    Args:
        settings: defaults for every request; what the agent and the run give goes on top.
        profile: what the model can do, or a function from its name to that.
    """

    _profile: ModelProfileSpec | None = None
    _settings: ModelSettings | None = None

    def __init__(
        self, *, settings: ModelSettings | None = None, profile: ModelProfileSpec | None = None
    ) -> None:
        self._settings = settings
        self._profile = profile

    @property
    def settings(self) -> ModelSettings | None:
        """Defaults for every request."""
        return self._settings

    @abstractmethod
    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Ask, and wait for the whole answer.

        Cancelling leaves nothing behind in the process; the provider may still have answered and charged.

        Args:
            messages: the conversation, ending in a request. It may be the run's own list, which goes on growing when the run
                does: copy what you keep.
            model_settings: on top of the model's own.
            model_request_parameters: tools and output; must not be changed after they were first used.

        Raises:
            ModelHTTPError: the provider answered with an error.
            ModelAPIError: the provider could not be reached, was too slow or answered nonsense.
            UserError: the model cannot do what is asked for.
        """
        raise NotImplementedError

    def request_once(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> Coroutine[Any, Any, ModelResponse]:
        """Like `request`, but one try: nothing is resent.

        For callers with a resend policy of their own: a supervisor holds no permit and no connection while it backs
        off. Models that never resend have only one form.
        """
        return self.request(messages, model_settings, model_request_parameters)

    def in_halves(self) -> Halves | None:
        """`request_once` as two plain functions, for whoever awaits what is between them in a coroutine of its own; None where a model
        has no such form, as most.

        The first takes the arguments of `request_once` and gives what is to be awaited, the second takes the messages and what that gave
        and gives the response. Asked for once, and the same as `request_once` in all that they do.
        """
        return None

    async def count_tokens(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> RequestUsage:
        """The tokens that a request would use, asked of the provider.

        Raises:
            NotImplementedError: the provider has no such service.
        """
        raise NotImplementedError(
            f"Token counting ahead of the request is not supported by {type(self).__name__}"
        )

    def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AbstractAsyncContextManager[StreamedResponse]:
        """Ask, and read the answer while it comes: an async context manager whose end closes the connection.

        A subclass writes it as an async generator under ``contextlib.asynccontextmanager``.

        Args:
            messages: as for `request`.
            model_settings: as for `request`.
            model_request_parameters: as for `request`.
            run_context: the run that asks, for models that look at it.

        Raises:
            NotImplementedError: the model cannot stream.
        """
        del messages, model_settings, model_request_parameters, run_context
        raise NotImplementedError(f"Streamed requests not supported by this {type(self).__name__}")

    def request_stream_once(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AbstractAsyncContextManager[StreamedResponse]:
        """Like `request_stream`, but one try to open the stream: see `request_once`."""
        return self.request_stream(messages, model_settings, model_request_parameters, run_context)

    # -------------------------------------------------------------- life time

    async def aclose(self) -> None:  # noqa: B027 (most models have nothing to close)
        """Close what the model opened (its provider's connections); it can be used again after that.

        Idempotent. In-process models have nothing to close.
        """

    async def __aenter__(self) -> Self:
        """A block that closes the model at its end."""
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    # ------------------------------------------------------------ preparation

    @cached_property
    def _prepared(self) -> Prepared:
        return Prepared()

    def prepare_request(
        self, model_settings: ModelSettings | None, model_request_parameters: ModelRequestParameters
    ) -> tuple[ModelSettings | None, ModelRequestParameters]:
        """What a request is made from: settings merged, parameters made to fit the model.

        The outcome for a parameters object is kept, so that a run with constant tools pays for it once.

        Args:
            model_settings: on top of the model's own.
            model_request_parameters: tools and output; must not be changed after they were first used.

        Raises:
            UserError: the model cannot do what is asked for.
        """
        own = self.settings
        if own is not None:
            model_settings = merge_model_settings(own, model_settings)
        profile = self.profile
        known = self._prepared.entries.get(id(model_request_parameters))
        if known is not None and known[1] is profile:
            return model_settings, known[2]
        customized = self.customize_request_parameters(model_request_parameters)
        prepared = prepare_parameters(customized, profile)
        self._prepared.put(model_request_parameters, profile, prepared)
        return model_settings, prepared

    def customize_request_parameters(
        self, model_request_parameters: ModelRequestParameters
    ) -> ModelRequestParameters:
        """Parameters with schemas as this model wants them: by default, what the profile's transformer makes of them.

        Returns new parameters where something changes; called once for each parameters object.
        """
        from runmgr.models.prepare import transform_schemas

        return transform_schemas(model_request_parameters, self.profile.json_schema_transformer)

    # ------------------------------------------------------------------ about

    @property
    @abstractmethod
    def model_name(self) -> str:
        """The model's name as the provider knows it."""
        raise NotImplementedError

    @property
    @abstractmethod
    def system(self) -> str:
        """The provider, as OpenTelemetry's ``gen_ai.provider.name`` has it."""
        raise NotImplementedError

    @property
    def model_id(self) -> str:
        """``system:model_name``."""
        return f"{self.system}:{self.model_name}"

    @property
    def label(self) -> str:
        """The model's name for people: ``gpt-4o-mini`` is ``GPT 4o Mini``."""
        from runmgr.models.label import label

        return label(self.model_name)

    @property
    def base_url(self) -> str | None:
        """Where requests go, if anywhere."""
        return None

    @classmethod
    def supported_builtin_tools(cls) -> frozenset[type[AbstractBuiltinTool]]:
        """The built-in tools that this class knows how to ask for."""
        return frozenset()

    @cached_property
    def profile(self) -> ModelProfile:
        """What the model can do; its built-in tools are those that this class can ask for as well."""
        from dataclasses import replace

        spec = self._profile
        profile = spec(self.model_name) if callable(spec) else spec
        if profile is None:
            profile = DEFAULT_PROFILE
        usable = profile.supported_builtin_tools & self.supported_builtin_tools()
        if usable != profile.supported_builtin_tools:
            profile = replace(profile, supported_builtin_tools=usable)
        return profile

    @staticmethod
    def _get_instructions(
        messages: Sequence[ModelMessage], model_request_parameters: ModelRequestParameters | None = None
    ) -> str | None:
        return get_instructions(messages, model_request_parameters)


def get_instructions(
    messages: Sequence[ModelMessage], model_request_parameters: ModelRequestParameters | None = None
) -> str | None:
    """The instructions that hold for a request: the conversation's, with those for prompted output.

    Args:
        messages: the conversation; see `runmgr.messages.request_instructions`.
        model_request_parameters: may add the instructions of prompted output.
    """
    instructions = request_instructions(messages)
    if model_request_parameters is not None:
        prompted = model_request_parameters.prompted_output_instructions
        if prompted:
            return f"{instructions}\n\n{prompted}" if instructions else prompted
    return instructions
