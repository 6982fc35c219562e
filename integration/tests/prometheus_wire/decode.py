"""Reads a remote-write 2.0 request off the wire by the published schema alone, and prints it as JSON.

Neither a protobuf compiler nor our own messages are used: fields are read by number and wire type.
"""
import json
import struct
import sys


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def fields(data):
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 1:
            value, at = data[at:at + 8], at + 8
        elif kind == 2:
            length, at = varint(data, at)
            value, at = data[at:at + length], at + length
        else:
            raise ValueError(f"wire type {kind}")
        yield key >> 3, value


def unsnappy(data):
    length, at = varint(data, 0)
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        if tag & 3 == 0:
            size = tag >> 2
            if size >= 60:
                width = size - 59
                size = int.from_bytes(data[at:at + width], "little")
                at += width
            out += data[at:at + size + 1]
            at += size + 1
            continue
        if tag & 3 == 1:
            size, offset = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | data[at]
            at += 1
        else:
            width = 2 if tag & 3 == 2 else 4
            size, offset = (tag >> 2) + 1, int.from_bytes(data[at:at + width], "little")
            at += width
        for _ in range(size):
            out.append(out[-offset])
    assert len(out) == length
    return bytes(out)


def request(data):
    symbols, series = [], []
    for number, value in fields(data):
        if number == 4:
            symbols.append(value.decode())
        elif number == 5:
            series.append(value)
        else:
            raise ValueError(f"field {number} of Request")
    assert symbols[0] == "", "the first symbol is not empty"
    assert len(set(symbols)) == len(symbols), "a symbol comes twice"
    return [one(symbols, each) for each in series]


def one(symbols, data):
    out = {"samples": [], "kind": 0, "created": 0, "start": 0}
    for number, value in fields(data):
        if number == 1:
            refs, at = [], 0
            while at < len(value):
                ref, at = varint(value, at)
                refs.append(symbols[ref])
            names = refs[::2]
            assert names == sorted(set(names)), "labels are not in order"
            out["labels"] = dict(zip(names, refs[1::2]))
        elif number == 2:
            sample = dict(fields(value))
            assert set(sample) <= {1, 2, 3}, f"fields of Sample: {set(sample)}"
            out["samples"].append([struct.unpack("<d", sample.get(1, bytes(8)))[0], sample[2]])
            out["start"] = sample.get(3, 0)
        elif number == 5:
            out["kind"] = dict(fields(value)).get(1, 0)
        elif number == 6:
            out["created"] = value
        else:
            raise ValueError(f"field {number} of TimeSeries")
    return out


json.dump(request(unsnappy(sys.stdin.buffer.read())), sys.stdout)
