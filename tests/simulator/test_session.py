"""One connection: subscriptions, limits, pings, age, goodbyes. In memory, under a clock that jumps."""

from __future__ import annotations

import itertools
import json

import pytest
import trio
from wsproto.events import CloseConnection, Ping, Pong, RejectConnection

from streamsvc.schema import Market

SPOT, FUTURES = Market


async def test_a_combined_stream_has_envelopes_and_a_raw_one_has_none(autojump_clock, stage_of):
    stage = await stage_of()
    both = await stage.client(SPOT, "/stream?streams=btcusdt@trade/ethusdt@trade")
    raw = await stage.client(SPOT, "/ws/btcusdt@trade")
    names = {(await both.json())["stream"] for _ in range(60)}
    assert {"btcusdt@trade", "ethusdt@trade"} == names
    payload = await raw.json()
    assert ["e", "E", "s", "t", "p", "q", "T", "m", "M"] == list(payload)


async def test_two_forms_of_one_stream_carry_the_same_messages(autojump_clock, stage_of):
    """Raw, combined and microseconds are forms of the same ids."""
    stage = await stage_of()
    raw = await stage.client(SPOT, "/ws/btcusdt@trade")
    both = await stage.client(SPOT, "/stream?streams=btcusdt@trade&timeUnit=MICROSECOND")
    first, second = await raw.json(), (await both.json())["data"]
    assert first["T"] == second["T"] // 1000
    assert first | {"T": 0, "E": 0} == second | {"T": 0, "E": 0}


async def test_subscribing_and_leaving_while_it_runs(autojump_clock, stage_of):
    stage = await stage_of()
    client = await stage.client(SPOT, "/ws")
    assert {"result": None, "id": 1} == await client.ask(method="SUBSCRIBE", params=["btcusdt@trade"], id=1)
    assert "trade" == (await client.json())["e"]
    expected = {"result": ["btcusdt@trade"], "id": "two"}
    assert expected == await client.ask(method="LIST_SUBSCRIPTIONS", id="two")
    assert {"result": None, "id": 3} == await client.ask(method="UNSUBSCRIBE", params=["btcusdt@trade"], id=3)
    with trio.move_on_after(60) as scope:
        await client.text()
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", 3),
        ("[]", 2),
        ("{}", 2),
        ('{"method":"SING","id":1}', 2),
        ('{"method":"SUBSCRIBE","params":[],"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":"btcusdt@trade","id":1}', 2),
        ('{"method":"LIST_SUBSCRIPTIONS","id":-1}', 2),
    ],
)
async def test_a_wish_that_makes_no_sense_is_answered_with_an_error(autojump_clock, stage_of, text, code):
    """The connection stays."""
    stage = await stage_of()
    client = await stage.client(SPOT, "/ws")
    await client.send(text)
    answer = await client.json()
    assert code == answer["code"]
    assert answer["msg"].startswith("Invalid ")
    assert {"result": [], "id": 1} == await client.ask(method="LIST_SUBSCRIPTIONS", id=1)


@pytest.mark.parametrize(
    ("target", "heard"),
    [
        ("/public/ws/btcusdt@bookTicker", True),
        ("/market/ws/btcusdt@bookTicker", False),
        ("/ws/btcusdt@bookTicker", True),
        ("/public/ws/btcusdt@aggTrade", False),
        ("/market/ws/btcusdt@aggTrade", True),
        ("/ws/btcusdt@aggTrade", False),
        ("/market/stream?streams=btcusdt@markPrice@1s", True),
        ("/public/ws/btcusdt@trade", True),
        ("/market/ws/btcusdt@trade", False),
        ("/public/ws/nobody@depth", False),
    ],
)
async def test_a_stream_on_the_wrong_route_is_accepted_and_silent(autojump_clock, stage_of, target, heard):
    stage = await stage_of()
    client = await stage.client(FUTURES, target)
    with trio.move_on_after(120) as scope:
        await client.text()
    assert heard is not scope.cancelled_caught


async def test_the_trade_route_is_an_option(autojump_clock, stage_of):
    stage = await stage_of(trade_route="market")
    client = await stage.client(FUTURES, "/market/ws")
    assert {"result": None, "id": 1} == await client.ask(method="SUBSCRIBE", params=["btcusdt@trade"], id=1)
    assert "trade" == (await client.json())["e"]


async def test_the_envelope_can_be_switched(autojump_clock, stage_of):
    """For streams that are already heard, too."""
    stage = await stage_of()
    client = await stage.client(SPOT, "/ws/btcusdt@trade")
    assert "trade" == (await client.json())["e"]
    assert {"result": None, "id": 1} == await client.ask(method="SET_PROPERTY", params=["combined", True], id=1)
    assert "btcusdt@trade" == (await client.json())["stream"]
    assert {"result": True, "id": 2} == await client.ask(method="GET_PROPERTY", params=["combined"], id=2)


async def test_the_server_pings_and_a_pong_keeps_the_connection(autojump_clock, stage_of):
    """The pong carries the ping's payload; unsolicited ones count for nothing."""
    stage = await stage_of(ping_interval_sec=20, pong_timeout_sec=60)
    client = await stage.client(SPOT, "/ws")
    times = []
    for _ in range(6):
        ping = await client.until(Ping)
        times.append(trio.current_time())
        await client.pong(ping.payload)
    assert [20] * 5 == [round(after - before) for before, after in itertools.pairwise(times)]


async def test_a_pong_that_answers_nothing_does_not_save_the_connection(autojump_clock, stage_of):
    """The first ping is sent after the interval; the deadline runs from there."""
    stage = await stage_of(ping_interval_sec=20, pong_timeout_sec=60)
    client = await stage.client(SPOT, "/ws")
    opened = trio.current_time()
    while isinstance(event := await client.event(), Ping):
        await client.pong(b"something else")
    assert isinstance(event, CloseConnection)
    assert (1008, "pong timeout", 80) == (event.code, event.reason, round(trio.current_time() - opened))


async def test_one_message_too_many_in_a_second_ends_the_connection(autojump_clock, stage_of):
    """Pings, pongs and JSON all count: five are allowed on spot."""
    stage = await stage_of(ping_interval_sec=0)
    client = await stage.client(SPOT, "/ws")
    for _ in range(3):
        await client.ping()
        await client.pong(b"")
        await trio.sleep(1)
    for _ in range(2):
        await client.ping()
        await client.pong(b"")
        await client.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
    with trio.fail_after(5):
        event = await client.until(CloseConnection)
    assert (1008, "Too many requests") == (event.code, event.reason)


async def test_a_clients_ping_is_answered(autojump_clock, stage_of):
    stage = await stage_of()
    client = await stage.client(SPOT, "/ws")
    await client.ping(b"here")
    assert b"here" == (await client.until(Pong)).payload


async def test_one_stream_too_many_ends_the_connection(autojump_clock, stage_of):
    stage = await stage_of(streams_max=3)
    names = [f"sym{number}@trade" for number in range(4)]
    fine = await stage.client(SPOT, "/ws/" + "/".join(names[:3]))
    assert names[:3] == (await fine.ask(method="LIST_SUBSCRIPTIONS", id=1))["result"]
    await fine.send(json.dumps({"method": "SUBSCRIBE", "params": names[3:], "id": 2}))
    assert "Too many streams" == (await fine.until(CloseConnection)).reason
    over = await stage.client(SPOT, "/stream?streams=" + "/".join(names))
    event = await over.until(CloseConnection)
    assert (1008, "Too many streams") == (event.code, event.reason)


async def test_a_connection_ends_with_its_age_after_a_notice(autojump_clock, stage_of):
    """`serverShutdown` comes first, in the connection's form; then close."""
    stage = await stage_of(lifetime_sec=120, shutdown_notice_sec=10, ping_interval_sec=0)
    both = await stage.client(SPOT, "/stream")
    raw = await stage.client(FUTURES, "/ws")
    opened = trio.current_time()
    notice = await both.json()
    assert 110 == round(trio.current_time() - opened)
    assert ["!serverShutdown", "serverShutdown"] == [notice["stream"], notice["data"]["e"]]
    assert "serverShutdown" == (await raw.json())["e"]
    assert 1001 == (await both.until(CloseConnection)).code
    assert 120 == round(trio.current_time() - opened)


async def test_a_client_that_says_goodbye_is_answered(autojump_clock, stage_of):
    stage = await stage_of()
    client = await stage.client(SPOT, "/ws/btcusdt@trade")
    await client.text()
    await client.close()
    assert 1000 == (await client.until(CloseConnection)).code
    await trio.testing.wait_all_tasks_blocked()
    assert [] == stage.exchange.connections()


async def test_a_client_that_breaks_the_protocol_is_told(autojump_clock, stage_of):
    stage = await stage_of()
    client = await stage.client(SPOT, "/ws")
    await client.stream.send_all(b"\x81\x01x")
    assert 1002 == (await client.until(CloseConnection)).code


async def test_a_client_that_does_not_answer_a_goodbye_is_left(autojump_clock, stage_of):
    stage = await stage_of()
    client = await stage.client(SPOT, "/ws")
    stage.exchange.close(SPOT, 1012, "restart")
    assert 1012 == (await client.until(CloseConnection)).code
    await trio.sleep(6)
    assert [] == stage.exchange.connections()


@pytest.mark.parametrize(
    ("target", "status"),
    [("/nothing", 404), ("/ws/" + "x" * 9000, 414), ("/private/ws", 404)],
)
async def test_an_upgrade_that_leads_nowhere_is_refused(autojump_clock, stage_of, target, status):
    stage = await stage_of()
    answer = await stage.dial(FUTURES).open(target)
    assert isinstance(answer, RejectConnection)
    assert status == answer.status_code


async def test_the_301st_attempt_in_five_minutes_is_refused(autojump_clock, stage_of):
    """Per address; later ones are welcome again."""
    stage = await stage_of(ping_interval_sec=0)
    for _ in range(300):
        await stage.client(SPOT, "/ws")
    assert 429 == (await stage.dial(SPOT).open("/ws")).status_code
    assert not isinstance(await stage.dial(SPOT, peer="10.0.0.2").open("/ws"), RejectConnection)
    await trio.sleep(301)
    await stage.client(SPOT, "/ws")


async def test_a_slow_reader_is_thrown_out_when_its_queue_is_full(autojump_clock, stage_of):
    """What lay in the queue is in the ledger, to the last id."""
    stage = await stage_of(queue_max_bytes=20_000, ping_interval_sec=0)
    ours, theirs = trio.testing.lockstep_stream_pair()
    stage.nursery.start_soon(stage.exchange.serve_stream, SPOT, theirs)
    request = (
        "GET /ws/btcusdt@trade HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await ours.send_all(request.encode())
    await ours.receive_some(1000)
    await trio.sleep(60)
    assert [] == stage.exchange.connections()
    record = stage.exchange.ledger.records[SPOT, "btcusdt@trade"]
    assert record.produced == record.missing
    assert {"cut"} == {line.cause for line in stage.exchange.ledger.withheld}


async def test_an_unmet_market_waits_for_its_first_subscriber(autojump_clock, stage_of):
    stage = await stage_of(start="subscribed")
    await trio.sleep(60)
    history = stage.exchange.venues[SPOT].source.histories()["BTCUSDT"]
    assert not history.trades
    client = await stage.client(SPOT, "/ws/btcusdt@trade")
    await client.text()
    assert history.trades


async def test_a_market_that_is_told_to_begin(autojump_clock, stage_of):
    stage = await stage_of(start="told")
    client = await stage.client(SPOT, "/ws/btcusdt@trade")
    with trio.move_on_after(60) as scope:
        await client.text()
    assert scope.cancelled_caught
    stage.exchange.begin(SPOT)
    assert await client.text()
