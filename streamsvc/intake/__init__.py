"""What everything goes through on its way to the journal: what connections bring, and what REST does."""

from streamsvc.intake.reading import Intake, IntakeCounts

__all__ = ["Intake", "IntakeCounts"]
