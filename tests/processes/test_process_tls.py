"""Certificates in earnest: who is believed, and that nobody else is."""

from __future__ import annotations

import pytest
from recorded import journal_rows, verified

from streamsvc.simulator.serve import make_tls


async def test_an_authority_that_is_named(stage_of, start, tmp_path):
    """With TLS_CA_FILE both markets are recorded over TLS, on two ports."""
    stage = await stage_of(tls=make_tls(tmp_path / "authority.pem"))
    recorder = start(stage, TLS_CA_FILE=str(tmp_path / "authority.pem"))
    assert {"wss"} == {url[:3] for name, url in stage.addresses.settings.items() if "WS" in name}

    await recorder.saw("rotated")

    assert 0 == await recorder.stop()
    report = verified(recorder.data)
    assert [] == report.gaps
    assert {"spot", "futures"} == {stream.market for stream in report.coverage}
    assert 2 == len(set(stage.addresses.ports.values()))


@pytest.mark.parametrize("case", ["unknown authority", "another authority", "wrong host"])
async def test_a_certificate_that_must_not_be_believed(stage_of, start, tmp_path, case):
    """The connection is refused with an error in the log, and nothing is recorded or asked for."""
    host = "example.org" if case == "wrong host" else "127.0.0.1"
    stage = await stage_of(tls=make_tls(tmp_path / "authority.pem", host))
    make_tls(tmp_path / "other.pem")
    named = {
        "unknown authority": {},
        "another authority": {"TLS_CA_FILE": str(tmp_path / "other.pem")},
        "wrong host": {"TLS_CA_FILE": str(tmp_path / "authority.pem")},
    }
    recorder = start(stage, **named[case])

    await recorder.saw("connection_failed", 2)

    failed = recorder.events("connection_failed")
    assert {("tls", "error")} == {(event["cause"], event["level"]) for event in failed}
    assert {"spot-1", "futures-public-1"} == {event["connection"] for event in failed}
    assert [] == stage.exchange.connections()
    assert {} == stage.sent()
    assert {} == journal_rows(recorder.data)
    assert 0 == await recorder.stop()
