"""The pure parts of the questions that commands answer: patterns, sizes, times, templates and plans."""
