"""How both wings listen: so many connections, none that dawdles, TLS. Stands beside `settings`."""
