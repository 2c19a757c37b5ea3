"""OCI documents as containerd reads them: descriptors, manifests, configs, chain ids and sizes."""
