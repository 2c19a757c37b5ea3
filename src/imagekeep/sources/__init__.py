"""Image sources: their protocol, and OCI layouts, archives and containerd."""
