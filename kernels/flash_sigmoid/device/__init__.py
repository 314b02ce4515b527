"""Sigmoid attention as Triton kernels: forward, dQ, dK and dV, for NVIDIA GPUs from sm_80 on."""
