"""Durations and ages in words."""

from __future__ import annotations

import math


def age_in_words(seconds: float) -> str:
    """Return a duration in words (go-units: HumanDuration), with "1 year" where that says "1 years"."""
    whole = int(seconds)
    hours = math.floor(seconds / 3600 + 0.5)
    if whole < 60:
        return _seconds(whole)
    if whole < 3600:
        return "About a minute" if whole < 120 else f"{whole // 60} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // (24 * 7)} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // (24 * 30)} months"
    years = int(seconds // 3600) // 24 // 365
    return "1 year" if years == 1 else f"{years} years"


def _seconds(whole: int) -> str:
    if whole < 1:
        return "Less than a second"
    return "1 second" if whole == 1 else f"{whole} seconds"
