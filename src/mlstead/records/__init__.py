"""What happened: runs, their events and metrics, in a store."""
