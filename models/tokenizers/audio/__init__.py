"""Pretrained audio codecs as tokenizers: codes of several codebooks become one stream."""
