"""The revisions of the centre's schema; each stands by itself and imports nothing from imagekeep."""
