"""The nursery tree, on one page.

    watchdog nursery        outermost: health checks, sd_notify, metrics and page; beats until the drain is over
      persistence nursery   journal writer, sealers, publisher; REST: backfill, snapshots, instruments, clock
        stream nursery      innermost: one supervised task per connection; what changes them; analytics

Stop: the stream nursery is cancelled; what is held and derived goes into the channel, whose ends close; the writer
sees the end, writes and syncs what it holds, and what fits into `DRAIN_SEC` is sealed; the watchdog goes last. A crash
inside takes the same way out, and is raised at the end.

What the tasks belong to, and how it is joined, is in `parts.py`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from streamsvc.analytics.history import History, ended_streams
from streamsvc.live import Live
from streamsvc.log import logger
from streamsvc.parts import Parts
from streamsvc.persistence.nursery import Persistence, run_persistence
from streamsvc.rest_uses import use_rest
from streamsvc.roster.following import follow_changes
from streamsvc.shutdown import Reload, Shutdown, stop_after
from streamsvc.watchdog.notify import run_watchdog
from streamsvc.watchdog.watch import run_watch
from streamsvc.web.begin import serve_web

if TYPE_CHECKING:
    from streamsvc.settings import Settings
    from streamsvc.surroundings import Sealers, Surroundings


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
    shutdown, reload = shutdown or Shutdown(), reload or Reload(settings)
    parts = await Parts.make(settings, around)
    live: Live | None = None

    async with (
        shutdown.raising_failures(),
        around.open_sealers(settings.save_concurrency) as sealers,
        trio.open_nursery() as watchdog_nursery,
    ):
        async with trio.open_nursery() as persistence_nursery:
            with parts.sender, shutdown.until_begun() as begun:
                tools = parts.tools(settings, around, sealers, shutdown)
                persistence: Persistence = await persistence_nursery.start(
                    run_persistence, settings, parts.receiver, parts.quarantine, tools
                )
                begun()
                live = _make_live(parts, persistence)
                history = _make_history(settings, parts, persistence, sealers)

                look = partial(
                    run_watch, parts.watch, settings.health_check_interval, parts.probes.quiet, parts.roster.ended
                )
                watchdog_nursery.start_soon(shutdown.guard_until_requested, look)
                for part in (
                    partial(run_watchdog, around.notifier, partial(live.is_writer_alive, around.notifier.watchdog_sec)),
                    partial(live.tell_status, around.notifier, settings.health_check_interval),
                    partial(_begin_to_stop, shutdown, around, persistence),
                ):
                    watchdog_nursery.start_soon(shutdown.guard, part)

                rest = partial(use_rest, settings=settings, around=around, intake=parts.intake, ledger=parts.ledger)
                rest = partial(rest, probes=parts.probes, persistence=persistence)
                parts.roster.begin_market = lambda symbols: persistence_nursery.start_soon(
                    shutdown.guard_until_requested, partial(rest, symbols)
                )

                async def record() -> None:
                    async with trio.open_nursery() as stream_nursery:
                        shutdown.ends(stream_nursery.cancel_scope)
                        for part in (parts.ledger.run, parts.intake.held.run, parts.analytics.run, history.run):
                            stream_nursery.start_soon(part)
                        await stream_nursery.start(parts.supervisor.run)
                        around.notifier.ready()
                        connections = len(parts.supervisor.statistics().connections)
                        logger.info("ready", connections=connections, streams=len(parts.health.streams()))
                        task_status.started(live)
                        # Not earlier: what these load would hold up the first connections.
                        for part in (sealers.warm, partial(serve_web, live, settings, around, shutdown)):
                            watchdog_nursery.start_soon(shutdown.guard, part)
                        stream_nursery.start_soon(follow_changes, parts.roster, settings, around, reload, shutdown)
                        if settings.run_hours is not None:
                            stream_nursery.start_soon(stop_after, shutdown, settings.run_hours)

                await shutdown.guard(record)
                parts.finish()
        logger.info("stopped", messages=parts.intake.counts.accepted, **(live.summary() if live is not None else {}))
        if live is not None:
            live.ended.set()
        watchdog_nursery.cancel_scope.cancel()


def _make_live(parts: Parts, persistence: Persistence) -> Live:
    parts.intake.is_disk_full = lambda: persistence.state.state == "paused_disk"
    return Live(
        watch=parts.watch,
        health=parts.health,
        supervisor=parts.supervisor,
        persistence=persistence,
        intake=parts.intake,
        channel=parts.sender.statistics,
        analytics=parts.analytics,
        probes=parts.probes,
    )


def _make_history(settings: Settings, parts: Parts, persistence: Persistence, sealers: Sealers) -> History:
    ended = ended_streams(parts.intake.chains)
    return History(parts.analytics, ended, str(settings.data_dir), persistence, sealers.run_apart)


async def _begin_to_stop(shutdown: Shutdown, around: Surroundings, persistence: Persistence) -> None:
    """Say that the end has begun, and bound it: `DRAIN_SEC` count from here, while connections still say goodbye."""
    await shutdown.wait_requested()
    around.notifier.stopping()
    persistence.drain()
