"""The canonical checkpoint: keyed by parameter name, independent of layout, nothing unpickled."""
