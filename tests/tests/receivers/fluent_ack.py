"""Sends the lines as one gzipped chunk, twice, and wants it acknowledged each time: fluent_ack.py PORT LINE..."""
import gzip
import socket
import sys

import msgpack

port, *lines = sys.argv[1:]
entries = b"".join(msgpack.packb([7, {"message": line}]) for line in lines)
options = {"chunk": "bGluZXM=", "compressed": "gzip", "size": len(lines)}
message = msgpack.packb(["web.packed", gzip.compress(entries), options])
with socket.create_connection(("127.0.0.1", int(port)), timeout=20) as stream:
    for _ in range(2):
        stream.sendall(message)
        answer = msgpack.unpackb(stream.recv(100))
        if answer != {"ack": "bGluZXM="}:
            sys.exit(f"not acknowledged: {answer}")
