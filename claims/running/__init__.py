"""Running claims: one of them here and now, or many in worker processes."""
