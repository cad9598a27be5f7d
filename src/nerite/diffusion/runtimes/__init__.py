"""One file per runtime: where a network runs."""
