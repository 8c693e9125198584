"""`streamsvc` with live analytics taken out: what recording costs alone."""

import sys

from streamsvc.__main__ import main
from streamsvc.analytics.live import Analytics

Analytics.take = lambda _self, _block: None

if __name__ == "__main__":
    sys.exit(main())
