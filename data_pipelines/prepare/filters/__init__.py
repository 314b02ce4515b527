"""Which samples are left out, and by which rule."""
