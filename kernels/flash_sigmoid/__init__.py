"""Sigmoid attention without row statistics: sigma(scale Q K^T + b) V, forward and backward, on GPU and CPU."""
