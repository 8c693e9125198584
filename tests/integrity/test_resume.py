"""Where continuity goes on from: what a start reads before it connects."""

from derived_samples import derived_block, derived_text
from persistence_samples import NAME, RECEIVED_NS, block, make_folder, segment_bytes, spot_trade
from verify_samples import Recorded, force_order

from streamsvc.integrity.chains import Chains
from streamsvc.integrity.listening import Break, Heard
from streamsvc.integrity.resume import resume
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.catalogue_ledger import LedgerCatalogue
from streamsvc.schema import Kind, Market
from streamsvc.venues.venue import Stream

LIQUIDATIONS = Stream(Market.FUTURES, Kind.FORCE_ORDER, "BTCUSDT", "btcusdt@forceOrder")
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


def test_what_was_computed_is_no_sign_of_life_of_its_market(tmp_path):
    """Rows of silent minutes are written too: liquidations may be missing from the last message on."""
    ends = []
    for texts in ([], [derived_text(Kind.BARS_1M)]):
        recorded = Recorded(tmp_path / str(len(texts)))
        LedgerCatalogue(recorded.folder.catalogue).adopted(is_new=True)
        recorded.publish(force_order(1))
        late = [derived_block(Kind.BARS_1M, texts, Market.FUTURES, received_ns=RECEIVED_NS + 3600 * 10**9)]
        recorded.seal(recorded.put_blocks(late))
        unsealed = recorded.put_blocks(late)
        chains = Chains([LIQUIDATIONS])
        resume(chains, Catalogue(recorded.folder.catalogue), [recorded.folder.segment(unsealed)])
        ends.append(chains.track(LIQUIDATIONS).broken)
    assert Break("restart", Heard(RECEIVED_NS // 10**6, RECEIVED_NS // 10**6)) == ends[0]
    assert ends[0] == ends[1]
