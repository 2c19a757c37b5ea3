"""Archives of images as a source: docker's and OCI's, plain or compressed, from a file or a pipe."""

from __future__ import annotations

from imagekeep.sources.archive.source import Archive

__all__ = ["Archive"]
