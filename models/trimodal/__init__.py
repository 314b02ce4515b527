"""The tri-modal transformer: one bidirectional trunk over one stream of discrete tokens."""
