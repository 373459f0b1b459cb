"""From a model string and a base URL to a model."""

from __future__ import annotations

from typing import Any

from runmgr.exceptions import UserError

__all__ = ("has_price", "model_of")


def has_price(model: Any) -> bool:
    """Whether it is known what the model costs."""
    from runmgr.supervisor.pricing import Prices
    from runmgr.usage import RequestUsage

    usage = RequestUsage(input_tokens=1, output_tokens=1)
    return Prices().price(model.system, model.model_name, usage) is not None


def model_of(model: Any, base_url: str | None) -> Any:
    """The model.

    Args:
        model: a model string or a `Model`.
        base_url: where its provider is, instead of its usual address; None leaves that.

    Raises:
        UserError: the string is unknown, a key is missing, or the URL is none or of no use.
    """
    from runmgr.models import infer_model

    if base_url is None:
        return infer_model(model)
    if not isinstance(model, str):
        raise UserError("--base-url goes with --model: it says where that model's provider is")
    if not base_url.startswith(("http://", "https://")):
        raise UserError(f"--base-url {base_url}: a URL is needed, e.g. http://127.0.0.1:8000/v1")
    if model.partition(":")[0] in {"sim", "test"}:
        raise UserError(f"--base-url has no use with --model {model}: that model runs in this process")
    return infer_model(model, lambda name: _provider(name, base_url))


def _provider(name: str, base_url: str) -> Any:
    from runmgr.providers import infer_provider_class

    provider: Any = infer_provider_class(name)
    return provider(base_url=base_url)
