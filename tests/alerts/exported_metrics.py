"""What a recorder exports at /metrics: names as they stand in a query, and their labels.

`test_process_prometheus.py` compares this with what a real one answers.
"""

from __future__ import annotations

import re
from typing import Final

COUNTERS: Final = {
    "ws_reconnects_total": {"market"},
    "streamsvc_messages_total": {"market", "kind"},
    "streamsvc_bytes_total": {"market", "kind"},
    "streamsvc_backfilled_rows_total": {"market"},
    "streamsvc_journal_written_bytes_total": set(),
    "streamsvc_segments_sealed_total": set(),
    "streamsvc_segments_failed_total": set(),
    "streamsvc_cvd_mismatches_total": {"market"},
    "streamsvc_quarantined_total": set(),
    "streamsvc_duplicates_total": set(),
    "streamsvc_shed_total": set(),
    "process_cpu_seconds_total": set(),
}
GAUGES: Final = {
    "concurrent_tasks_active": set(),
    "streamsvc_streams": {"market", "state"},
    "streamsvc_connections": {"market", "state"},
    "streamsvc_last_message_timestamp_seconds": {"market"},
    "streamsvc_gaps": {"market", "kind", "status"},
    "streamsvc_writer_state": {"state"},
    "streamsvc_journal_unsealed_bytes": set(),
    "streamsvc_journal_unsealed_segments": set(),
    "streamsvc_journal_unsynced_age_seconds": set(),
    "streamsvc_queue_bytes": set(),
    "streamsvc_queue_limit_bytes": set(),
    "streamsvc_disk_free_bytes": set(),
    "streamsvc_disk_reserve_bytes": set(),
    "streamsvc_parquet_files": set(),
    "streamsvc_parquet_bytes": set(),
    "streamsvc_rest_weight_used": {"market"},
    "streamsvc_rest_weight_limit": {"market"},
    "streamsvc_rest_closed_seconds": {"market"},
    "streamsvc_ready": set(),
    "streamsvc_info": {"version"},
    "streamsvc_start_time_seconds": set(),
    "process_start_time_seconds": set(),
    "process_resident_memory_bytes": set(),
    "process_open_fds": set(),
}
HISTOGRAMS: Final = {
    "binance_ws_latency_seconds": {"market"},
    "msg_lag_seconds": set(),
    "streamsvc_seal_seconds": set(),
    "streamsvc_parquet_file_bytes": set(),
}
"""Of which rules and panels use the buckets alone: a sum of what may be negative is no counter."""

METRICS: Final[dict[str, set[str]]] = (
    COUNTERS | GAUGES | {f"{name}_bucket": labels | {"le"} for name, labels in HISTOGRAMS.items()}
)
OF_PROMETHEUS: Final = {"up": set(), "ALERTS": {"alertname", "alertstate", "severity"}}
OF_TARGETS: Final = {"job", "instance"}

_NOT_NAMES = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right"}
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """The metrics that a query names, each with the labels that it selects them by."""
    text = _GROUPING.sub(" ", expression)
    found = []
    for match in re.finditer(r"([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?(\s*\()?|\"[^\"]*\"|\[[^\]]*\]", text):
        name, labels, is_function = match.groups()
        if name and not is_function and name not in _NOT_NAMES:
            found.append((name, set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"", labels or ""))))
    return found


def unknown(expression: str, recorded: set[str]) -> list[str]:
    """What a query names that nobody exports: metrics, or labels of metrics; `recorded` are the recording rules."""
    known = METRICS | OF_PROMETHEUS
    problems = []
    for name, labels in selectors(expression):
        if name in recorded:
            continue
        if name not in known:
            problems.append(name)
        elif extra := labels - known[name] - OF_TARGETS:
            problems.append(f"{name} by {sorted(extra)}")
    return problems
