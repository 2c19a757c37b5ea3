"""The parts of scripts/benchmark: what is measured, against what, and how it is told."""
