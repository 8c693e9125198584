"""The governor under a clock that jumps, before an exchange that counts as the real one does; and the simulator's."""

from __future__ import annotations

import math
import time

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streamsvc.errors import DiskFullError
from streamsvc.rest import (
    RETRY_AFTER_SEC_MAX,
    RestClient,
    RestLimitedError,
    RestRefusedError,
    RestUnavailableError,
)
from streamsvc.rest_governor import (
    BAN_STORE_SEC,
    BUDGET_MIN,
    MINUTE_SEC,
    REQUEST_WEIGHT_MAX,
    WAITING_MAX,
    RestBusyError,
    RestGovernor,
    Urgency,
)
from streamsvc.schema import Market
from streamsvc.simulator.exchange import Exchange
from streamsvc.simulator.market import Activity
from streamsvc.simulator.options import default_options
from streamsvc.simulator.serve import serve
from streamsvc.simulator.sources import SyntheticSource
from streamsvc.venues import binance_rest
from streamsvc.venues.binance_rest import Request

URGENT, NORMAL, BACKFILL = Urgency
START_NS = 1_786_171_884_000_000_000
PER_MIN = 2000
BUDGET = 1000


def wall_ns() -> int:
    """A wall clock that keeps pace with Trio's."""
    return START_NS + round(trio.current_time() * 1e9)


@attrs.frozen
class Sent:
    at: float
    weight: int
    urgency: Urgency


class FakeExchange:
    """Counts by its own minutes, tells its count, answers after a while; `faults` are what it says next instead."""

    host = "api.example:443"

    def __init__(self, *, others_weight: int = 0, tells_weight: bool = True) -> None:
        self.used_weight: int | None = None
        self.weight_read_at = -math.inf
        self.sent: list[Sent] = []
        self.faults: list[Exception] = []
        self.others_weight = others_weight
        self.tells_weight = tells_weight
        self.in_flight = 0

    async def get(self, path, parameters, *, needs_key) -> bytes:  # noqa: ARG002 - it is what a client is given
        self.sent.append(Sent(trio.current_time(), parameters["weight"], Urgency(parameters["urgency"])))
        self.in_flight += 1
        assert self.in_flight <= 4
        try:
            await trio.sleep(parameters["sec"])
        finally:
            self.in_flight -= 1
        if self.tells_weight:
            minute = trio.current_time() // 60
            ours = sum(sent.weight for sent in self.sent if sent.at // 60 == minute)
            self.used_weight = self.others_weight + ours
            self.weight_read_at = trio.current_time()
        if self.faults:
            raise self.faults.pop(0)
        return path.encode()


class Bans:
    """What is kept across restarts."""

    def __init__(self) -> None:
        self.until_ns: dict[str, int] = {}
        self.saved: list[tuple[str, int, int, str]] = []
        self.fault: Exception | None = None
        self.hangs = False

    async def load(self) -> dict[str, int]:
        await trio.lowlevel.checkpoint()
        if self.fault:
            raise self.fault
        return self.until_ns

    async def save(self, host: str, until_ns: int, status: int, reason: str) -> None:
        await trio.lowlevel.checkpoint()
        if self.hangs:
            await trio.sleep_forever()
        if self.fault:
            raise self.fault
        self.until_ns[host] = until_ns
        self.saved.append((host, until_ns, status, reason))


def governor_of(client, bans=None, **changes) -> RestGovernor:
    bans = bans or Bans()
    seams = {"wall_ns": wall_ns, "load_bans": bans.load, "save_ban": bans.save}
    return RestGovernor(client, Market.SPOT, **({"weight_per_min": PER_MIN, "share": 0.5} | seams | changes))


def request_of(weight: int, urgency: Urgency, sec: float = 0.1) -> Request:
    return Request("/x", {"weight": weight, "urgency": int(urgency), "sec": sec}, weight)


def limited(*, retry_after_sec=None, until_ms=None, is_ban=False) -> RestLimitedError:
    return RestLimitedError(is_ban=is_ban, retry_after_sec=retry_after_sec, until_ms=until_ms)


def heaviest_minute(sent: list[Sent]) -> int:
    """The greatest weight sent within any minute, wherever it begins."""
    return max(
        (sum(other.weight for other in sent if one.at <= other.at < one.at + MINUTE_SEC) for one in sent), default=0
    )


async def ask_all(governor, wishes) -> list[Exception]:
    """Make requests side by side, each after its delay; gives what failed."""
    failures = []

    async def ask(delay_sec, request, urgency) -> None:
        await trio.sleep(delay_sec)
        try:
            await governor.get(request, urgency)
        except (RestLimitedError, RestUnavailableError, RestRefusedError) as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        for delay_sec, request, urgency in wishes:
            nursery.start_soon(ask, delay_sec, request, urgency)
    return failures


def jumping(function):
    return trio.run(function, clock=trio.testing.MockClock(autojump_threshold=0))


WISHES = st.lists(
    st.builds(
        lambda delay_sec, weight, urgency, sec: (delay_sec, request_of(weight, urgency, sec), urgency),
        st.floats(0, 200),
        st.integers(1, REQUEST_WEIGHT_MAX),
        st.sampled_from(Urgency),
        st.floats(0, 20),
    ),
    max_size=40,
)
FAULTS = st.lists(
    st.one_of(
        st.just(RestUnavailableError("gone")),
        st.builds(limited, retry_after_sec=st.none() | st.floats(0, 500), is_ban=st.booleans()),
    ),
    max_size=8,
)


@settings(max_examples=300, deadline=None)
@given(WISHES, st.integers(0, PER_MIN), st.booleans())
def test_any_requests(wishes, others_weight, tells_weight):
    """No minute, wherever it begins, holds more than our budget; all requests are sent in the end."""
    client = FakeExchange(others_weight=min(others_weight, PER_MIN // 2), tells_weight=tells_weight)

    async def main() -> None:
        assert [] == await ask_all(governor_of(client), wishes)

    jumping(main)
    assert len(wishes) == len(client.sent)
    assert heaviest_minute(client.sent) <= BUDGET


@settings(max_examples=300, deadline=None)
@given(WISHES, FAULTS)
def test_any_requests_before_an_exchange_that_asks_us_to_stay_away(wishes, faults):
    """From its answer until its time is over nothing is sent; then one at a time until one is answered."""
    client = FakeExchange()
    faults = [attrs_of(fault) for fault in faults]
    client.faults = list(faults)
    closed: list[tuple[float, float]] = []
    get = client.get

    async def noting_get(path, parameters, *, needs_key) -> bytes:
        try:
            return await get(path, parameters, needs_key=needs_key)
        except RestLimitedError as error:
            closed.append((trio.current_time(), trio.current_time() + (error.retry_after_sec or 1)))
            raise

    client.get = noting_get

    async def main() -> list[Exception]:
        return await ask_all(governor_of(client), wishes)

    assert len(jumping(main)) == min(len(wishes), len(faults))
    assert len(wishes) == len(client.sent)
    for since, until in closed:
        assert [] == [sent for sent in client.sent if since < sent.at < until]


def attrs_of(fault: Exception) -> Exception:
    """A new one: Hypothesis gives the same instance again, whose traceback would grow."""
    if isinstance(fault, RestLimitedError):
        return limited(retry_after_sec=fault.retry_after_sec, is_ban=fault.is_ban)
    return RestUnavailableError("gone")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, REQUEST_WEIGHT_MAX), st.sampled_from([NORMAL, BACKFILL]), st.floats(0.01, 20)),
        min_size=5,
        max_size=40,
    ),
    st.lists(st.tuples(st.floats(0, 300), st.integers(1, 50), st.floats(0.01, 20)), max_size=5),
)
def test_urgent_requests_in_the_middle_of_others(others, urgent):
    """Within its part what is urgent goes at once, unless another urgent one is in flight."""
    client = FakeExchange()
    late = []

    async def main() -> None:
        governor = governor_of(client)
        turn = trio.StrictFIFOLock()

        async def ask_urgently(delay_sec: float, weight: int, sec: float) -> None:
            await trio.sleep(delay_sec)
            async with turn:
                asked_at = trio.current_time()
                await governor.get(request_of(weight, URGENT, sec), URGENT)
                sent_at = next(one.at for one in client.sent if one.urgency is URGENT and one.at >= asked_at)
                if sent_at > asked_at:
                    late.append((asked_at, sent_at))

        async with trio.open_nursery() as nursery:
            for weight, urgency, sec in others:
                nursery.start_soon(governor.get, request_of(weight, urgency, sec), urgency)
            for wish in urgent:
                nursery.start_soon(ask_urgently, *wish)

    jumping(main)
    assert [] == late


@pytest.mark.parametrize("urgency", [NORMAL, BACKFILL])
async def test_a_flood_of_what_is_more_urgent(autojump_clock, urgency):
    """What is less urgent gets its part within two minutes, however much comes before it."""
    client = FakeExchange()
    governor = governor_of(client)

    async def flood() -> None:
        while True:
            await governor.get(request_of(REQUEST_WEIGHT_MAX, URGENT, 1), URGENT)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(flood)
        await trio.sleep(100)
        with trio.fail_after(2 * MINUTE_SEC + 20):
            await governor.get(request_of(REQUEST_WEIGHT_MAX, urgency), urgency)
        nursery.cancel_scope.cancel()
    assert heaviest_minute(client.sent) <= BUDGET


async def test_an_urgent_request_while_a_dear_one_waits_for_room(autojump_clock):
    """What is kept for the dear one is not taken from the part of what is urgent."""
    client = FakeExchange()
    wishes = [(0, request_of(100, BACKFILL), BACKFILL)] * 6
    wishes += [(10, request_of(250, NORMAL), NORMAL), (11, request_of(250, URGENT), URGENT)]
    await ask_all(governor_of(client), wishes)
    assert [(11, URGENT), (60, NORMAL)] == [(int(sent.at), sent.urgency) for sent in client.sent[6:]]


@pytest.mark.parametrize("_number", range(20))
def test_room_for_several_requests_at_one_moment(_number):
    """They go at that moment, the most urgent first, whichever task Trio wakes first."""
    client = FakeExchange()
    wishes = [(0, request_of(250, URGENT, 0), URGENT)] * 3
    wishes += [(2, request_of(250, BACKFILL), BACKFILL), (3, request_of(100, URGENT), URGENT)]
    wishes += [(4, request_of(101, URGENT), URGENT)]
    jumping(lambda: ask_all(governor_of(client), wishes))
    assert [(60, 100), (60, 101), (60, 250)] == [(sent.at, sent.weight) for sent in client.sent[3:]]


@pytest.mark.parametrize("_number", range(20))
def test_room_for_one_of_each_urgency_at_one_moment(_number):
    """Who let the more urgent one go first goes right after it, not once that is answered."""
    client = FakeExchange()
    wishes = [(0, request_of(250, URGENT, 0), URGENT)] * 3
    wishes += [(2, request_of(250, BACKFILL), BACKFILL), (3, request_of(100, URGENT), URGENT)]
    jumping(lambda: ask_all(governor_of(client), wishes))
    assert [(60, 100), (60, 250)] == [(sent.at, sent.weight) for sent in client.sent[3:]]


async def test_a_dear_request_that_is_cancelled_while_it_waits(autojump_clock):
    """What was kept for it is free at once."""
    client = FakeExchange()
    governor = governor_of(client)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(governor.get, request_of(100, BACKFILL, 0), BACKFILL)
        await trio.sleep(1)
        with trio.move_on_after(10):
            nursery.start_soon(ask_all, governor, [(1, request_of(130, URGENT), URGENT)] * 3)
            await governor.get(request_of(250, NORMAL), NORMAL)
    assert [2, 2, 11] == [int(sent.at) for sent in client.sent[5:]]


@pytest.mark.parametrize("_number", range(20))
def test_room_for_the_less_urgent_only(_number):
    """It goes then: the next of the more urgent ones, which needs more room, does not hold it up."""
    client = FakeExchange()
    wishes = [(delay_sec, request_of(250, URGENT, 0), URGENT) for delay_sec in (0, 1, 1)]
    wishes += [(2, request_of(60, URGENT), URGENT), (3, request_of(250, URGENT), URGENT)]
    wishes += [(4, request_of(200, BACKFILL), BACKFILL)]
    jumping(lambda: ask_all(governor_of(client), wishes))
    assert [(60, 60), (60, 200), (61, 250)] == [(sent.at, sent.weight) for sent in client.sent[3:]]


async def test_requests_of_one_urgency(autojump_clock):
    """They go in the order in which they came, a dear one is not passed by cheap ones."""
    client = FakeExchange()
    weights = [250, 250, 250, 1, 2, 250, 3]
    wishes = [(number / 100, request_of(weight, NORMAL), NORMAL) for number, weight in enumerate(weights)]
    await ask_all(governor_of(client), wishes)
    assert weights == [sent.weight for sent in client.sent]


async def test_other_programs_at_the_same_address(autojump_clock):
    """What they use is seen in the exchange's count: we wait before it refuses us, the less urgent sooner."""
    client = FakeExchange(others_weight=PER_MIN * 85 // 100)
    governor = governor_of(client)
    await governor.get(request_of(1, URGENT), URGENT)
    with trio.move_on_after(30):
        await governor.get(request_of(1, BACKFILL), BACKFILL)
    await governor.get(request_of(20, URGENT), URGENT)
    assert [URGENT, URGENT] == [sent.urgency for sent in client.sent]
    client.others_weight = 0
    await governor.get(request_of(1, BACKFILL), BACKFILL)
    assert 3 == len(client.sent)


async def test_own_weight_does_not_count_as_that_of_others(autojump_clock):
    """All but the others' parts can be used in every minute, with the exchange's count and ours side by side."""
    client = FakeExchange()
    governor = governor_of(client, share=1)
    for _ in range(40):
        await governor.get(request_of(100, URGENT), URGENT)
    assert trio.current_time() < 2 * (MINUTE_SEC + 4)
    assert PER_MIN * 0.8 == heaviest_minute(client.sent)


@pytest.mark.parametrize(
    ("fault", "expected_sec"),
    [
        ({"retry_after_sec": 30.0}, 30),
        ({"retry_after_sec": 0.0}, 1),
        ({}, 60),
        ({"is_ban": True}, 120),
        ({"is_ban": True, "retry_after_sec": 7200.0}, 7200),
        ({"is_ban": True, "until_ms": START_NS // 10**6 + 90_000}, 90),
        ({"is_ban": True, "until_ms": START_NS // 10**6 - 90_000}, 1),
        ({"is_ban": True, "until_ms": 9_999_999_999_999}, RETRY_AFTER_SEC_MAX),
    ],
)
async def test_how_long_we_stay_away(autojump_clock, fault, expected_sec):
    """As long as the exchange says, within what can be meant; where it says nothing, as long as is usual."""
    client = FakeExchange()
    client.faults = [limited(**fault)]
    governor = governor_of(client)
    with pytest.raises(RestLimitedError):
        await governor.get(request_of(1, URGENT, 0), URGENT)
    assert pytest.approx(expected_sec) == governor.closed_sec
    await governor.get(request_of(1, BACKFILL, 0), BACKFILL)
    assert pytest.approx(expected_sec) == client.sent[1].at - client.sent[0].at
    assert 0 == governor.closed_sec


async def test_an_exchange_that_refuses_again_and_again(autojump_clock):
    """The waits grow, within bounds, and the first answer ends that."""
    client = FakeExchange()
    governor = governor_of(client)
    waits = []
    for _ in range(20):
        client.faults = [limited(is_ban=True)]
        with pytest.raises(RestLimitedError):
            await governor.get(request_of(1, NORMAL), NORMAL)
        waits.append(governor.closed_sec)
    assert [120, 240, 480] == pytest.approx(waits[:3])
    assert pytest.approx(RETRY_AFTER_SEC_MAX) == waits[-1]
    await governor.get(request_of(1, NORMAL), NORMAL)
    client.faults = [limited(is_ban=True)]
    with pytest.raises(RestLimitedError):
        await governor.get(request_of(1, NORMAL), NORMAL)
    assert pytest.approx(waits[0]) == governor.closed_sec


async def test_answers_that_all_refuse_are_one_offence(autojump_clock):
    """What was in flight when the exchange closed does not make the wait grow."""
    client = FakeExchange()
    client.faults = [limited(), limited()]
    governor = governor_of(client)
    wishes = [(0, request_of(1, URGENT, 1 + number / 10), URGENT) for number in range(2)]
    assert 2 == len(await ask_all(governor, wishes))
    assert pytest.approx(60) == governor.closed_sec


async def test_after_the_wait_one_tries_alone(autojump_clock):
    """The others wait until it is answered, and only an answer counts."""
    client = FakeExchange()
    client.faults = [limited(retry_after_sec=10), RestUnavailableError("gone"), limited(retry_after_sec=10)]
    governor = governor_of(client)
    with capture_logs() as logs:
        await ask_all(governor, [(number * 0.5, request_of(1, URGENT, 2), URGENT) for number in range(12)])
    assert [0, 0.5, 12, 24, 26, 26] == pytest.approx([sent.at for sent in client.sent[:6]])
    assert ["rest_limited", "rest_limited", "rest_resumed"] == [line["event"] for line in logs]
    assert 12 == len(client.sent)


async def test_a_ban_outlives_the_process(autojump_clock):
    """It is kept with its end by the wall clock; the next run sends nothing before that."""
    bans, client = Bans(), FakeExchange()
    client.faults = [limited(is_ban=True, retry_after_sec=500)]
    with pytest.raises(RestLimitedError):
        await governor_of(client, bans).get(request_of(1, URGENT, 0), URGENT)
    assert [(client.host, START_NS + 500 * 10**9, 418, "banned")] == bans.saved
    await trio.sleep(100)
    with capture_logs() as logs:
        governor = governor_of(client, bans)
        await governor.load()
        assert 400 == governor.closed_sec
        await governor.get(request_of(1, URGENT, 0), URGENT)
    assert 500 == client.sent[1].at
    assert [("rest_banned", "error"), ("rest_resumed", "info")] == [(one["event"], one["log_level"]) for one in logs]


@pytest.mark.parametrize(("until_ns", "expected_sec"), [(0, 0), (START_NS - 1, 0), (2**63, RETRY_AFTER_SEC_MAX)])
async def test_a_kept_ban_that_is_over_or_cannot_be_meant(autojump_clock, until_ns, expected_sec):
    bans, client = Bans(), FakeExchange()
    bans.until_ns[client.host] = until_ns
    governor = governor_of(client, bans)
    await governor.load()
    assert expected_sec == governor.closed_sec


async def test_a_ban_that_cannot_be_kept(autojump_clock):
    """It is told, and holds all the same."""
    bans, client = Bans(), FakeExchange()
    bans.fault = DiskFullError("no room")
    client.faults = [limited(retry_after_sec=10)]
    governor = governor_of(client, bans)
    with capture_logs() as logs, pytest.raises(RestLimitedError):
        await governor.get(request_of(1, URGENT), URGENT)
    assert ["ban_store_failed", "rest_limited", "ban_store_failed"] == [line["event"] for line in logs]
    assert 10 == governor.closed_sec


async def test_a_store_that_hangs(autojump_clock):
    """The request's fault comes back after a bounded time, even to who is cancelled meanwhile."""
    bans, client = Bans(), FakeExchange()
    bans.hangs = True
    client.faults = [limited(retry_after_sec=100)]
    governor = governor_of(client, bans)
    with capture_logs() as logs, trio.move_on_after(1), pytest.raises(RestLimitedError):
        await governor.get(request_of(1, URGENT), URGENT)
    assert ["rest_limited", "ban_store_failed"] == [line["event"] for line in logs]
    assert pytest.approx(100 - BAN_STORE_SEC) == governor.closed_sec


async def test_too_many_requests_wait(autojump_clock):
    """One more is refused at once; those of another urgency are not."""
    client = FakeExchange()
    client.faults = [limited(retry_after_sec=100)]
    governor = governor_of(client)
    with pytest.raises(RestLimitedError):
        await governor.get(request_of(1, URGENT), URGENT)
    async with trio.open_nursery() as nursery:
        for _ in range(WAITING_MAX):
            nursery.start_soon(governor.get, request_of(1, BACKFILL), BACKFILL)
        await trio.sleep(1)
        with pytest.raises(RestBusyError):
            await governor.get(request_of(1, BACKFILL), BACKFILL)
        assert 1 == len(client.sent)
        await governor.get(request_of(1, URGENT), URGENT)
        nursery.cancel_scope.cancel()


async def test_requests_that_are_cancelled(autojump_clock):
    """Waiting, they leave the queue to the others; in flight, their weight still counts."""
    client = FakeExchange()
    governor = governor_of(client)
    for _ in range(4):
        with trio.move_on_after(1):
            await governor.get(request_of(250, URGENT, 10), URGENT)
    assert 3 == len(client.sent)
    assert 750 == governor.minute_weight
    await trio.sleep(MINUTE_SEC)
    assert 0 == governor.minute_weight
    assert b"/x" == await governor.get(request_of(1, NORMAL), NORMAL)


async def test_a_refusal_is_the_callers(autojump_clock):
    """What is refused for good comes back as it is, and closes nothing."""
    client = FakeExchange()
    client.faults = [RestRefusedError(400, -1121, "Invalid symbol.")]
    governor = governor_of(client)
    with pytest.raises(RestRefusedError, match="-1121"):
        await governor.get(request_of(1, NORMAL), NORMAL)
    assert 0 == governor.closed_sec
    assert 1 == governor.minute_weight


@pytest.mark.parametrize("share", [0, -1, 1.01, BUDGET_MIN / PER_MIN - 0.01, math.nan])
def test_a_share_that_cannot_work(share):
    with pytest.raises(ValueError, match="share"):
        governor_of(FakeExchange(), share=share)


async def test_against_the_simulated_exchange():
    """Weights, the header, 418 and its end as a server on loopback says them; backfill through the governor."""
    source = SyntheticSource(Market.SPOT, {"BTCUSDT": Activity(trades_per_sec=20)}, start_us=time.time_ns() // 1000)
    exchange = Exchange([source], options={Market.SPOT: default_options(Market.SPOT)})
    bans = Bans()
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(serve, exchange)
        async with RestClient(addresses.settings["BINANCE_SPOT_REST_URL"]) as client:
            governor = governor_of(client, bans, weight_per_min=6000)
            info = await governor.get(binance_rest.exchange_info_request(Market.SPOT), NORMAL)
            assert ["BTCUSDT"] == list(binance_rest.parse_exchange_info(info, {"BTCUSDT"}).symbols)
            book = await governor.get(binance_rest.snapshot_request(Market.SPOT, "BTCUSDT", 1000), URGENT)
            assert 0 < binance_rest.parse_snapshot(book).last_update_id
            assert 70 == governor.minute_weight == client.used_weight
            exchange.ban(Market.SPOT, 1)
            with pytest.raises(RestLimitedError):
                await governor.get(binance_rest.time_request(Market.SPOT), URGENT)
            assert [(client.host, 418)] == [(host, status) for host, _, status, _ in bans.saved]
            with trio.fail_after(30):
                await governor.get(binance_rest.time_request(Market.SPOT), URGENT)
        nursery.cancel_scope.cancel()
