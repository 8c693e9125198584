"""Live analytics: what is derived from trades and quotes while they are recorded, and written beside them."""
