"""zstd (RFC 8878) for payloads: the one place where a library reads a compressed stream.

A frame says in its head how long its content is, and that is read before anything is decompressed: a gigabyte of zeros sent as some
kilobytes costs nothing. A reader takes one frame, without a dictionary, whose content has a stated size within the limit, and nothing
behind it.

The frame has no checksum of its own: what it is part of is signed.
"""

import zstandard

_MAGIC = b"\x28\xb5\x2f\xfd"


class NotCompressed(Exception):
    """The bytes are no such frame; the message says, as the end of a sentence, what is wrong with them."""


def compress(data: bytes, level: int) -> bytes:
    """One frame that holds ``data``. The same library gives the same bytes; another version of it may not."""
    return zstandard.ZstdCompressor(level=level, write_content_size=True, write_checksum=False).compress(data)


def decompress(frame: bytes, limit: int) -> bytes:
    """What ``frame`` holds, ``limit`` bytes at most. Raises ``NotCompressed``; no memory is taken for more than the limit."""
    if frame[:4] != _MAGIC:
        raise NotCompressed("does not begin as a zstd frame does")
    try:
        size = zstandard.frame_content_size(frame)
        dictionary = zstandard.get_frame_parameters(frame).dict_id
    except zstandard.ZstdError as error:
        raise NotCompressed("has a broken zstd head") from error
    if size < 0:
        raise NotCompressed("does not say how long its content is")
    if size > limit:
        raise NotCompressed(f"holds {size} bytes; no more than {limit} are allowed")
    if dictionary:
        raise NotCompressed("needs a dictionary")
    try:
        data = zstandard.ZstdDecompressor().decompress(frame, read_across_frames=False, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise NotCompressed("is a broken zstd frame, or more than one") from error
    if len(data) != size:
        raise NotCompressed("holds another number of bytes than it says")
    return data
