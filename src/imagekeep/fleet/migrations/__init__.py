"""Alembic's environment for the schema of a fleet's centre."""
