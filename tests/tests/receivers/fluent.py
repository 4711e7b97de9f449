"""Sends each argument as a record with Fluentd's client library: fluent.py PORT LINE..."""
import sys

from fluent import sender

port, *lines = sys.argv[1:]
client = sender.FluentSender("web", host="127.0.0.1", port=int(port), nanosecond_precision=True)
for line in lines:
    if not client.emit("access", {"stream": "stdout", "log": line}):
        sys.exit(str(client.last_error))
client.close()
