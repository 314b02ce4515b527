"""Samplers: fill the hidden positions of sequences, any subset of any modality, by revealing a few at a time."""

from triptych.models.diffusion.sampling.canvas import Canvas
from triptych.models.diffusion.sampling.guidance import Denoiser
from triptych.models.diffusion.sampling.rules import Ancestral, Confidence, MaskGit, RevealRule
from triptych.models.diffusion.sampling.sampler import ModalitySamplers, Sampler, SamplerConfig, State

__all__ = [
    "Ancestral",
    "Canvas",
    "Confidence",
    "Denoiser",
    "MaskGit",
    "ModalitySamplers",
    "RevealRule",
    "Sampler",
    "SamplerConfig",
    "State",
]
