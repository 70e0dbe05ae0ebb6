"""What a daemon owes its service manager."""
