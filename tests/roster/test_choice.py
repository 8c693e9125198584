"""What is to be recorded: names, patterns, and what the exchange says of them."""

from streamsvc.roster.choice import Choice
from streamsvc.schema import Kind, Market
from streamsvc.settings.selection import Selection
from streamsvc.settings.values import parse_symbols

SPOT = Market.SPOT
KINDS = (Kind.TRADE,)


def selections(*symbols):
    parsed = parse_symbols(symbols)
    names = tuple(one for one in parsed if not {"*", "?"} & set(one))
    patterns = tuple(one for one in parsed if one not in names)
    return {SPOT: Selection(names, patterns, KINDS), Market.FUTURES: Selection(kinds=KINDS)}


def statuses(*trading, **others):
    return dict.fromkeys(trading, "TRADING") | others


def symbols(choice):
    return choice.wanted(SPOT).symbols


def test_names_at_once_and_patterns_when_the_list_is_there():
    """Names keep their order and come first, and no symbol comes twice."""
    choice = Choice(selections("ethusdt", "BTC*", "*usdt"))
    assert ("ETHUSDT",) == symbols(choice)
    choice.hear(SPOT, statuses("BTCUSDT", "ETHUSDT", "BTCEUR", "ETHEUR", BNBUSDT="BREAK"))
    assert ("ETHUSDT", "BTCEUR", "BTCUSDT") == symbols(choice)


def test_what_patterns_meant_in_the_last_run():
    """It is believed until the exchange tells better; what no pattern means any more is not."""
    choice = Choice(selections("*USDT"), {SPOT: {"BTCUSDT", "ETHUSDT", "ETHEUR"}})
    assert ("BTCUSDT", "ETHUSDT") == symbols(choice)
    choice.hear(SPOT, statuses("BTCUSDT", "ETHEUR"))
    assert ("BTCUSDT",) == symbols(choice)


def test_a_question_mark_is_one_character():
    choice = Choice(selections("BTC????"))
    choice.hear(SPOT, statuses("BTCUSDT", "BTCEUR", "BTCFDUSD"))
    assert ("BTCUSDT",) == symbols(choice)


def test_a_name_that_is_not_traded_ends_and_comes_back():
    """Whether its status says so or the list has it no more."""
    choice = Choice(selections("A", "B", "C", "D"))
    assert () == choice.hear(SPOT, statuses("A", "B", "C", "D")).ended
    assert (("B", "SETTLING"),) == choice.hear(SPOT, statuses("A", "C", "D", B="SETTLING")).ended
    assert ("A", "C", "D") == symbols(choice)
    assert (("C", "absent"),) == choice.hear(SPOT, statuses("A", "D", B="SETTLING")).ended
    assert () == choice.hear(SPOT, statuses("A", "B", "C", "D")).ended
    assert ("A", "B", "C", "D") == symbols(choice)


def test_a_name_that_is_new_is_recorded_before_the_exchange_is_asked():
    """The list may be an hour old, and the symbol younger."""
    choice = Choice(selections("A", "B"))
    choice.hear(SPOT, statuses("A", "B"))
    choice.select(selections("A", "B", "NEW"))
    assert ("A", "B", "NEW") == symbols(choice)


def test_answers_that_are_not_believed():
    """They change nothing, and a later one that is right does."""
    names = [f"S{number}" for number in range(10)]
    choice = Choice(selections("S*"))
    assert "no symbol is traded" in choice.hear(SPOT, {}).doubt
    assert "" == choice.hear(SPOT, statuses(*names, *"XYZ")).doubt
    assert "no symbol is traded" in choice.hear(SPOT, dict.fromkeys(names, "BREAK")).doubt
    assert "6 symbols are traded" in choice.hear(SPOT, statuses(*names[:6])).doubt
    assert "6 of 10" in choice.hear(SPOT, statuses(*names[:4], *"UVWXYZ")).doubt
    assert tuple(names) == symbols(choice)
    assert "" == choice.hear(SPOT, statuses(*names[:5], *"UVWXYZ")).doubt
    assert tuple(names[:5]) == symbols(choice)


def test_slips_of_the_pen_say_nothing_about_an_answer():
    """Names that were never traded may be the most of them; one that an earlier run recorded counts."""
    choice = Choice(selections("BTCUSTD", "ETHUSTD", "BTCUSDT"))
    assert "" == choice.hear(SPOT, statuses("BTCUSDT", "ETHUSDT")).doubt
    assert ("BTCUSDT",) == symbols(choice)
    choice = Choice(selections("A", "B", "C"), {SPOT: {"A", "B", "C"}})
    assert "2 of 3" in choice.hear(SPOT, statuses("C", "D")).doubt


def test_more_than_can_be_recorded():
    """Names go first; the rest is named."""
    choice = Choice(selections("S*", "X", "Y"), limit=4)
    choice.hear(SPOT, statuses("S3", "S1", "S2", "X", "Y"))
    assert (("X", "Y", "S1", "S2"), ("S3",)) == (symbols(choice), choice.wanted(SPOT).left_out)
