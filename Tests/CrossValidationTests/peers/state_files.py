"""Reads and writes safetensors files with nothing but the standard library and torch.

A file is the length of its header (8 bytes, little-endian), the header (JSON: for each name its dtype, shape and the
range of its bytes after the header), then the bytes of all tensors.
"""

import json
import struct
import sys

import torch

TYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64}
NAMES = {dtype: name for name, dtype in TYPES.items()}

if sys.byteorder != "little":
    sys.exit("tensors are read and written as they lie in memory: this needs a little-endian machine")


def load_file(path):
    """The tensors of a file by name."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = bytearray(file.read())
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        dtype, shape = TYPES[entry["dtype"]], torch.Size(entry["shape"])
        if end - begin != shape.numel() * dtype.itemsize:
            raise ValueError(f"{name} of {path}: {end - begin} bytes for {entry['dtype']} {list(shape)}")
        tensors[name] = torch.frombuffer(data, dtype=dtype, count=shape.numel(), offset=begin).reshape(shape).clone()
    return tensors


def save_file(tensors, path):
    """Writes tensors by name."""
    header, size = {}, 0
    for name, tensor in sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize):  # keeps all of them aligned
        end = size + tensor.numel() * tensor.dtype.itemsize
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [size, end]}
        size = end
    data = bytearray(size)
    for name, entry in header.items():
        tensor = tensors[name].detach().flatten()
        torch.frombuffer(data, dtype=tensor.dtype, count=len(tensor), offset=entry["data_offsets"][0]).copy_(tensor)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
