"""Files named by URL as bytes, for models whose providers do not fetch them."""

from __future__ import annotations

from runmgr.messages import BinaryContent, FileUrl
from runmgr.models.http import HttpError
from runmgr.models.http.download import download
from runmgr.models.http.failures import api_error

__all__ = ("fetch_file",)


async def fetch_file(item: FileUrl, model_name: str) -> BinaryContent:
    """Fetch a file.

    Its media type is the one that the item has or its URL's ending stands for, else the server's. Private and loopback addresses
    are refused unless the item's ``force_download`` is ``'allow-local'``.

    Raises:
        UserError: the URL is none, is local, cannot be fetched or is too large, or nothing tells what the file is.
        ModelAPIError: the transport failed; trying again may help.
    """
    allow_local = str(item.force_download) == "allow-local"
    try:
        data, told = await download(item.url, allow_local=allow_local)
    except HttpError as error:
        raise api_error(error, model_name) from error
    try:
        media_type = item.media_type
    except ValueError:
        if told is None:
            raise
        media_type = told
    return BinaryContent(data, media_type=media_type, vendor_metadata=item.vendor_metadata)
