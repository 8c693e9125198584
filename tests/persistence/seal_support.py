"""Sealing in line, and what came of it read back."""

import json
from pathlib import Path

from persistence_samples import NAME, segment_bytes

from streamsvc.batch import Block
from streamsvc.persistence.layout import DataFolder
from streamsvc.persistence.manifest import Manifest
from streamsvc.persistence.parquet import read_row_groups
from streamsvc.persistence.seal import seal_segment
from streamsvc.schema import COLUMNS, Kind


def seal_content(folder: DataFolder, content: bytes | list[Block]) -> Manifest:
    """Seal blocks, or the bytes of a segment."""
    path = folder.segment(NAME)
    path.write_bytes(content if isinstance(content, bytes) else segment_bytes(content))
    return seal_segment(str(path), str(folder.tmp))


def rows_of(manifest: Manifest, kind: Kind) -> list[tuple]:
    """All rows of a kind as tuples in the order of its columns, timestamps as ns."""
    rows = []
    for file in manifest.files:
        if file.kind == kind.label:
            for group in read_row_groups(Path(manifest.folder) / file.path):
                assert list(COLUMNS[kind]) == list(group)
                rows += zip(*(group[name].tolist() for name in COLUMNS[kind]), strict=True)
    return rows


def quarantined(manifest: Manifest, name: str = "quarantine.jsonl") -> list[dict]:
    """The lines that a sealer kept beside its files."""
    path = Path(manifest.folder) / name
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
