"""Where continuity goes on from: what a start reads before it connects."""

import time

from persistence_samples import NAME, block, make_folder, segment_bytes, spot_trade

from streamsvc.integrity.continuity import Chain
from streamsvc.integrity.resume import resume
from streamsvc.persistence.catalogue import Catalogue

SIZE_BYTES = 8 << 20


def test_a_long_journal_is_read_in_time(tmp_path):
    """A kill with a full segment costs the next start less than the 5 s that 64 MB may take, of one processor."""
    folder = make_folder(tmp_path)
    Catalogue(folder.catalogue).prepare()
    texts = [spot_trade(number) for number in range(SIZE_BYTES // len(spot_trade(10**5)))]
    content = segment_bytes([block(texts[at : at + 50]) for at in range(0, len(texts), 50)])
    folder.segment(NAME).write_bytes(content)
    chain = Chain()
    begun_sec = time.process_time()
    resume(lambda *_stream: chain, Catalogue(folder.catalogue), [folder.segment(NAME)])
    took_sec = time.process_time() - begun_sec
    assert len(texts) == chain.next_id
    assert took_sec < 5 * len(content) / (64 << 20)
