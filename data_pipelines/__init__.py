"""Raw data to the token stream: corpora, shards, tokenizers, sequences, the mixture. Imports nothing above."""
