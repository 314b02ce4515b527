"""A checkpoint's folder: its files, its index, and how the folder comes, is checked and goes.

    tokens-000000000012345/
        state.json                               header, sha256 and size of each file, which box lies where, own sha256
        weights-rank0000-000.safetensors         boxes of whole parameters, fp32
        exp_avg-rank0000-000.safetensors
        ...

The folder appears under its name by one rename, after everything in it is on the disk: it is whole or it is not there.
Nothing that is read is executed: tensors are safetensors, the rest is JSON.
"""
