"""The SQLite file: its driver, its schema, its statements, its migrations and its checks."""
