"""What can happen to a checkpoint on a disk."""

from triptych.trainer.checkpoint.disk.document import STATE


def truncate(path, draw):
    size = draw.randrange(path.stat().st_size)
    told = f"{path.name} truncated to {size} of {path.stat().st_size} bytes"
    with path.open("r+b") as file:
        file.truncate(size)
    return told


def flip(path, draw):
    content = bytearray(path.read_bytes())
    at, bit = draw.randrange(len(content)), draw.randrange(8)
    content[at] ^= 1 << bit
    path.write_bytes(content)
    return f"{path.name}: bit {bit} of byte {at} of {len(content)} flipped"


def remove(path, draw):
    path.unlink()
    return f"{path.name} removed"


def any_tensor_file(folder, draw):
    return draw.choice(sorted(folder.glob("*.safetensors")))


def index_file(folder, draw):
    return folder / STATE


# The kind of damage, by name, to what.
KINDS = {
    "truncated tensors": (truncate, any_tensor_file),
    "flipped tensors": (flip, any_tensor_file),
    "missing tensors": (remove, any_tensor_file),
    "truncated index": (truncate, index_file),
    "flipped index": (flip, index_file),
    "missing index": (remove, index_file),
}


def damage(folder, kind, draw):
    """Damage a checkpoint at a random place; returns what was done."""
    act, chosen = KINDS[kind]
    return act(chosen(folder, draw), draw)
