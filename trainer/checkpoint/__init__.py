"""The canonical checkpoint: keyed by part and parameter name, fp32, independent of the layout that wrote it.

Every rank describes what it holds as boxes of whole parameters (`shards.State`); a checkpoint stores boxes; loading
fills the boxes of any other layout. Between the two stands torch.distributed.checkpoint (DCP): it gathers every
rank's boxes, lets a box that several hold be written once, checks that they tile each parameter, and on loading finds
the stored boxes that each wanted box overlaps. It was preferred to megatron-core's dist_checkpointing, which is built
on it, describes shards only as regular grids (a ZeRO range that ends inside a row is none), and unpickles on load.

DCP's own storage is not used: its index is a pickle, and loading one runs code. `disk` has the same seam over
safetensors and JSON, with a checksum for every file and a folder that appears by one rename.

`store` is what the loop calls; `disk.reading` reads whole tensors in one process.
"""
