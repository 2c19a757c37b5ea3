"""Tests of the questions' pure parts."""
