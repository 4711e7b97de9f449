"""An AWS Lambda function: takes the log objects that a load balancer puts into S3 to the agents that they concern.

In: S3 notifications (directly, through SNS, SQS or EventBridge). Out: each line POSTed to the agent that owns the target
address it names. Runtime python3.12, in the VPC of the agents; needs s3:GetObject on the bucket, and reserved concurrency to
taste. No package beside boto3, which the runtime has.

  AGENT_URL      https://{target}:8514/v1/lines     {target} stands for the target's address
  TOKEN          bearer token of the agents' receivers (better: TOKEN_PARAMETER, the name of an SSM SecureString)
  CA_FILE        /var/task/agents-ca.pem            authority of the agents' certificates, packed with this file
  WITHOUT_TARGET URL for lines that name no target; they are left out when unset

An agent that answers 429 or 503 is asked again within the function. When lines could not be taken the function fails: Lambda
(or SQS) runs it again with the same object, so each line arrives at least once. An agent that cannot be reached at all is
taken for gone (an instance that was terminated) when GONE_IS_FINE=1.
"""

import gzip
import ipaddress
import json
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request

import boto3

BATCH_BYTES = 512 * 1024
TRIES = 6

s3 = boto3.client("s3", endpoint_url=os.environ.get("S3_ENDPOINT_URL"))


def handler(event, _context):
    counts = {"objects": 0, "lines": 0, "left_out": 0, "gone": 0}
    for bucket, key in objects(event):
        counts["objects"] += 1
        forward(bucket, key, counts)
    print(json.dumps(counts))
    return counts


def objects(event):
    """Bucket and key of every object in an event, whatever it is wrapped in."""
    if event.get("source") == "aws.s3":  # EventBridge: the key is as it is
        yield event["detail"]["bucket"]["name"], event["detail"]["object"]["key"]
    for record in event.get("Records", []):
        if "s3" in record:  # here it is URL-encoded, a space being a plus sign
            yield record["s3"]["bucket"]["name"], urllib.parse.unquote_plus(record["s3"]["object"]["key"])
        elif "Sns" in record:
            yield from objects(json.loads(record["Sns"]["Message"]))
        elif "body" in record:
            body = json.loads(record["body"])
            yield from objects(json.loads(body["Message"]) if body.get("Type") == "Notification" else body)


def forward(bucket, key, counts):
    body = s3.get_object(Bucket=bucket, Key=key)["Body"]
    stream = gzip.GzipFile(fileobj=body) if key.endswith(".gz") else body
    batches = {}
    lines = stream if key.endswith(".gz") else stream.iter_lines(keepends=True)
    for line in lines:
        url = destination(line)
        if url is None:
            counts["left_out"] += 1
            continue
        batch = batches.setdefault(url, bytearray())
        batch += line if line.endswith(b"\n") else line + b"\n"
        if len(batch) >= BATCH_BYTES:
            send(url, batches.pop(url), counts)
    for url, batch in batches.items():
        send(url, batch, counts)


def destination(line):
    """URL for a line of an Application (fifth field) or Classic Load Balancer (fourth field)."""
    fields = line.split(b" ", 5)
    at = 3 if fields[0][:4].isdigit() else 4
    target = fields[at].decode("ascii", "replace") if len(fields) > at else "-"
    try:
        address = ipaddress.ip_address(target.rpartition(":")[0])  # IPv6 comes without brackets
    except ValueError:
        return os.environ.get("WITHOUT_TARGET")
    host = f"[{address}]" if address.version == 6 else str(address)
    return os.environ["AGENT_URL"].replace("{target}", host)


def send(url, batch, counts):
    headers = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    if token():
        headers["Authorization"] = f"Bearer {token()}"
    request = urllib.request.Request(url, data=gzip.compress(bytes(batch), 1), headers=headers, method="POST")
    for attempt in range(TRIES):
        try:
            with urllib.request.urlopen(request, timeout=20, context=tls(url)):
                counts["lines"] += batch.count(b"\n")
                return
        except urllib.error.HTTPError as error:
            if error.code not in (408, 429, 500, 502, 503, 504) or attempt == TRIES - 1:
                raise
            wait = error.headers.get("Retry-After", "")
            time.sleep(min(float(wait) if wait.isdigit() else 2.0**attempt / 4, 10.0))
        except urllib.error.URLError:
            if attempt < TRIES - 1:
                time.sleep(2.0**attempt / 4)
            elif os.environ.get("GONE_IS_FINE") == "1":
                counts["gone"] += batch.count(b"\n")
                return
            else:
                raise


_token = os.environ.get("TOKEN")


def token():
    """The token; read from the parameter store once per instance of the function."""
    global _token
    if _token is None and "TOKEN_PARAMETER" in os.environ:
        parameter = boto3.client("ssm").get_parameter(Name=os.environ["TOKEN_PARAMETER"], WithDecryption=True)
        _token = parameter["Parameter"]["Value"]
    return _token


def tls(url):
    return ssl.create_default_context(cafile=os.environ.get("CA_FILE")) if url.startswith("https://") else None
