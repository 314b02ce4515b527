"""Tar shards in the webdataset layout, with an index for random access, a manifest and checksums."""
