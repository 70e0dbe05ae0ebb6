"""An API server of Kubernetes for tests."""
