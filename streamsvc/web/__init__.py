"""What is seen of a running recorder over HTTP: health, metrics, status, and the live page."""
