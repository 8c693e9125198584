"""A simulated Binance exchange, spot and USD-M futures, to try recorders and bots on.

It shares no protocol code with the recorder: were it shared, both could be wrong together.

**As a program**: `streamsvc simulate` prints the settings that lead a recorder to it (`BINANCE_SPOT_WS_URL=...`) and
runs until it is interrupted.

**From Python**, on real sockets:

    source = SyntheticSource(Market.SPOT, {"BTCUSDT": Activity(trades_per_sec=20)}, start_us=time.time_ns() // 1000)
    exchange = Exchange([source])
    addresses = await nursery.start(serve, exchange)          # addresses.settings: the recorder's variables
    exchange.mute(Market.SPOT, "btcusdt@trade")

or in memory, under a clock that jumps, with `wall_ns` keeping pace with Trio's clock:

    exchange = Exchange([source], wall_ns=wall_ns)
    await nursery.start(exchange.run)
    nursery.start_soon(exchange.serve_stream, Market.SPOT, server_end)

`open_sources(paths, speed=math.inf)` gives recordings as sources (one a market) instead of a synthetic one; with
`start="told"` in `MarketOptions` they wait for `Exchange.begin`, and `Exchange.wait_done` waits for their end.

**Faults** are methods of `Exchange`, and orders of the control endpoint under the same names and arguments:
`POST http://127.0.0.1:PORT/control/<name>` with a JSON object, `"market"` always (`spot` or `futures`).

| name | further fields | what happens |
|---|---|---|
| `cut` | `mode` `rst`, `fin` | connections end without a close frame |
| `close` | `code`, `reason` | ... with one |
| `freeze`, `thaw` | | connections stay open, silent; their messages are withheld |
| `lag` | `seconds` | everything is sent later by so much, or by up to twice as much; 0 ends that |
| `shut_down` | `after_sec` | `serverShutdown` now, close later |
| `ping_flood` | `count` | pings at once |
| `garbage` | `kind` (`faults.GARBAGE`), `size_bytes` | frames that break a rule |
| `send_text` | `text` | any text as a message |
| `mute`, `unmute` | `stream`; `connection` | a stream stalls, its ids are consumed |
| `drop`, `duplicate`, `reorder`, `fragment` | `stream`, `count` | the next messages of a stream |
| `corrupt` | `stream`, `count`, `how` (`faults.CORRUPTIONS`) | ... damaged |
| `fail_replies` | `how` `error`, `silent`, `wrong_id`, `count` | answers to SUBSCRIBE and the like |
| `delay_rest` | `seconds`, `path`, `count` | answers come late |
| `fail_rest` | `status`, `body`, `headers`, `path`, `count` | this answer instead |
| `ban` | `seconds`, `address` | 418 for that address |
| `refuse_connections` | | the port refuses |
| `refuse_upgrades` | `status`, `headers`, `body`, `count` | this answer to upgrades |
| `stall_handshakes` | `drip_sec` | silence on new connections, or a byte at a time |
| `begin` | | a market that waits to be told moves |
| `lift` | | everything that is still going on ends |

Faults of connections take `stream` (those that hear it) or `connection` (its number); without both they mean all of the
market's. `GET /control/connections`, `/control/state` and `/control/ledger` tell how things stand.

**The ledger** counts per stream, since it was first asked for, which ids the market produced, which were handed to at
least one connection, and so which are `missing`; beside it what was withheld, with its cause. A recorder that lacks
exactly the missing ids has lost nothing by its own fault. A connection that is cut may have got a part of its last
batch: ids count as sent only when the transport took the whole batch.
"""
