"""The persistence nursery: journal, rotation, sealing, publishing, catalogue."""
