"""The watchdog nursery: health per stream, repairs, systemd's notifications."""
