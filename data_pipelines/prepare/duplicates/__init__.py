"""Which samples have been seen before: exactly, or nearly."""
