"""Raw text, image-text and audio-text to filtered, deduplicated, tokenized shards, by many processes, resumable."""
