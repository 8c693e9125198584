"""Settings that come from files, and those that nobody may see."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from streamsvc import log
from streamsvc.errors import UsageError
from streamsvc.schema import Kind
from streamsvc.settings.show import setting_rows
from streamsvc.settings.source import LoadedSettings, load_settings
from streamsvc.settings.values import SecretStr

NOWHERE = Path("/nonexistent")
SPOT = {"SPOT_SYMBOLS": "BTCUSDT"}
KEY = "canary-7f3a9c-secret"


def load(variables: dict[str, str], folder: Path = NOWHERE) -> LoadedSettings:
    return load_settings(SPOT | variables, folder)


def problem(variables: dict[str, str], folder: Path = NOWHERE) -> str:
    with pytest.raises(UsageError) as caught:
        load_settings(SPOT | variables, folder)
    return str(caught.value)


@pytest.fixture(autouse=True)
def forgotten_secrets(monkeypatch):
    monkeypatch.setattr(log, "_secrets", set())


class TestSymbolsFile:
    def write(self, folder: Path, text: str) -> dict[str, str]:
        path = folder / "symbols.toml"
        path.write_text(text)
        return {"SYMBOLS_FILE": str(path)}

    def test_it_wins_where_it_says_something(self, tmp_path):
        """A table wins over the variables of its market; what it does not name stays as the variables have it."""
        variables = self.write(tmp_path, '[spot]\nsymbols = ["ethusdt", "ETHUSDT"]\n[futures]\nkinds = ["markPrice"]\n')
        loaded = load(variables | {"FUTURES_SYMBOLS": "SOLUSDT", "SPOT_KINDS": "depth"})
        settings = loaded.settings
        assert (("ETHUSDT",), (Kind.DEPTH,)) == (settings.spot_symbols, settings.spot_kinds)
        assert (("SOLUSDT",), (Kind.MARK_PRICE,)) == (settings.futures_symbols, settings.futures_kinds)
        assert "file" == loaded.sources["spot_symbols"]
        assert "environment" == loaded.sources["futures_symbols"]

    def test_it_may_name_nothing(self, tmp_path):
        """An empty list in the file empties the market."""
        with pytest.raises(UsageError, match="nothing to record"):
            load(self.write(tmp_path, "[spot]\nsymbols = []\n"))

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("[spot", "Expected ']'"),
            ("spot = 3\n", "not a table @ file.spot"),
            ("[spot]\nsymbols = 'BTCUSDT'\n", "not a list of texts @ file.spot.symbols"),
            ("[spot]\nsymbols = [1]\n", "not a list of texts @ file.spot.symbols"),
            ("[spot]\nsymbol = ['A']\n", "unknown: symbol @ file.spot"),
            ("[spto]\nsymbols = ['A']\n", "unknown: spto @ file"),
            ("[spot]\nsymbols = ['A/B']\n", "[spot] symbols: 'A/B' has a '/'"),
            ("[futures]\nkinds = ['tick']\n", "[futures] kinds: 'tick' is no kind of futures, of trade,aggTrade"),
            ("a = " + "[" * 5000, ""),
        ],
    )
    def test_what_is_wrong_in_it(self, tmp_path, text, reason):
        """The message names the variable, the place in the file and the reason."""
        message = problem(self.write(tmp_path, text))
        assert "SYMBOLS_FILE='" in message
        assert reason in message

    def test_it_is_no_text(self, tmp_path):
        (tmp_path / "x").write_bytes(b"\xff")
        assert "not UTF-8 text" in problem({"SYMBOLS_FILE": str(tmp_path / "x")})


class TestSecrets:
    @pytest.mark.parametrize("from_file", [False, True])
    def test_a_key_is_never_shown(self, tmp_path, from_file):
        """Not in repr, str, format, nor the table; `reveal` is the one way to it."""
        (tmp_path / "key").write_text(KEY + "\n")
        loaded = load({"BINANCE_API_KEY_FILE": str(tmp_path / "key")} if from_file else {"BINANCE_API_KEY": KEY})
        key = loaded.settings.binance_api_key
        assert SecretStr(KEY) == key
        assert KEY == key.reveal()
        shown = f"{loaded!r} {loaded.settings} {key!s} {key:>10} {attrs.asdict(loaded.settings)} {setting_rows(loaded)}"
        assert KEY not in shown
        (row,) = [row for row in setting_rows(loaded) if row.variable == "BINANCE_API_KEY"]
        assert ("***", "file" if from_file else "environment") == (row.value, row.source)

    def test_the_log_is_told(self):
        """Loading is enough for the log to hide it."""
        load({"BINANCE_API_KEY": KEY})
        assert KEY.encode() in log._secrets

    def test_both_ways_at_once(self, tmp_path):
        (tmp_path / "key").write_text(KEY)
        message = problem({"BINANCE_API_KEY_FILE": str(tmp_path / "key"), "BINANCE_API_KEY": KEY})
        assert "only one of them can be" in message
        assert KEY not in message

    @pytest.mark.parametrize("content", [b"", b" \n", b"two words here", b"\xff\xfe\xff\xfe\xff\xfe", b"x" * 5000])
    def test_a_file_that_holds_no_key(self, tmp_path, content):
        (tmp_path / "key").write_bytes(content)
        message = problem({"BINANCE_API_KEY_FILE": str(tmp_path / "key")})
        assert message.splitlines()[1].startswith("  BINANCE_API_KEY_FILE=")
        assert "two words" not in message
