"""Records what a crypto exchange says to Parquet, completely, and proves it.

Nothing is imported here: every worker process that seals a segment pays for what this module loads.
"""

__version__ = "0.1.0"
