"""CRC-32C, of the RocksDB library where that has it, else by a table (slow). No code of the engine."""

import ctypes

LIBRARY = "librocksdb.so"

_table = []
for _i in range(256):
    for _ in range(8):
        _i = _i >> 1 ^ 0x82F63B78 if _i & 1 else _i >> 1
    _table.append(_i)


def _by_table(start, data):
    crc = start ^ 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _of_library():
    try:
        extend = ctypes.CDLL(LIBRARY)._ZN7rocksdb6crc32c6ExtendEjPKcm
    except (OSError, AttributeError):
        return None
    extend.restype = ctypes.c_uint32
    extend.argtypes = [ctypes.c_uint32, ctypes.c_char_p, ctypes.c_size_t]
    return lambda start, data: extend(start, bytes(data), len(data))


crc_from = _of_library() or _by_table
for _crc in (crc_from, _by_table):
    if _crc(0, b"123456789") != 0xE3069283 or _crc(_crc(0, b"12345"), b"6789") != 0xE3069283:
        raise SystemExit("walker: its own CRC-32C is wrong")


def crc(data):
    return crc_from(0, data)


def crc_without(data, offset, start=0):
    """Of a structure that holds its own checksum: those four bytes count as zero."""
    return crc_from(start, data[:offset] + b"\0\0\0\0" + data[offset + 4 :])


def salted(salt):
    return (salt & 0xFFFFFFFF) ^ (salt >> 32)
