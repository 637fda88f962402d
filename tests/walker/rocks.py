"""All rows of a pool's RocksDB, by the library's C interface and nothing else.

Values that are merged come as the list of what was written: the base, or None, and the deltas in
their order. So how they are merged is the walker's business, too.
"""

import ctypes
import struct

from crc32c import LIBRARY

_P, _S = ctypes.c_void_p, ctypes.c_size_t
_PP, _SP = ctypes.POINTER(_P), ctypes.POINTER(_S)
_OK = ctypes.POINTER(ctypes.c_ubyte)
_FULL = ctypes.CFUNCTYPE(_P, _P, _P, _S, _P, _S, _PP, _SP, ctypes.c_int, _OK, _SP)
_PARTIAL = ctypes.CFUNCTYPE(_P, _P, _P, _S, _PP, _SP, ctypes.c_int, _OK, _SP)
_DELETE = ctypes.CFUNCTYPE(None, _P, _P, _S)
_NAME = ctypes.CFUNCTYPE(_P, _P)
_DONE = ctypes.CFUNCTYPE(None, _P)

# What no row begins with: versions are small.
_LIST = b"\xff\xffvpool-walker"
_NONE = 0xFFFFFFFF

_buffers = {}
_name = ctypes.create_string_buffer(b"vpool.page.1")


def _keep(data):
    buffer = ctypes.create_string_buffer(data, len(data))
    _buffers[ctypes.addressof(buffer)] = buffer
    return ctypes.addressof(buffer)


def _merge(_state, _key, _key_bytes, base, base_bytes, operands, sizes, count, ok, size):
    values = [ctypes.string_at(base, base_bytes) if base else None]
    data = as_list(values + [ctypes.string_at(operands[i], sizes[i]) for i in range(count)])
    ok[0] = 1
    size[0] = len(data)
    return _keep(data)


def _merge_not(_state, _key, _key_bytes, _operands, _sizes, _count, ok, size):
    ok[0] = 0
    size[0] = 0
    return ctypes.addressof(_name)


def as_list(parts):
    """A value that merged_list() takes apart."""
    data = _LIST
    for part in parts:
        data += struct.pack("<I", _NONE if part is None else len(part)) + (part or b"")
    return data


def merged_list(value):
    """[base or None, delta...] of a value that rows() gave."""
    if not value.startswith(_LIST):
        return [value]
    at, ret = len(_LIST), []
    while at < len(value):
        (size,) = struct.unpack_from("<I", value, at)
        at += 4
        ret.append(None if size == _NONE else value[at : at + size])
        at += 0 if size == _NONE else size
    return ret


_callbacks = (
    _DONE(lambda _state: None),
    _FULL(_merge),
    _PARTIAL(_merge_not),
    _DELETE(lambda _state, value, _size: _buffers.pop(value, None) and None),
    _NAME(lambda _state: ctypes.addressof(_name)),
)


def rows(directory):
    """{family: [(key, value)...]} in the order of the keys. The database is opened for reading."""
    lib = ctypes.CDLL(LIBRARY)
    for name in (
        "rocksdb_options_create",
        "rocksdb_mergeoperator_create",
        "rocksdb_readoptions_create",
        "rocksdb_create_iterator_cf",
        "rocksdb_iter_key",
        "rocksdb_iter_value",
        "rocksdb_open_for_read_only_column_families",
    ):
        getattr(lib, name).restype = _P
    lib.rocksdb_iter_valid.restype = ctypes.c_ubyte

    options = _P(lib.rocksdb_options_create())
    operator = lib.rocksdb_mergeoperator_create(None, *_callbacks)
    lib.rocksdb_options_set_merge_operator(options, _P(operator))
    families = [b"default", b"names", b"state"]
    names = (ctypes.c_char_p * 3)(*families)
    all_options = (_P * 3)(options, options, options)
    handles = (_P * 3)()
    error = ctypes.c_char_p()
    db = lib.rocksdb_open_for_read_only_column_families(
        options, directory.encode(), 3, names, all_options, handles, 0, ctypes.byref(error)
    )
    if error.value:
        raise OSError("metadata: " + error.value.decode(errors="replace"))
    ret = {}
    read = _P(lib.rocksdb_readoptions_create())
    for family, handle in zip(families, handles):
        found = ret[family.decode()] = []
        it = _P(lib.rocksdb_create_iterator_cf(_P(db), read, _P(handle)))
        size = _S()
        lib.rocksdb_iter_seek_to_first(it)
        while lib.rocksdb_iter_valid(it):
            at = lib.rocksdb_iter_key(it, ctypes.byref(size))
            key = ctypes.string_at(at, size.value)
            at = lib.rocksdb_iter_value(it, ctypes.byref(size))
            found.append((key, ctypes.string_at(at, size.value)))
            lib.rocksdb_iter_next(it)
        lib.rocksdb_iter_get_error(it, ctypes.byref(error))
        if error.value:
            raise OSError("metadata: " + error.value.decode(errors="replace"))
        lib.rocksdb_iter_destroy(it)
    for handle in handles:
        lib.rocksdb_column_family_handle_destroy(_P(handle))
    lib.rocksdb_close(_P(db))
    return ret
