"""A second face of the exchange: the same market, stamped by another clock, its order books cut into other windows."""

import json

import trio

from streamsvc.simulator.frames import frame

_TEXT_FRAME = 0x81


class SkewedEnd(trio.abc.HalfCloseableStream):
    """The exchange's end of a connection; what it sends is altered on the way.

    Event times are later by `skew_ms`, and of every three order-book updates of a stream two become one.
    """

    def __init__(self, end, skew_ms):
        self._end = end
        self._skew_ms = skew_ms
        self._is_begun = False
        self._held = {}
        self._counts = {}

    async def send_all(self, data):
        if not self._is_begun:
            self._is_begun = True
            await self._end.send_all(data)
            return
        await self._end.send_all(b"".join(self._altered(one) for one in _frames(bytes(data))))

    def _altered(self, raw):
        if raw[0] != _TEXT_FRAME:
            return raw
        message = json.loads(raw[raw.index(b"{") :])
        data, name = message.get("data", {}), message.get("stream", "")
        if "E" in data:
            data["E"] += self._skew_ms
        if data.get("e") == "depthUpdate":
            held = self._held.pop(name, None)
            self._counts[name] = self._counts.get(name, 0) + 1
            if held is None and self._counts[name] % 3 == 1:
                self._held[name] = data
                return b""
            if held is not None:
                _prepend(held, data)
        return frame(json.dumps(message, separators=(",", ":")).encode())

    async def wait_send_all_might_not_block(self):
        await self._end.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes=None):
        return await self._end.receive_some(max_bytes)

    async def send_eof(self):
        await self._end.send_eof()

    def reset(self, unread_bytes=None):
        self._end.reset(unread_bytes)

    async def aclose(self):
        await self._end.aclose()


def _prepend(earlier, later):
    """Make two updates one, as the exchange would have by sending more rarely."""
    later["U"] = earlier["U"]
    if "pu" in later:
        later["pu"] = earlier["pu"]
    for side in ("b", "a"):
        later[side] = [list(level) for level in (dict(earlier[side]) | dict(later[side])).items()]


def _frames(data):
    """Whole frames that a server sent."""
    at = 0
    while at < len(data):
        begin, size = at, data[at + 1]
        wide = {126: 2, 127: 8}.get(size, 0)
        at += 2 + wide
        if wide:
            size = int.from_bytes(data[at - wide : at])
        at += size
        yield data[begin:at]
