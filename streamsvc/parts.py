"""The parts of a recorder, made of the settings and joined; `service.py` says when each of them runs.

`streams`, `watchdog` and `persistence` know nothing of each other: here each is given what the others offer.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Self

import attrs
import trio

from streamsvc.analytics.live import Analytics
from streamsvc.batch import BlockReceiver, BlockSender, open_block_channel
from streamsvc.intake import Intake
from streamsvc.integrity.ledger import Ledger
from streamsvc.integrity.probe import Probes
from streamsvc.integrity.segment_ids import read_ids
from streamsvc.persistence.quarantine import Quarantine
from streamsvc.persistence.tools import Tools
from streamsvc.roster.choice import Choice
from streamsvc.roster.last_run import LastRun
from streamsvc.roster.roster import Roster
from streamsvc.roster.store import NAME as STORE_NAME
from streamsvc.roster.store import Store
from streamsvc.schema import Market
from streamsvc.settings.selection import selections_of
from streamsvc.streams.plan import change_plans, repeat_plans
from streamsvc.streams.supervise import Supervisor
from streamsvc.streams.tick import ReadTick
from streamsvc.streams.transport import Wiring
from streamsvc.venues.binance_futures import BinanceFutures
from streamsvc.venues.binance_spot import BinanceSpot
from streamsvc.watchdog.health import Health, Timeouts
from streamsvc.watchdog.watch import Watch

if TYPE_CHECKING:
    from streamsvc.persistence.losses import Losses
    from streamsvc.settings import Settings
    from streamsvc.shutdown import Shutdown
    from streamsvc.surroundings import Sealers, Surroundings
    from streamsvc.venues.venue import Stream, Venue


@attrs.frozen
class Parts:
    """What a recorder is made of.

    Attributes:
        health: How every stream is doing.
        sender: The channel to the writer; whoever runs the parts closes it.
        receiver: Its other end, for the writer.
        quarantine: Where unreadable text goes.
        intake: What every batch goes through.
        ledger: What tells the gap ledger what is missing.
        probes: Who asks the exchange for its last ids.
        analytics: What is derived of every block that is put into the channel.
        supervisor: Every connection.
        watch: Who judges streams and asks for repairs.
        last_run: What an earlier run has left.
        roster: What is recorded, and how that changes.
    """

    health: Health
    sender: BlockSender
    receiver: BlockReceiver
    quarantine: Quarantine
    intake: Intake
    ledger: Ledger
    probes: Probes
    analytics: Analytics
    supervisor: Supervisor
    watch: Watch
    last_run: LastRun
    roster: Roster

    @classmethod
    async def make(cls, settings: Settings, around: Surroundings) -> Self:
        """Make all parts; reads what an earlier run has left."""
        venues = _make_venues(settings)
        last_run = LastRun(Store(settings.data_dir / STORE_NAME), venues)
        choice = Choice(selections_of(settings), await around.run_blocking(last_run.read))
        plans = [plan for venue in venues.values() for plan in change_plans(venue, [], added=choice.streams(venue))]
        plans = repeat_plans(plans, settings.redundancy)
        health = Health((stream for plan in plans if not plan.copy for stream in plan.streams), settings.redundancy)
        sender, receiver = open_block_channel(settings.queue_max_bytes)
        quarantine = Quarantine()
        intake = Intake(health, sender, quarantine, late_ms=settings.latency_warn_ms, wall_ns=around.wall_ns)
        supervisor = Supervisor(
            plans,
            venues=venues,
            open_port=intake.open_port,
            open_budget=around.open_budget,
            wiring=_make_wiring(settings, around),
        )
        keep = partial(around.run_blocking, last_run.keep)
        parts = cls(
            health=health,
            sender=sender,
            receiver=receiver,
            quarantine=quarantine,
            intake=intake,
            ledger=Ledger(intake.chains, sender, around.wall_ns, settings.gap_grace_sec),
            probes=Probes(intake.chains),
            analytics=_make_analytics(settings, around, intake, sender),
            supervisor=supervisor,
            watch=_make_watch(settings, health, supervisor, intake),
            last_run=last_run,
            roster=Roster(choice, venues=venues, intake=intake, supervisor=supervisor, keep=keep),
        )
        parts.roster.on_removed = parts.analytics.remove
        return parts

    def tools(self, settings: Settings, around: Surroundings, sealers: Sealers, shutdown: Shutdown) -> Tools:
        """What persistence is given."""
        return Tools(
            run_blocking=around.run_blocking,
            seal=partial(sealers.seal, keeps_raw=settings.raw_archive),
            build_day=sealers.build_day,
            wall_ns=around.wall_ns,
            rows_by_symbol=self.intake.rows_by_symbol,
            reconnects=lambda: self.supervisor.statistics().reconnects,
            files=around.files,
            token=around.rng.getrandbits(32),
            resume=partial(self.last_run.go_on, self.intake),
            read_ids=read_ids,
            audit=partial(sealers.run_apart, "streamsvc.integrity.audit", "unknown_gaps"),
            tell_losses=self._tell_losses,
            tell_waiting=around.notifier.waiting,
            guard=shutdown.guard,
        )

    def _tell_losses(self, losses: Losses) -> None:
        # While the service ends nobody listens any more: the catalogue knows it, and tells the next start.
        with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            self.ledger.lost(losses)

    def finish(self) -> None:
        """Put into the channel what is held, what is derived of it, and what is missing."""
        # Where the writer has failed, nothing can be told any more; it says so itself.
        with suppress(trio.BrokenResourceError):
            self.intake.held.release()
            self.analytics.finish()
            self.ledger.tell()


def _make_venues(settings: Settings) -> dict[Market, Venue]:
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


def _make_wiring(settings: Settings, around: Surroundings) -> Wiring:
    return Wiring(
        dial=around.dial,
        ssl_context=around.ssl_context,
        tick=ReadTick(settings.read_tick_ms),
        wall_ns=around.wall_ns,
        rng=around.rng,
        settings=settings,
    )


def _make_analytics(settings: Settings, around: Surroundings, intake: Intake, sender: BlockSender) -> Analytics:
    analytics = Analytics(
        sender,
        wall_ns=around.wall_ns,
        reset=settings.cvd_reset,
        grace_sec=settings.analytics_grace_sec,
        is_recorded=lambda market, kind, symbol: intake.chains.find(market, kind, symbol) is not None,
    )
    sender.have_tapped(analytics.take)
    return analytics


def _make_watch(settings: Settings, health: Health, supervisor: Supervisor, intake: Intake) -> Watch:
    def resubscribe(stream: Stream, copy: int) -> bool:
        is_begun = supervisor.resubscribe(stream, copy)
        if is_begun:
            intake.chains.resubscribed(stream, intake.wall_ns())
        return is_begun

    return Watch(
        health,
        Timeouts(settings.trade_timeout, settings.orderbook_timeout, settings.first_message_sec),
        resubscribe=resubscribe,
        replace=supervisor.replace,
        now=trio.current_time(),
    )
