"""Settings: where values come from, what is allowed, what is said about wrong ones."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streamsvc import log
from streamsvc.errors import UsageError
from streamsvc.schema import STREAM_KINDS, Market
from streamsvc.settings import Settings
from streamsvc.settings.fields import setting_of
from streamsvc.settings.show import env_example, setting_rows
from streamsvc.settings.source import LoadedSettings, load_settings
from streamsvc.settings.values import SYMBOLS_MAX, is_pattern, parse_symbols

NOWHERE = Path("/nonexistent")
SPOT = {"SPOT_SYMBOLS": "BTCUSDT"}
KEY = "canary-7f3a9c-secret"


@pytest.fixture(autouse=True)
def forgotten_secrets(monkeypatch):
    monkeypatch.setattr(log, "_secrets", set())


def load(variables: dict[str, str], folder: Path = NOWHERE) -> LoadedSettings:
    return load_settings(SPOT | variables, folder)


def problem(variables: dict[str, str], folder: Path = NOWHERE) -> str:
    with pytest.raises(UsageError) as caught:
        load_settings(SPOT | variables, folder)
    return str(caught.value)


DEFAULTS = {
    "SPOT_SYMBOLS": "",
    "FUTURES_SYMBOLS": "",
    "SYMBOLS_FILE": "",
    "SPOT_KINDS": "trade,depth,bookTicker",
    "FUTURES_KINDS": "trade,depth,bookTicker",
    "DATA_DIR": "./data",
    "BINANCE_SPOT_WS_URL": "wss://stream.binance.com:9443",
    "BINANCE_SPOT_REST_URL": "https://api.binance.com",
    "BINANCE_FUTURES_WS_URL": "wss://fstream.binance.com",
    "BINANCE_FUTURES_REST_URL": "https://fapi.binance.com",
    "TLS_CA_FILE": "",
    "MAX_CONNECTION_AGE_SEC": "82800",
    "STREAM_IDLE_SEC": "120",
    "PING_INTERVAL_SEC": "20",
    "PING_TIMEOUT_SEC": "10",
    "TRADE_TIMEOUT": "150",
    "ORDERBOOK_TIMEOUT": "180",
    "GAP_GRACE_SEC": "5",
    "LATENCY_WARN_MS": "200",
    "HEALTH_CHECK_INTERVAL": "25",
    "SAVE_CONCURRENCY": "2",
    "PARQUET_ROTATE_SEC": "60",
    "EXTREME_TRAFFIC_THRESHOLD": "30000",
    "EXTREME_ROTATE_SEC": "30",
    "JOURNAL_SYNC_SEC": "1",
    "JOURNAL_WRITE_MS": "20",
    "SEGMENT_MAX_MB": "64",
    "UNSEALED_MAX_MB": "2048",
    "QUEUE_MAX_MB": "64",
    "MESSAGE_MAX_MB": "8",
    "QUARANTINE_MAX_MB": "64",
    "DISK_RESERVE_MB": "512",
    "BACKPRESSURE_SEC": "20",
    "READ_TICK_MS": "4",
    "SPOT_DEPTH_MS": "100",
    "FUTURES_DEPTH_MS": "100",
    "MARK_PRICE_SEC": "1",
    "FUTURES_TRADE_ROUTE": "auto",
    "BINANCE_API_KEY": "",
    "BINANCE_API_KEY_FILE": "",
    "DRAIN_SEC": "20",
    "RUN_HOURS": "",
    "RETENTION_DAYS": "",
    "RAW_ARCHIVE": "false",
    "LOG_LEVEL": "info",
    "LOG_FORMAT": "json",
    "SNAPSHOT_INTERVAL_SEC": "3600",
    "SNAPSHOT_LEVELS": "1000",
    "INSTRUMENTS_INTERVAL_SEC": "3600",
    "REST_WEIGHT_SHARE": "0.5",
    "REDUNDANCY": "1",
    "CONNECT_TIMEOUT_SEC": "20",
    "FIRST_MESSAGE_SEC": "60",
    "RECONNECT_MIN_SEC": "1",
    "RECONNECT_MAX_SEC": "60",
    "STABLE_SEC": "60",
    "CLOSE_TIMEOUT_SEC": "2",
    "DISK_RETRY_SEC": "5",
    "SEAL_ATTEMPTS": "3",
    "CVD_RESET": "never",
    "ANALYTICS_GRACE_SEC": "2",
    "METRICS_PER_SYMBOL": "false",
    "HTTP_LISTEN": "127.0.0.1:9464",
}
"""The contract: names and defaults that users rely on."""


def test_the_defaults():
    """Names and defaults are a contract."""
    rows = setting_rows(load_settings({}, NOWHERE, must_record=False))
    assert DEFAULTS == {row.variable: row.value for row in rows}
    assert {"default"} == {row.source for row in rows}


def test_made_by_hand():
    """Tests and the demo make settings without an environment; the two ways give the same."""
    assert load({}).settings == Settings(spot_symbols=("BTCUSDT",))


def test_env_example_is_the_table():
    """.env.example lists every variable with its sentence, what is allowed, and its default."""
    text = (Path(__file__).parent.parent / ".env.example").read_text()
    assert env_example() == text
    for attribute in attrs.fields(Settings):
        assert f"#{attribute.name.upper()}={DEFAULTS[attribute.name.upper()]}\n" in text
        assert setting_of(attribute).sentence in text
        assert setting_of(attribute).allowed in text


def test_env_example_uncommented_gives_the_defaults(tmp_path):
    """Whoever uncomments a line changes nothing until he edits it."""
    lines = env_example().splitlines()
    (tmp_path / ".env").write_text("\n".join(re.sub("^#([A-Z])", r"\1", line) for line in lines))
    assert load_settings({}, tmp_path, must_record=False).settings == Settings()


def test_environment_wins_over_dotenv_and_empty_means_unset(tmp_path):
    """environment > .env > default; an empty text is as good as none."""
    (tmp_path / ".env").write_text('TRADE_TIMEOUT=7 # why\nexport ORDERBOOK_TIMEOUT="8"\nDRAIN_SEC=9\nLOG_LEVEL=\n')
    loaded = load({"TRADE_TIMEOUT": "70", "DRAIN_SEC": "  ", "RUN_HOURS": ""}, tmp_path)
    settings = loaded.settings
    assert (70, 8, 9) == (settings.trade_timeout, settings.orderbook_timeout, settings.drain_sec)
    assert (None, "info") == (settings.run_hours, settings.log_level)
    sources = {row.variable: row.source for row in setting_rows(loaded)}
    expected = {
        "TRADE_TIMEOUT": "environment",
        "ORDERBOOK_TIMEOUT": ".env",
        "DRAIN_SEC": ".env",
        "RUN_HOURS": "default",
        "LOG_LEVEL": "default",
    }
    assert expected == {name: sources[name] for name in expected}


def test_dotenv_does_not_expand_other_variables(tmp_path, monkeypatch):
    """What stands in .env is what is in force."""
    monkeypatch.setenv("HOME_OF_IT", "/secret")
    (tmp_path / ".env").write_text("DATA_DIR=${HOME_OF_IT}/x\n")
    assert Path("${HOME_OF_IT}/x") == load({}, tmp_path).settings.data_dir


def test_a_broken_dotenv_is_told_by_line_beside_other_faults(tmp_path):
    """Lines are told by number, not by text, which may be a secret; nothing else is kept back."""
    (tmp_path / ".env").write_text(f"SPOT_SYMBOLS=BTCUSDT\nBINANCE_API_KEY {KEY}\n=3\n")
    text = problem({"TRADE_TIMEOUT": "x"}, tmp_path)
    assert "lines that are not NAME=value: 2, 3" in text
    assert "TRADE_TIMEOUT='x'" in text
    assert KEY not in text


@pytest.mark.parametrize("content", [b"A=\xff\xfe", b"A=" + b"x" * (1 << 20)])
def test_a_dotenv_that_is_no_text_or_too_large(tmp_path, content):
    (tmp_path / ".env").write_bytes(content)
    assert "the file .env" in problem({}, tmp_path)


def test_a_folder_named_dotenv_is_ignored(tmp_path):
    """A virtual environment is often called .env."""
    (tmp_path / ".env").mkdir()
    assert ("BTCUSDT",) == load({}, tmp_path).settings.spot_symbols


def test_what_has_no_effect_is_told(tmp_path):
    """Misspelt variables do not pass in silence; foreign environment variables do."""
    (tmp_path / ".env").write_text("SPOT_SYMBOL=ETHUSDT\nCVD_RESET=daily\n")
    loaded = load({"PATH": "/bin", "METRICS_PER_SYMBOL": ""}, tmp_path)
    with capture_logs() as events:
        loaded.log_warnings()
    assert [{"event": "settings_unknown", "log_level": "warning", "variables": ["SPOT_SYMBOL"]}] == events


@pytest.mark.parametrize("text", ["0.0.0.0:80", "[::1]:9464", "localhost:9464", ""])
def test_where_to_listen(text):
    """A variable that is set to nothing means: nowhere."""
    assert text == load({"HTTP_LISTEN": text}).settings.http_listen


@pytest.mark.parametrize(
    "text", ["9464", ":9464", "localhost", "localhost:0", "a b:1", "http://a:1", "a:1/x", "a:99999"]
)
def test_nowhere_to_listen(text):
    assert "HTTP_LISTEN=" in problem({"HTTP_LISTEN": text})


def test_nothing_to_record():
    """The message says which variables to set; whoever only looks at the settings may have none."""
    with pytest.raises(UsageError, match=r"nothing to record.*SPOT_SYMBOLS or FUTURES_SYMBOLS.*SYMBOLS_FILE"):
        load_settings({"SPOT_SYMBOLS": " , "}, NOWHERE)
    assert () == load_settings({}, NOWHERE, must_record=False).settings.spot_symbols


WRONG = {
    "SPOT_SYMBOLS": [
        "BTC USDT",
        "BTC/USDT",
        "btcusdt@trade",
        "A\x07",
        "A\u200b",
        "[A-Z]USDT",
        "**" + "X" * 63,
        "X" * 65,
        "..\\x",
        "\ud800",
    ],
    "FUTURES_SYMBOLS": ["BTC USDT"],
    "SYMBOLS_FILE": ["/nonexistent/symbols.toml", "/tmp"],
    "SPOT_KINDS": ["trades", "Trade", "markPrice", "forceOrder", "cvd_1m", ","],
    "FUTURES_KINDS": ["instrument", "trade;depth"],
    "DATA_DIR": ["/dev/null", "a\nb"],
    "BINANCE_SPOT_WS_URL": [
        "stream.binance.com",
        "https://stream.binance.com",
        "wss://",
        "wss://x/ws",
        "wss://x?y",
        "wss://x#y",
        "wss://x:0",
        "wss://x:99999",
        "wss://x:y",
        "wss://[::1",
        "wss://a b",
        "wss://user@host",
    ],
    "BINANCE_FUTURES_WS_URL": ["http://x"],
    "BINANCE_SPOT_REST_URL": ["wss://x", "https://x/api"],
    "BINANCE_FUTURES_REST_URL": ["ftp://x"],
    "TLS_CA_FILE": ["/nonexistent.pem", "/dev/null", __file__],
    "SPOT_DEPTH_MS": ["0", "250", "1e2"],
    "FUTURES_DEPTH_MS": ["1000", "-100"],
    "MARK_PRICE_SEC": ["2"],
    "FUTURES_TRADE_ROUTE": ["private"],
    "BINANCE_API_KEY": ["short", "has space", "é" * 10, "x" * 4097, "new\nline"],
    "BINANCE_API_KEY_FILE": ["/nonexistent", "/"],
    "TRADE_TIMEOUT": ["x", "-1", "0", "0.99", "nan", "inf", "1e3", "1_0", "٣", "604801", "1.", ".5", "0x10", "1,5"],
    "SAVE_CONCURRENCY": ["0", "1.0", "65", "two"],
    "PING_INTERVAL_SEC": ["0.5", "-0.1", "3601"],
    "SEGMENT_MAX_MB": ["0", "2001", "64MB"],
    "LOG_LEVEL": ["loud", "critical"],
    "RAW_ARCHIVE": ["yes", "1", "on", "truee", "none"],
    "LOG_FORMAT": ["xml"],
    "RUN_HOURS": ["0", "-1", "forever"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in WRONG.items() for text in texts])
def test_a_wrong_value(name, text):
    """The message names the variable, its value unless secret, and what is allowed."""
    message = problem({name: text})
    attribute = getattr(attrs.fields(Settings), name.lower())
    (line,) = message.splitlines()[1:]
    shown = "***" if name == "BINANCE_API_KEY" else repr(text[:80])
    if "@host" not in text:
        assert line.startswith(f"  {name}={shown} (environment): ")
    assert line.endswith(f"; allowed: {setting_of(attribute).allowed}")


@pytest.mark.parametrize("attribute", [a for a in attrs.fields(Settings) if isinstance(a.default, int | float)])
def test_every_number_has_limits(attribute):
    """No number is without bounds: a million digits, a negative or a word are wrong everywhere."""
    for text in ("9" * 15, "9" * 10_000, "-1", "many"):
        assert f"{attribute.name.upper()}=" in problem({attribute.name.upper(): text})


def test_every_wrong_variable_is_named_at_once(tmp_path):
    """One message names all: from the environment, from .env, from files, and what does not fit together."""
    (tmp_path / ".env").write_text("READ_TICK_MS=-1\nDRAIN_SEC=never\n")
    symbols = tmp_path / "symbols.toml"
    symbols.write_text('[spot]\nsymbols = ["A B"]\nkinds = ["x"]\n[futures]\nkinds = []\n')
    variables = {
        "SYMBOLS_FILE": str(symbols),
        "LOG_LEVEL": "loud",
        "RECONNECT_MAX_SEC": "0.5",
        "UNSEALED_MAX_MB": "32",
        "BINANCE_API_KEY": "a b",
    }
    lines = problem(variables, tmp_path).splitlines()
    assert "wrong settings:" == lines[0]
    assert [
        "SYMBOLS_FILE",
        "SYMBOLS_FILE",
        "SYMBOLS_FILE",
        "BINANCE_API_KEY",
        "RECONNECT_MAX_SEC",
        "READ_TICK_MS",
        "UNSEALED_MAX_MB",
        "DRAIN_SEC",
        "LOG_LEVEL",
    ] == [line.strip().partition("=")[0] for line in lines[1:]]
    assert "less than RECONNECT_MIN_SEC, which is 1" in lines[5]
    assert "less than SEGMENT_MAX_MB, which is 64" in lines[7]


def test_symbols_are_upper_case_once_and_in_order():
    settings = load({"SPOT_SYMBOLS": " btcusdt, ETHUSDT ,BtcUsdt,,币安人生usdt "}).settings
    assert ("BTCUSDT", "ETHUSDT", "币安人生USDT") == settings.spot_symbols


def test_too_many_symbols():
    assert f"{SYMBOLS_MAX + 1} symbols" in problem({"SPOT_SYMBOLS": ",".join(map(str, range(SYMBOLS_MAX + 1)))})


@pytest.mark.parametrize("market", Market)
def test_every_kind_of_a_market_can_be_asked_for(market):
    text = ",".join(kind.label for kind in STREAM_KINDS[market])
    settings = load({f"{market.label.upper()}_KINDS": text + "," + text}).settings
    assert STREAM_KINDS[market] == getattr(settings, f"{market.label}_kinds")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ws://127.0.0.1:8080", "ws://127.0.0.1:8080"),
        ("WSS://Stream.Example.com:443/", "wss://Stream.Example.com:443"),
        ("ws://[::1]:9", "ws://[::1]:9"),
    ],
)
def test_urls_of_a_local_exchange(text, expected):
    """Plain schemes are allowed, a slash at the end is dropped."""
    assert expected == load({"BINANCE_FUTURES_WS_URL": text}).settings.binance_futures_ws_url


def test_a_certificate_authority(tmp_path):
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    assert path == load({"TLS_CA_FILE": str(path)}).settings.tls_ca_file


def test_a_password_in_a_url_is_refused_and_not_shown():
    message = problem({"BINANCE_SPOT_REST_URL": f"https://me:{KEY}@x"})
    assert "BINANCE_SPOT_REST_URL='https://***@x'" in message
    assert KEY not in message


@pytest.mark.parametrize("text", ["0", "0.0"])
def test_no_pings(text):
    assert 0 == load({"PING_INTERVAL_SEC": text, "PING_TIMEOUT_SEC": text}).settings.ping_interval_sec


def test_sizes_in_bytes():
    settings = load({"MESSAGE_MAX_MB": "1"}).settings
    assert (1_048_576, 67_108_864) == (settings.message_max_bytes, settings.queue_max_bytes)


def test_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/quant")
    assert Path("/home/quant/data") == load({"DATA_DIR": "~/data"}).settings.data_dir


def test_importing_settings_is_cheap():
    """The service must be recording within half a second: nothing of the data libraries comes with its settings."""
    code = (
        "import sys, streamsvc.settings.source; "
        "print([name for name in ('typed_settings', 'click', 'httpx2', 'numpy', 'trio', 'dotenv') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.strip()


@given(st.integers(min_value=1, max_value=604_800_000_000))
def test_every_decimal_within_the_limits_is_taken_as_it_stands(micros):
    text = f"{micros // 1_000_000}.{micros % 1_000_000:06}"
    if micros < 1_000_000:
        assert "out of range" in problem({"TRADE_TIMEOUT": text})
    else:
        assert float(text) == load({"TRADE_TIMEOUT": text}).settings.trade_timeout


@given(st.text())
def test_any_text_as_a_number_is_taken_or_refused_by_name(text):
    """No text crashes the reader of numbers, and what is taken lies within the limits."""
    message = ""
    try:
        value = load({"TRADE_TIMEOUT": text}).settings.trade_timeout
    except UsageError as error:
        message, value = str(error), 1.0
    assert not message or "TRADE_TIMEOUT=" in message
    assert 1 <= value <= 604_800


@given(st.lists(st.text(max_size=10), max_size=10))
def test_any_list_of_symbols_is_taken_or_refused(items):
    """What is taken is upper case, each once, safe in a URL and in a log; taking it again changes nothing."""
    try:
        symbols = parse_symbols(items)
    except ValueError:
        return
    assert len(set(symbols)) == len(symbols)
    assert symbols == parse_symbols(symbols)
    for symbol in symbols:
        wildcards = set("*?") if is_pattern(symbol) else set()
        assert not (set(symbol) - wildcards) & set(" \t\n/@?&=#,*%\\\"'<>|\0")
        assert symbol.isprintable()


@pytest.mark.parametrize(("text", "value"), [("true", True), ("True", True), ("false", False), ("FALSE", False)])
def test_a_switch_is_true_or_false_and_nothing_else(text, value):
    """`false` is a text that is not empty, and not true for it."""
    assert value is load({"RAW_ARCHIVE": text}).settings.raw_archive
