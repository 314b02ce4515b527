"""Many points profiled, each in processes of its own, and which of them is best."""
