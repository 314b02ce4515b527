"""Raw data to the token stream: corpora, shards, tokenizers, sequences, the elastic mixture. Imports nothing above it."""
