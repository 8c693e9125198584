"""The nursery tree, on one page.

    watchdog nursery        outermost: health checks, sd_notify; beats until the drain is over
      persistence nursery   journal writer, sealers, publisher; REST: backfill, snapshots, instruments, clock
        stream nursery      innermost: one supervised task per connection; cancelled first

Stop: the stream nursery is cancelled; the ends of the channel close; the writer sees the end, writes and syncs what it
holds, and what fits into `DRAIN_SEC` is sealed; the watchdog goes last. A crash inside takes the same way out, and is
raised at the end.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import trio

from streamsvc.analytics.history import History, ended_streams
from streamsvc.analytics.live import Analytics
from streamsvc.batch import open_block_channel
from streamsvc.intake import Intake
from streamsvc.integrity.ledger import Ledger
from streamsvc.integrity.probe import Probes
from streamsvc.integrity.segment_ids import read_ids
from streamsvc.live import Live
from streamsvc.log import logger
from streamsvc.persistence.nursery import Persistence, run_persistence
from streamsvc.persistence.quarantine import Quarantine
from streamsvc.persistence.tools import Tools
from streamsvc.rest_uses import use_rest
from streamsvc.roster.choice import Choice
from streamsvc.roster.following import follow_changes
from streamsvc.roster.last_run import LastRun
from streamsvc.roster.roster import Roster
from streamsvc.roster.store import NAME as STORE_NAME
from streamsvc.roster.store import Store
from streamsvc.schema import Market
from streamsvc.settings.selection import selections_of
from streamsvc.shutdown import Reload, Shutdown, stop_after
from streamsvc.streams.plan import ConnectionPlan, change_plans, repeat_plans
from streamsvc.streams.supervise import Supervisor
from streamsvc.streams.tap import ReadTick
from streamsvc.streams.transport import Wiring
from streamsvc.venues.binance_futures import BinanceFutures
from streamsvc.venues.binance_spot import BinanceSpot
from streamsvc.watchdog.health import Health, Timeouts
from streamsvc.watchdog.notify import run_watchdog
from streamsvc.watchdog.watch import Watch, run_watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamsvc.persistence.losses import Losses
    from streamsvc.settings import Settings
    from streamsvc.surroundings import Sealers, Surroundings
    from streamsvc.venues.venue import Stream, Venue


async def run(
    settings: Settings,
    around: Surroundings,
    *,
    shutdown: Shutdown | None = None,
    reload: Reload | None = None,
    task_status: trio.TaskStatus[Live] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Record until `shutdown` is requested or `RUN_HOURS` are over.

    Args:
        settings: What to record, and all limits.
        around: The machine, or doubles of it.
        shutdown: How to end it; the caller may keep it.
        reload: How to have `SYMBOLS_FILE` read again; the caller may keep it.
        task_status: Told, with a view of what goes on, when the first attempts were made.

    Raises:
        UsageError: within a group: the data folder is in use or cannot be used.
        ExceptionGroup: whatever went wrong unexpectedly, after what was received is written.
    """
    shutdown = shutdown or Shutdown()
    venues = make_venues(settings)
    last_run = LastRun(Store(settings.data_dir / STORE_NAME), venues)
    choice = Choice(selections_of(settings), await around.run_blocking(last_run.read))
    plans = plan_all(choice, venues, settings.redundancy)
    health = Health((stream for plan in plans if not plan.copy for stream in plan.streams), settings.redundancy)
    sender, receiver = open_block_channel(settings.queue_max_bytes)
    quarantine = Quarantine()
    intake = Intake(health, sender, quarantine, late_ms=settings.latency_warn_ms, wall_ns=around.wall_ns)
    analytics = Analytics(
        sender,
        wall_ns=around.wall_ns,
        reset=settings.cvd_reset,
        grace_sec=settings.analytics_grace_sec,
        is_recorded=lambda market, kind, symbol: intake.chains.find(market, kind, symbol) is not None,
    )
    sender.have_tapped(analytics.take)
    supervisor = Supervisor(
        plans,
        venues=venues,
        open_port=intake.open_port,
        open_budget=around.open_budget,
        wiring=_make_wiring(settings, around),
    )

    watch = _make_watch(settings, health, supervisor, partial(_resubscribe, supervisor, intake))
    keep = partial(around.run_blocking, last_run.keep)
    roster = Roster(choice, venues=venues, intake=intake, supervisor=supervisor, keep=keep)
    live: Live | None = None

    async with (
        shutdown.raising_failures(),
        around.open_sealers(settings.save_concurrency) as sealers,
        trio.open_nursery() as watchdog_nursery,
    ):
        async with trio.open_nursery() as persistence_nursery:
            with sender, shutdown.until_begun() as begun:
                ledger = Ledger(intake.chains, sender, around.wall_ns, settings.gap_grace_sec)
                tools = _make_tools(settings, around, sealers, last_run, intake, ledger, supervisor, shutdown)
                persistence: Persistence = await persistence_nursery.start(
                    run_persistence, settings, receiver, quarantine, tools
                )
                begun()
                intake.is_disk_full = lambda: persistence.state.state == "paused_disk"
                live = Live(watch, health, supervisor, persistence, intake, sender.statistics, analytics)
                history = History(
                    analytics, ended_streams(intake.chains), str(settings.data_dir), persistence, sealers.run_apart
                )

                probes = Probes(intake.chains)
                look = partial(run_watch, watch, settings.health_check_interval, probes.quiet, roster.ended)
                watchdog_nursery.start_soon(shutdown.guard_until_requested, look)
                for part in (
                    partial(run_watchdog, around.notifier, partial(live.is_writer_alive, around.notifier.watchdog_sec)),
                    partial(live.tell_status, around.notifier, settings.health_check_interval),
                    partial(_begin_to_stop, shutdown, around, persistence),
                ):
                    watchdog_nursery.start_soon(shutdown.guard, part)

                rest = partial(use_rest, settings=settings, around=around, intake=intake, ledger=ledger)
                rest = partial(rest, probes=probes, persistence=persistence)
                roster.begin_market = lambda symbols: persistence_nursery.start_soon(
                    shutdown.guard_until_requested, partial(rest, symbols)
                )

                async def record() -> None:
                    async with trio.open_nursery() as stream_nursery:
                        shutdown.ends(stream_nursery.cancel_scope)
                        stream_nursery.start_soon(ledger.run)
                        stream_nursery.start_soon(intake.held.run)
                        stream_nursery.start_soon(analytics.run)
                        stream_nursery.start_soon(history.run)
                        await stream_nursery.start(supervisor.run)
                        around.notifier.ready()
                        logger.info("ready", connections=len(plans), streams=len(health.streams()))
                        task_status.started(live)
                        # Not earlier: what these load would hold up the first connections.
                        watchdog_nursery.start_soon(shutdown.guard, sealers.warm)
                        stream_nursery.start_soon(
                            follow_changes, roster, settings, around, reload or Reload(settings), shutdown
                        )
                        if settings.run_hours is not None:
                            stream_nursery.start_soon(stop_after, shutdown, settings.run_hours)

                await shutdown.guard(record)
                # Where the writer has failed, nothing can be told any more; it says so itself.
                with suppress(trio.BrokenResourceError):
                    intake.held.release()
                    analytics.finish()
                    ledger.tell()
        logger.info("stopped", messages=intake.counts.accepted, **(live.summary() if live is not None else {}))
        if live is not None:
            live.ended.set()
        watchdog_nursery.cancel_scope.cancel()


def make_venues(settings: Settings) -> dict[Market, Venue]:
    """The markets at the speeds and places of the settings."""
    return {
        Market.SPOT: BinanceSpot(settings.binance_spot_ws_url, depth_ms=settings.spot_depth_ms),
        Market.FUTURES: BinanceFutures(
            settings.binance_futures_ws_url,
            depth_ms=settings.futures_depth_ms,
            mark_price_sec=settings.mark_price_sec,
            trade_route=settings.futures_trade_route,
        ),
    }


def plan_all(choice: Choice, venues: Mapping[Market, Venue], copies: int) -> list[ConnectionPlan]:
    """The connections of all markets."""
    plans = [plan for venue in venues.values() for plan in change_plans(venue, [], added=choice.streams(venue))]
    return repeat_plans(plans, copies)


def _make_wiring(settings: Settings, around: Surroundings) -> Wiring:
    return Wiring(
        dial=around.dial,
        ssl_context=around.ssl_context,
        tick=ReadTick(settings.read_tick_ms),
        wall_ns=around.wall_ns,
        rng=around.rng,
        settings=settings,
    )


def _resubscribe(supervisor: Supervisor, intake: Intake, stream: Stream, copy: int) -> bool:
    is_begun = supervisor.resubscribe(stream, copy)
    if is_begun:
        intake.chains.resubscribed(stream, intake.wall_ns())
    return is_begun


def _make_watch(
    settings: Settings, health: Health, supervisor: Supervisor, resubscribe: Callable[[Stream, int], bool]
) -> Watch:
    timeouts = Timeouts(settings.trade_timeout, settings.orderbook_timeout, settings.first_message_sec)
    return Watch(
        health,
        timeouts,
        resubscribe=resubscribe,
        replace=supervisor.replace,
        now=trio.current_time(),
    )


def _make_tools(  # noqa: PLR0913, PLR0917 - what persistence is given
    settings: Settings,
    around: Surroundings,
    sealers: Sealers,
    last_run: LastRun,
    intake: Intake,
    ledger: Ledger,
    supervisor: Supervisor,
    shutdown: Shutdown,
) -> Tools:
    return Tools(
        run_blocking=around.run_blocking,
        seal=partial(sealers.seal, keeps_raw=settings.raw_archive),
        build_day=sealers.build_day,
        wall_ns=around.wall_ns,
        rows_by_symbol=intake.rows_by_symbol,
        reconnects=lambda: supervisor.statistics().reconnects,
        files=around.files,
        token=around.rng.getrandbits(32),
        resume=partial(last_run.go_on, intake),
        read_ids=read_ids,
        audit=partial(sealers.run_apart, "streamsvc.integrity.audit", "unknown_gaps"),
        tell_losses=partial(_tell_losses, ledger),
        tell_waiting=around.notifier.waiting,
        guard=shutdown.guard,
    )


def _tell_losses(ledger: Ledger, losses: Losses) -> None:
    # While the service ends nobody listens any more: the catalogue knows it, and tells the next start.
    with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
        ledger.lost(losses)


async def _begin_to_stop(shutdown: Shutdown, around: Surroundings, persistence: Persistence) -> None:
    """Say that the end has begun, and bound it: `DRAIN_SEC` count from here, while connections still say goodbye."""
    await shutdown.wait_requested()
    around.notifier.stopping()
    persistence.drain()
