"""Pretrained vector-quantized image autoencoders as tokenizers."""
