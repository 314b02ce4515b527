"""Commands on data and on tokenizers."""
