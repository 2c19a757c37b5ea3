"""What packaging/ builds, built and run; `scripts/test-packages` runs these tests, and no other script does."""
