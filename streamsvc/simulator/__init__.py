"""A simulated exchange that speaks Binance's protocol; a product of its own, which shares no code with the recorder."""
