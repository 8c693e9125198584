"""REST over memory streams: what `rest.RestClient` is for the service, without sockets and threads."""

import math
from urllib.parse import urlencode

import h11
import trio

from streamsvc.rest import RestUnavailableError, _error_of


async def asked(stream, path, parameters):
    """Send one GET and read the answer: status, headers and body."""
    peer = h11.Connection(h11.CLIENT)
    target = f"{path}?{urlencode(parameters)}" if parameters else path
    request = h11.Request(method="GET", target=target, headers=[("Host", "rest.test"), ("Connection", "close")])
    await stream.send_all(peer.send(request) + peer.send(h11.EndOfMessage()))
    status, headers, body = 0, {}, bytearray()
    while True:
        event = peer.next_event()
        if event is h11.NEED_DATA:
            peer.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Response):
            status, headers = (
                event.status_code,
                {name.decode().lower(): value.decode() for name, value in event.headers},
            )
        elif isinstance(event, h11.Data):
            body += event.data
        else:
            return status, headers, bytes(body)


class WireClient:
    """A client of one market's REST, by its protocol in `rest_governor.Client`."""

    def __init__(self, world, market):
        self.host = f"{market.label}.test"
        self.used_weight = None
        self.weight_read_at = -math.inf
        self._world = world
        self._market = market

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_exc):
        return None

    async def get(self, path, parameters, *, needs_key=False):
        assert self._world.has_wrong_key or not needs_key
        with trio.move_on_after(20) as scope:
            status, headers, body = await self._world.ask(self._market, path, parameters)
        if scope.cancelled_caught:
            raise RestUnavailableError("no answer within 20 s")
        if "x-mbx-used-weight-1m" in headers:
            self.used_weight, self.weight_read_at = int(headers["x-mbx-used-weight-1m"]), trio.current_time()
        if status == 200:
            return body
        raise _error_of(status, headers.get("retry-after", ""), body)
