"""What a WebSocket client asks, in its URL and in its JSON. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from streamsvc.schema import Market
from streamsvc.simulator.wire import MICROSECOND, MILLISECOND

if TYPE_CHECKING:
    from streamsvc.simulator.streams import Route

_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")


@attrs.frozen
class Endpoint:
    """What a URL says.

    Attributes:
        target: The URL's path and query.
        route: The futures route; `none` on spot.
        is_combined: Whether messages come in an envelope.
        unit_us: The unit of time in payloads.
        names: Streams to begin with.
    """

    target: str
    route: Route
    is_combined: bool
    unit_us: int
    names: tuple[str, ...]


def parse_endpoint(market: Market, path: str, query: dict[str, str], target: str) -> Endpoint | None:
    """The meaning of a WebSocket URL; None if there is nothing at it.

    Args:
        market: Whose URLs.
        path: Percent-decoded.
        query: Percent-decoded.
        target: As sent.
    """
    route: Route = "none"
    if market is Market.FUTURES:
        for prefix in ("public", "market"):
            if path.startswith(f"/{prefix}/"):
                route, path = prefix, path.removeprefix(f"/{prefix}")
    unit_us = MILLISECOND
    if market is Market.SPOT and query.get("timeUnit", "").upper() == "MICROSECOND":
        unit_us = MICROSECOND
    if path in ("/stream", "/stream/"):
        names = tuple(name for name in query.get("streams", "").split("/") if name)
        return Endpoint(target, route, True, unit_us, names)
    if path == "/ws" or path.startswith("/ws/"):
        names = tuple(name for name in path.removeprefix("/ws").split("/") if name)
        return Endpoint(target, route, False, unit_us, names)
    return None


@attrs.frozen
class Control:
    """A client's wish.

    Attributes:
        method: One of the exchange's.
        params: Names of streams, or a property and its value.
        request_id: What the answer carries.
    """

    method: str
    params: tuple[Any, ...]
    request_id: int | str | None


class InvalidRequestError(Exception):
    """A wish that the exchange does not understand; `reply` is what it says."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.reply = msgspec.json.encode({"code": code, "msg": message})


def parse_control(text: bytes) -> Control:
    """A client's text message.

    Raises:
        InvalidRequestError: it is none that the exchange knows.
    """
    try:
        wish = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(3, f"Invalid JSON: {error}") from error
    if not isinstance(wish, dict):
        raise InvalidRequestError(2, "Invalid request: expected an object")
    method = wish.get("method")
    if method is None:
        raise InvalidRequestError(2, "Invalid request: missing field `method`")
    if method not in _METHODS:
        known = ", ".join(f"`{one}`" for one in _METHODS)
        raise InvalidRequestError(2, f"Invalid request: unknown variant `{method}`, expected one of {known}")
    request_id = wish.get("id")
    is_number = isinstance(request_id, int) and not isinstance(request_id, bool) and request_id >= 0
    if request_id is not None and not is_number and not isinstance(request_id, str):
        raise InvalidRequestError(2, "Invalid request: request ID must be an unsigned integer or a string")
    params = wish.get("params", [])
    if not isinstance(params, list):
        raise InvalidRequestError(2, "Invalid request: params must be an array")
    if method in ("SUBSCRIBE", "UNSUBSCRIBE") and not (params and all(isinstance(one, str) for one in params)):
        raise InvalidRequestError(2, "Invalid request: params must name streams")
    return Control(method, tuple(params), request_id)


def result_reply(result: Any, request_id: int | str | None) -> bytes:
    """The answer to a wish that was granted."""
    return msgspec.json.encode({"result": result, "id": request_id})
