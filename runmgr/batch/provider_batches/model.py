"""A model whose requests go through its provider's batch API."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from runmgr.batch.provider_batches.lane import Lane
from runmgr.exceptions import UserError
from runmgr.messages import ModelMessage, ModelRequest, ModelResponse
from runmgr.models.allow import check_allow_model_requests
from runmgr.models.anthropic import AnthropicModel
from runmgr.models.http import Reply
from runmgr.models.openai import OpenAIChatModel
from runmgr.models.openai_responses import OpenAIResponsesModel
from runmgr.models.wrapper import WrapperModel
from runmgr.records.definitions import ModelRequestParameters
from runmgr.settings import ModelSettings

__all__ = ("ProviderBatchModel", "has_batch_api")

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def has_batch_api(model: Any) -> bool:
    """Whether the model's provider has a batch API that is known here."""
    if isinstance(model, AnthropicModel):
        return model.system == "anthropic"
    return isinstance(model, (OpenAIChatModel, OpenAIResponsesModel)) and model.system == "openai"


class ProviderBatchModel(WrapperModel):
    """Asks by way of a `Lane`: an answer may take hours, and costs half.

    To a supervisor it is a model without an address: nothing is known of its rates, and nothing is adapted.

    Args:
        wrapped: a model for which `has_batch_api` holds.

    Raises:
        UserError: the provider has no batch API.
    """

    price_share = Decimal("0.5")
    """Both providers charge half: see the pages named in `openai` and `anthropic`."""
    keeps_answers = True
    """An answer that nobody waits for any more is not lost: it is asked for again, under the same name."""

    def __init__(self, wrapped: Any) -> None:
        if not has_batch_api(wrapped):
            raise UserError(
                f"--via-batch-api: {wrapped.system}:{wrapped.model_name} has no batch API; models of openai:, openai-responses: and "
                "anthropic: have one"
            )
        super().__init__(wrapped)
        self.lane: Lane | None = None
        """Set while a batch runs."""

    @property
    def base_url(self) -> str | None:
        """None: see the class."""
        return None

    @property
    def endpoint(self) -> str:
        """The operation that a batch's requests are of."""
        if isinstance(self.wrapped, AnthropicModel):
            return "/v1/messages"
        return "/v1/responses" if isinstance(self.wrapped, OpenAIResponsesModel) else "/v1/chat/completions"

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Ask, and wait for the batch that it goes into; see `Lane.ask` for errors."""
        check_allow_model_requests()
        lane = self.lane
        last = messages[-1]
        if lane is None or not isinstance(last, ModelRequest) or last.run_id is None:
            raise UserError(
                "a model of a batch that goes by its provider's batch API is asked by the batch's runs only"
            )
        model: Any = self.wrapped
        settings, params = model.prepare_request(model_settings, model_request_parameters)
        call = await model._call(messages, settings, params, stream=False)
        headers: dict[str, str] = call.headers or {}
        if headers and lane.api.name == "openai":
            raise UserError(
                "--via-batch-api: OpenAI's batches take no headers of single requests (extra_headers)"
            )
        fields = _decode(call.body)
        fields.pop("stream", None)
        answer = await lane.ask(last.run_id, msgspec.json.encode(fields), headers)
        return model._response(Reply(200, [], answer))

    async def request_once(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """As ``request``: what failed is sent again in other batches, by the lane."""
        return await self.request(messages, model_settings, model_request_parameters)

    def request_stream(self, *args: Any, **options: Any) -> Any:
        """Never.

        Raises:
            UserError: always.
        """
        del args, options
        raise UserError(
            "--via-batch-api: answers come whole from a batch; an agent that streams needs a direct model"
        )

    def request_stream_once(self, *args: Any, **options: Any) -> Any:
        """As ``request_stream``."""
        return self.request_stream(*args, **options)
