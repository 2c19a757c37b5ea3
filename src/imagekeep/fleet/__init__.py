"""Ships a store's history to a fleet's centre on PostgreSQL, and asks the centre; needs `imagekeep[fleet]`."""
