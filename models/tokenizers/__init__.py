"""Tokenizers of every kind behind one function, `registry.load_tokenizer`; pretrained ones are made by `adopt`."""
