"""The stream nursery: connections to the exchange, from the socket to batches of messages."""
