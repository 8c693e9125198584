"""Where continuity goes on from: what a start reads before it connects."""

from persistence_samples import NAME, block, make_folder, segment_bytes, spot_trade

from streamsvc.integrity.chains import Chains
from streamsvc.integrity.resume import resume
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.schema import Kind, Market
from streamsvc.venues.venue import Stream

TRADES = Stream(Market.SPOT, Kind.TRADE, "BTCUSDT", "btcusdt@trade")


def resumed(tmp_path, texts):
    """The chain of a stream after a start that finds these messages, fifty a frame."""
    folder = make_folder(tmp_path)
    Catalogue(folder.catalogue).prepare()
    content = segment_bytes([block(texts[at : at + 50]) for at in range(0, len(texts), 50)])
    folder.segment(NAME).write_bytes(content)
    chains = Chains([TRADES])
    resume(chains, Catalogue(folder.catalogue), [folder.segment(NAME)])
    return chains.track(TRADES).chain


def test_a_long_journal(tmp_path):
    """The chain goes on behind the last id that lies there."""
    assert 10_000 == resumed(tmp_path, [spot_trade(number) for number in range(10_000)]).expected_id


def test_a_message_that_cannot_be_read_hides_no_other(tmp_path):
    """Its neighbours in the frame count; its own id is missing until the sealer tells the ledger."""
    texts = [spot_trade(1), spot_trade(2)[:-5], spot_trade(3)]
    chain = resumed(tmp_path, texts)
    assert (4, [(2, 2)]) == (chain.expected_id, [(one.first, one.last) for one in chain.missing])
