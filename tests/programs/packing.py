"""struct, pickle, copy, zlib, hashlib, base64, array, memoryview, io."""
import array
import base64
import copy
import hashlib
import io
import pickle
import struct
import zlib


class Node:
    def __init__(self, value, next=None):
        self.value, self.next = value, next

    def __getstate__(self):
        return {"value": self.value, "next": self.next}

    def __setstate__(self, state):
        self.__dict__.update(state)


def chain(n):
    node = None
    for i in range(n):
        node = Node(i, node)
    return node


def values(node):
    while node:
        yield node.value
        node = node.next


data = pickle.dumps(chain(40))
print(sum(values(pickle.loads(data))), sum(values(copy.deepcopy(chain(20)))))
packed = struct.pack("<IhQ5sd", 7, -3, 1 << 40, b"abcde", 2.5)
print(struct.unpack("<IhQ5sd", packed), hashlib.sha256(packed).hexdigest()[:16], hashlib.blake2b(packed, digest_size=4).hexdigest())
print(zlib.crc32(packed), zlib.decompress(zlib.compress(packed * 100)) == packed * 100, base64.b85encode(packed[:8]))
a = array.array("d", [1.5, 2.5])
memoryview(a)[0] = 9.0
buffer = io.BytesIO(packed)
buffer.seek(4)
print(a.tolist(), buffer.read(2), io.StringIO("a\nb\n").readlines())
