"""`streamsvc simulate`: the simulated exchange as a program."""

from __future__ import annotations

import math
import signal
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click
import trio

from streamsvc.errors import UsageError
from streamsvc.schema import Market
from streamsvc.simulator.exchange import Exchange
from streamsvc.simulator.market import Activity
from streamsvc.simulator.options import MarketOptions, Start, default_options
from streamsvc.simulator.replay import open_sources
from streamsvc.simulator.serve import Addresses, make_tls, serve
from streamsvc.simulator.sources import Source, SyntheticSource

if TYPE_CHECKING:
    from collections.abc import Mapping

_MESSAGES_PER_TRADE = 5.0
"""About: a trade, its share of an aggregate trade, of the touch, and of the book's changes beside it."""


def _symbols(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[str, ...]:
    return tuple(symbol.strip().upper() for symbol in text.split(",") if symbol.strip())


def _speed(_context: click.Context, _parameter: click.Parameter, text: str) -> float:
    if text == "max":
        return math.inf
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not speed > 0:
        raise click.BadParameter("a number above 0, or max")
    return speed


@click.command()
@click.option("--spot-symbols", default="BTCUSDT,ETHUSDT", callback=_symbols, show_default=True)
@click.option("--futures-symbols", default="BTCUSDT,ETHUSDT", callback=_symbols, show_default=True)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True, max=100_000),
    default=25.0,
    show_default=True,
    help="Messages per second and symbol, about, with all kinds subscribed.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same market.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--spot-port", type=click.IntRange(0, 65535), default=0, help="0: any.")
@click.option("--futures-port", type=click.IntRange(0, 65535), default=0, help="0: any.")
@click.option("--control-port", type=click.IntRange(0, 65535), default=0, help="Faults on command over HTTP; 0: any.")
@click.option("--tls/--no-tls", default=False)
@click.option(
    "--ca-file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("simulated-ca.pem"),
    show_default=True,
    help="Where to write the authority's certificate, with --tls.",
)
@click.option(
    "--recording",
    "recordings",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="Play these files instead of a synthetic market; a market that none of them holds is not served.",
)
@click.option("--speed", default="1", callback=_speed, show_default=True, help="Of recordings; max: as fast as read.")
@click.option(
    "--start",
    type=click.Choice(["now", "subscribed", "told"]),
    default=None,
    help="When a market begins to move; default: now, or with recordings: at the first subscriber.",
)
@click.option(
    "--lifetime-sec", type=click.FloatRange(min=1), default=86400.0, show_default=True, help="Of connections."
)
@click.option("--shutdown-notice-sec", type=click.FloatRange(min=0), default=10.0, show_default=True)
@click.option("--ping-interval-sec", type=click.FloatRange(min=0), default=None, help="0: none.")
@click.option("--pong-timeout-sec", type=click.FloatRange(min=0.1), default=None)
@click.option("--streams-max", type=click.IntRange(min=1), default=None, help="Per connection.")
@click.option("--attempts-max", type=click.IntRange(min=1), default=None, help="Connection attempts in five minutes.")
@click.option("--futures-trade-route", type=click.Choice(["public", "market"]), default="public", show_default=True)
@click.pass_context
def simulate(context: click.Context, /, **options: Any) -> None:
    """Run a simulated Binance exchange, to try recorders and bots on.

    Prints the settings that lead a recorder to it, and runs until it is interrupted.
    """
    try:
        context.exit(trio.run(_simulate, options))
    except UsageError as error:
        raise click.UsageError(str(error)) from error


async def _simulate(options: dict[str, Any]) -> int:
    sources = _sources(options)
    if not sources:
        raise UsageError("there is nothing to simulate: name symbols or recordings")
    exchange = Exchange(sources, options=_rules(options))
    tls = make_tls(options["ca_file"], options["host"]) if options["tls"] else None
    ports = {Market.SPOT: options["spot_port"], Market.FUTURES: options["futures_port"]}
    start = partial(serve, exchange, host=options["host"], ports=ports, control_port=options["control_port"], tls=tls)
    try:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                _tell(await nursery.start(start), exchange, options["ca_file"] if tls is not None else None)
                await anext(aiter(signals))
                nursery.cancel_scope.cancel()
    except* OSError as errors:
        error: BaseException = errors
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise UsageError(f"a port cannot be had: {error}") from errors
    return 0


def _sources(options: dict[str, Any]) -> list[Source]:
    if options["recordings"]:
        return list(open_sources(options["recordings"], speed=options["speed"]).values())
    # Three trades come with about two aggregate trades, three new touches and some depth.
    trades_per_sec = options["rate"] / _MESSAGES_PER_TRADE
    activity = Activity(trades_per_sec=trades_per_sec, quotes_per_sec=2 * trades_per_sec)
    symbols = {Market.SPOT: options["spot_symbols"], Market.FUTURES: options["futures_symbols"]}
    return [
        SyntheticSource(market, dict.fromkeys(names, activity), start_us=time.time_ns() // 1000, seed=options["seed"])
        for market, names in symbols.items()
        if names
    ]


def _rules(options: dict[str, Any]) -> Mapping[Market, MarketOptions]:
    changes = {
        name: options[name]
        for name in (
            "lifetime_sec",
            "shutdown_notice_sec",
            "ping_interval_sec",
            "pong_timeout_sec",
            "streams_max",
            "attempts_max",
        )
        if options[name] is not None
    }
    start: Start = options["start"] or ("subscribed" if options["recordings"] else "now")
    return {
        market: attrs.evolve(
            default_options(market), trade_route=options["futures_trade_route"], start=start, **changes
        )
        for market in Market
    }


def _tell(addresses: Addresses, exchange: Exchange, ca_file: Path | None) -> None:
    """Print the recorder's settings, ready for a `.env` file."""
    click.echo("# Paste into the .env of a recorder. Ctrl-C ends the exchange.")
    for market, venue in exchange.venues.items():
        click.echo(f"{market.name}_SYMBOLS={','.join(venue.source.histories())}")
    for name, value in addresses.settings.items():
        click.echo(f"{name}={value}")
    if ca_file is not None:
        click.echo(f"TLS_CA_FILE={ca_file.resolve()}")
    control = f"http://{addresses.host}:{addresses.control_port}/control"
    click.echo(f"# control: {control}/ledger tells what was sent and withheld; POST {control}/mute and others: faults")
