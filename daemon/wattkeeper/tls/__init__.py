"""Certificates, on both sides of a connection. Like `settings`, both wings stand on it."""
