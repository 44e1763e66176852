"""Everything that opens a connection: requests, byte ranges, trusted hosts, credentials."""
