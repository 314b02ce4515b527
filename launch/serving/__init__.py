"""A trained run behind a page and an HTTP endpoint."""
