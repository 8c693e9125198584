"""Which streams are recorded, while that changes: the symbols file, SIGHUP, the exchange's list (`roster.py`)."""
