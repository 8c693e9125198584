"""The budget of connection attempts belongs to the machine: shared by its instances, and a crash does not renew it."""

from __future__ import annotations

import time
from functools import partial

import pytest
import trio
from recorder_process import until

from streamsvc.streams.attempts import PER_MINUTE_MAX, shared_path

INSTANCES = 2
CRASHES = 10
"""Of each instance."""


@pytest.fixture
async def closed_door(nursery):
    """An exchange that hangs up on everybody: its URL, and when it did."""
    arrivals = []

    async def hang_up(stream):
        arrivals.append(time.monotonic())
        await stream.aclose()

    (listener,) = await nursery.start(partial(trio.serve_tcp, hang_up, 0, host="127.0.0.1"))
    url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
    yield url, arrivals
    shared_path(url).unlink(missing_ok=True)


async def crash_again_and_again(begin):
    for _ in range(CRASHES):
        recorder = begin()
        await until(lambda one=recorder: {"connection_failed", "attempts_delayed"} & {*one.names()}, "an attempt")
        await recorder.kill()


async def test_instances_that_crash_over_and_over(start, tmp_path, closed_door):
    """Twenty crashes of two instances make no more attempts than one that lives, and the next one waits as well."""
    url, arrivals = closed_door
    settings = {
        "BINANCE_SPOT_WS_URL": url,
        "BINANCE_SPOT_REST_URL": "http://127.0.0.1:9",
        "FUTURES_SYMBOLS": "",
        "RECONNECT_MIN_SEC": "0.01",
        "RECONNECT_MAX_SEC": "0.01",
    }

    def begin(number):
        return start(place=tmp_path / f"instance-{number}", **settings)

    async with trio.open_nursery() as nursery:
        for number in range(INSTANCES):
            nursery.start_soon(crash_again_and_again, lambda number=number: begin(number))
    living = [begin(number) for number in range(INSTANCES)]
    for recorder in living:
        await recorder.saw("attempts_delayed")
        await recorder.saw("ready")

    busiest = max(sum(begin <= arrival < begin + 60 for arrival in arrivals) for begin in arrivals)
    assert PER_MINUTE_MAX >= busiest
    for recorder in living:
        assert 0 == await recorder.stop()
