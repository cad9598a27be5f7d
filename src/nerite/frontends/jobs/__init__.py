"""Long work as jobs: accepted, kept, run when there is room, fetched when it is done."""
