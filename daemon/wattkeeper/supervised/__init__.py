"""What a daemon owes its service manager: readiness, signs of life, its log, reload and end."""
