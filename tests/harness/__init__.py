"""What the whole-platform tests stand on: the cache, the platform under test, processes, clients."""
