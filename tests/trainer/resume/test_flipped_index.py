"""No bit of a checkpoint's index can change unnoticed, and none makes it look like another version's."""

import pytest

from triptych.trainer.checkpoint.disk.document import (
    STATE,
    Damaged,
    Document,
    Header,
    StoredBox,
    StoredFile,
    StoredTensor,
    encode_document,
    read_document,
)

BOX = StoredBox(offsets=(0, 2), sizes=(2, 3), file="weights-rank0000-000.safetensors", key="weights/a.weight@0,2")
DOCUMENT = Document(
    header=Header(
        tokens=628, step=3, logical_updates=3.0, batch=8, cursor={"größe": 12}, identity={"model": {"epsilon": 1e-5}}
    ),
    files={BOX.file: StoredFile(sha256="0123456789abcdef" * 4, num_bytes=120)},
    index={"weights": {"a.weight": StoredTensor(shape=(2, 5), boxes=(BOX,))}},
)


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_of_the_index_is_damage(tmp_path, bit):
    """Except where it makes another spelling of the same thing: a letter's case in 1e-05 or in a character's number."""
    content = encode_document(DOCUMENT)
    for at in range(len(content)):
        flipped = bytearray(content)
        flipped[at] ^= 1 << bit
        (tmp_path / STATE).write_bytes(flipped)
        try:
            found = read_document(tmp_path)
        except Damaged:
            continue
        assert found == DOCUMENT, (at, content[max(0, at - 20) : at + 20])


def test_another_version_is_not_called_damaged(tmp_path):
    (tmp_path / STATE).write_text('{"format": 1, "tokens": 5, "sha256": "00"}')
    with pytest.raises(ValueError, match="has format 1, this version reads 3; use the version that wrote it") as error:
        read_document(tmp_path)
    assert not isinstance(error.value, Damaged)
