"""The catalogue's tables, and how those of an earlier version become them."""

from __future__ import annotations

from streamsvc.persistence import gap_table, losses

SCHEMA_VERSION = 2

_SCHEMA = """
create table runs (run integer primary key, token integer not null, started_ns integer not null) strict;
create table segments (
    segment text primary key, committed_ns integer not null, messages integer not null,
    inexact_decimals integer not null, first_received_ns integer, last_received_ns integer
) strict, without rowid;
create table files (
    path text primary key, segment text not null, kind text not null, market text not null, date text not null,
    rows integer not null, size_bytes integer not null, sha256 text not null,
    first_exchange_ns integer not null, last_exchange_ns integer not null
) strict, without rowid;
create table streams (
    market text not null, symbol text not null, kind text not null, epoch integer not null,
    last_id integer, last_exchange_ns integer not null, last_received_ns integer not null, messages integer not null,
    primary key (market, symbol, kind, epoch)
) strict, without rowid;
create table quarantined (
    segment text not null, reason text not null, messages integer not null, primary key (segment, reason)
) strict, without rowid;
create table quarantined_ids (
    segment text not null, market text not null, symbol text not null, kind text not null, epoch integer not null,
    first_id integer not null, last_id integer not null, reason text not null
) strict;
create table damage (
    segment text not null, reason text not null, size_bytes integer not null, primary key (segment, reason)
) strict, without rowid;
create table pending (task text primary key) strict, without rowid;
create table bans (
    host text primary key, until_ns integer not null, status integer not null, reason text, opened_ns integer not null
) strict, without rowid;
"""


def statements_since(version: int) -> list[str]:
    """What makes the tables of this version of those of another; 0: of nothing (pure)."""
    added = {0: _SCHEMA + gap_table.TABLE, 1: losses.TABLES}
    return [
        statement
        for since, statements in sorted(added.items())
        for statement in statements.split(";")
        if since >= version and statement.strip()
    ]
