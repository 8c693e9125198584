"""What a market's REST is used for, all of it through one governor: instruments, clock, last ids, backfill, snapshots.

It is not needed for recording: where it is down, that is an alarm, never a stop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from streamsvc.integrity.backfill import Backfill
from streamsvc.integrity.clock_offset import ClockWatch
from streamsvc.integrity.instruments import Instruments
from streamsvc.integrity.snapshots import Snapshots
from streamsvc.rest_governor import RestGovernor
from streamsvc.venues.binance_rest import WEIGHT_PER_MIN

if TYPE_CHECKING:
    from streamsvc.intake import Intake
    from streamsvc.integrity.instruments import Symbols
    from streamsvc.integrity.ledger import Ledger
    from streamsvc.integrity.probe import Probes
    from streamsvc.persistence.nursery import Persistence
    from streamsvc.settings import Settings
    from streamsvc.surroundings import Surroundings


async def use_rest(  # noqa: PLR0913 - all that REST serves
    symbols: Symbols,
    *,
    settings: Settings,
    around: Surroundings,
    intake: Intake,
    ledger: Ledger,
    probes: Probes,
    persistence: Persistence,
) -> None:
    """Use a market's REST until cancelled.

    Args:
        symbols: The market's symbols.
        settings: The settings.
        around: The machine, or doubles of it.
        intake: Where fetched rows go.
        ledger: Told what cannot be fetched.
        probes: Can ask this market from now on.
        persistence: Keeps bans across restarts.
    """
    market = symbols.market
    async with around.open_client(market) as client:
        governor = RestGovernor(
            client,
            market,
            weight_per_min=WEIGHT_PER_MIN[market],
            share=settings.rest_weight_share,
            wall_ns=around.wall_ns,
            load_bans=persistence.load_bans,
            save_ban=persistence.save_ban,
        )
        await governor.load()
        probes.use(market, governor)
        backfill = Backfill(
            market,
            host=client.host,
            has_key=settings.binance_api_key is not None,
            governor=governor,
            chains=intake.chains,
            intake=intake.fetched,
            ledger=ledger,
        )

        snapshots = Snapshots(
            market,
            chains=intake.chains,
            governor=governor,
            recorder=intake.fetched,
            interval_sec=settings.snapshot_interval_sec,
            levels=settings.snapshot_levels,
        )

        instruments = Instruments(
            symbols,
            governor=governor,
            recorder=intake.fetched,
            run_blocking=around.run_blocking,
            interval_sec=settings.instruments_interval_sec,
            rng=around.rng,
        )
        clock = ClockWatch(
            market,
            governor=governor,
            wall_ns=around.wall_ns,
            use=intake.latency.use,
            warn_ms=settings.latency_warn_ms,
            rng=around.rng,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock.run)
            nursery.start_soon(instruments.run)
            nursery.start_soon(backfill.run)
            nursery.start_soon(snapshots.run)
