"""Tokenizers: raw text, pixels and waveforms to integer codes and back, behind one protocol."""
