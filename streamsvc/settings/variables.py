"""The settings: one attribute a variable, with its unit, default, limits and meaning.

An attribute is its variable in lower case. `.env.example`, `streamsvc config` and the messages about wrong values are
made from this table; `source.py` reads it from the environment, `.env` and files. Making `Settings` by hand
checks nothing, so tests may go beyond the limits.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - cattrs resolves the attributes' types
from typing import Literal

import attrs

from streamsvc.schema import Kind, Market
from streamsvc.settings.fields import (
    choice,
    folder,
    kinds,
    listen,
    number,
    optional_file,
    optional_number,
    optional_secret,
    switch,
    symbols,
    url,
)
from streamsvc.settings.values import SecretStr, read_small_file

_MB = 1 << 20


def _check_certificate(path: Path) -> None:
    import ssl  # noqa: PLC0415 - costs 15 ms, and few need one more authority

    read_small_file(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise ValueError("it holds no certificate that can be read") from error
    if not context.cert_store_stats()["x509"]:
        raise ValueError("it holds no certificate")


@attrs.frozen(kw_only=True)
class Settings:
    """All settings in force. Sizes in MB are of 1,048,576 bytes."""

    spot_symbols: tuple[str, ...] = symbols("Symbols of the spot market to record, and patterns such as *USDT.")
    futures_symbols: tuple[str, ...] = symbols(
        "Symbols of the USD-M futures market to record, and patterns such as *USDT."
    )
    symbols_file: Path | None = optional_file(
        read_small_file,
        "a TOML file of at most 1 MB",
        "Tables [spot] and [futures] with symbols and kinds; it wins over the variables, and is watched while it runs.",
    )
    spot_kinds: tuple[Kind, ...] = kinds(Market.SPOT, "Kinds of message recorded of each spot symbol.")
    futures_kinds: tuple[Kind, ...] = kinds(Market.FUTURES, "Kinds of message recorded of each futures symbol.")
    data_dir: Path = folder("./data", "Folder of journal, Parquet files and catalogue; one instance each.")

    binance_spot_ws_url: str = url(
        "wss://stream.binance.com:9443", ("wss", "ws"), "Base URL of the spot market's streams."
    )
    binance_spot_rest_url: str = url(
        "https://api.binance.com", ("https", "http"), "Base URL of the spot market's REST."
    )
    binance_futures_ws_url: str = url(
        "wss://fstream.binance.com", ("wss", "ws"), "Base URL of the futures market's streams; the route is added."
    )
    binance_futures_rest_url: str = url(
        "https://fapi.binance.com", ("https", "http"), "Base URL of the futures market's REST."
    )
    tls_ca_file: Path | None = optional_file(
        _check_certificate, "a file with a certificate in PEM form", "One more authority to trust."
    )
    spot_depth_ms: int = choice(100, "ms", (100, 1000), "Time between order-book updates asked of spot.")
    futures_depth_ms: int = choice(100, "ms", (0, 100, 250, 500), "Time between order-book updates asked of futures.")
    mark_price_sec: int = choice(1, "s", (1, 3), "Time between mark prices asked of futures.")
    futures_trade_route: Literal["auto", "public", "market"] = choice(
        "auto", "", ("auto", "public", "market"), "Route of futures trades; auto tries the other one after silence."
    )
    binance_api_key: SecretStr | None = optional_secret("API key, for what the exchange does not give without.")
    binance_api_key_file: Path | None = optional_file(
        read_small_file, "a file that holds the key alone", "File with the API key, e.g. a systemd credential."
    )

    snapshot_interval_sec: float = number(
        3600.0,
        "s",
        (10, 604800),
        "Time between snapshots of a synced order book; a broken one gets one at once.",
    )
    snapshot_levels: int = choice(1000, "", (100, 500, 1000), "Levels a side that a snapshot has.")
    instruments_interval_sec: float = number(
        3600.0,
        "s",
        (60, 86400),
        "Time between looks at what the exchange says of each symbol; a change is recorded, and all once a day.",
    )
    rest_weight_share: float = number(
        0.5, "", (0.42, 1), "Part of what the exchange's REST takes from one address in a minute that may be ours."
    )

    redundancy: int = choice(
        1, "", (1, 2), "Connections that carry each stream at once; with 2, either may die, stall or lag without a gap."
    )
    connect_timeout_sec: float = number(
        20.0, "s", (0.1, 600), "Limit of dialling, TLS and WebSocket handshake together."
    )
    first_message_sec: float = number(
        60.0, "s", (0.1, 86400), "A stream without its first message this long after subscribing is suspect."
    )
    max_connection_age_sec: float = number(
        82800.0, "s", (1, 604800), "A connection is replaced after this, without a gap, before the exchange ends it."
    )
    stream_idle_sec: float = number(120.0, "s", (1, 86400), "A connection without a message this long is dropped.")
    ping_interval_sec: float = number(20.0, "s", (1, 3600), "Time between our own pings; 0: none.", or_zero=True)
    ping_timeout_sec: float = number(
        10.0,
        "s",
        (0.1, 600),
        "A connection that leaves a ping unanswered this long is dropped; 0: no pings.",
        or_zero=True,
    )
    close_timeout_sec: float = number(2.0, "s", (0.1, 60), "Limit of the closing handshake.")
    reconnect_min_sec: float = number(1.0, "s", (0.01, 600), "First bound of the random wait before a new attempt.")
    reconnect_max_sec: float = number(60.0, "s", (0.01, 3600), "Bound up to which that wait doubles.")
    stable_sec: float = number(
        60.0, "s", (0.1, 86400), "A connection must live and deliver this long before the waits start over."
    )
    read_tick_ms: int = number(
        4, "ms", (0, 1000), "Pause of all connections between small reads, a quarter of it while much comes; 0: none."
    )

    trade_timeout: float = number(150.0, "s", (1, 604800), "A symbol's trades (aggTrades) count as stalled after this.")
    orderbook_timeout: float = number(
        180.0, "s", (1, 604800), "A symbol's depth, bookTicker, markPrice and kline count as stalled after this."
    )
    gap_grace_sec: float = number(
        5.0, "s", (0.1, 600), "A missing id is held this long, since it may still come, before it counts as a gap."
    )
    latency_warn_ms: int = number(
        200, "ms", (1, 86_400_000), "Receive time minus event time above which a stream is logged as late."
    )
    health_check_interval: float = number(25.0, "s", (0.1, 3600), "Time between two looks at every stream.")

    save_concurrency: int = number(2, "", (1, 64), "Sealers, each a process, at a time.")
    parquet_rotate_sec: float = number(60.0, "s", (0.1, 86400), "A journal segment is closed and sealed after this.")
    extreme_traffic_threshold: int = number(
        30000, "rows", (1, 1_000_000_000), "Rows of one symbol in the open segment that switch to the short rotation."
    )
    extreme_rotate_sec: float = number(30.0, "s", (0.1, 86400), "The short rotation.")
    journal_sync_sec: float = number(
        1.0, "s", (0.01, 3600), "Time between syncs of the journal: what a power cut costs."
    )
    journal_write_ms: int = number(20, "ms", (0, 10_000), "Longest time from receipt to write().")
    segment_max_mb: int = number(64, "MB", (1, 2000), "A segment is closed at this size; it bounds a sealer's memory.")
    seal_attempts: int = number(3, "", (1, 100), "A segment that fails so often moves to journal/failed/.")
    unsealed_max_mb: int = number(
        2048, "MB", (2, 10_000_000), "Unsealed journal on disk above which reading slows down."
    )
    queue_max_mb: int = number(64, "MB", (1, 100_000), "Messages in memory between connections and journal.")
    message_max_mb: int = number(8, "MB", (1, 1000), "Longest message; a longer one ends its connection.")
    quarantine_max_mb: int = number(64, "MB", (1, 1_000_000), "Kept text that could not be decoded.")
    disk_reserve_mb: int = number(512, "MB", (0, 100_000_000), "Free disk below which intake pauses; sealing goes on.")
    disk_retry_sec: float = number(5.0, "s", (0.1, 3600), "Time between looks whether a full disk has room again.")
    backpressure_sec: float = number(
        20.0, "s", (0.1, 3600), "How long reading may wait for the journal before the connection is closed on purpose."
    )

    drain_sec: float = number(20.0, "s", (0.1, 3600), "Limit of writing and sealing after a signal to stop.")
    run_hours: float | None = optional_number("h", (0.0001, 1_000_000), "Stop by itself after this; empty: never.")
    retention_days: int | None = optional_number("d", (1, 100_000), "Full UTC days kept; empty: all.")
    raw_archive: bool = switch(False, "Keep sealed segments, compressed, in archive/; see `streamsvc export-raw`.")
    cvd_reset: Literal["never", "daily"] = choice(
        "never", "", ("never", "daily"), "When the running sum of signed volume (CVD) starts over: daily at 0:00 UTC."
    )
    analytics_grace_sec: float = number(
        2.0, "s", (0, 3600), "A minute or second of CVD, bars, OFI and prices stays open this long for what comes late."
    )
    metrics_per_symbol: bool = switch(False, "Add metrics of every symbol and kind, some three series a stream.")
    http_listen: str = listen("127.0.0.1:9464", "Where metrics, health and the live page are served; empty: nowhere.")
    log_level: Literal["debug", "info", "warning", "error"] = choice(
        "info", "", ("debug", "info", "warning", "error"), "Lowest level of events logged."
    )
    log_format: Literal["json", "console"] = choice(
        "json", "", ("json", "console"), "One JSON object a line, or lines for people."
    )

    @property
    def segment_max_bytes(self) -> int:
        """`SEGMENT_MAX_MB` in bytes."""
        return self.segment_max_mb * _MB

    @property
    def unsealed_max_bytes(self) -> int:
        """`UNSEALED_MAX_MB` in bytes."""
        return self.unsealed_max_mb * _MB

    @property
    def queue_max_bytes(self) -> int:
        """`QUEUE_MAX_MB` in bytes."""
        return self.queue_max_mb * _MB

    @property
    def message_max_bytes(self) -> int:
        """`MESSAGE_MAX_MB` in bytes."""
        return self.message_max_mb * _MB

    @property
    def quarantine_max_bytes(self) -> int:
        """`QUARANTINE_MAX_MB` in bytes."""
        return self.quarantine_max_mb * _MB

    @property
    def disk_reserve_bytes(self) -> int:
        """`DISK_RESERVE_MB` in bytes."""
        return self.disk_reserve_mb * _MB
