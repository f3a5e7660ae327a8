#!/usr/bin/env bash
# nebula.sh - one of two hosts of a Nebula network, for wgbench.sh --custom:
#   nebula.sh NEBULA CERT SHARED {if} {side} {ip} {peer} {uip} {upeer} {dir}
# NEBULA and CERT are nebula and nebula-cert; SHARED holds the ca.crt and ca.key
# of nebula-cert ca -name bench.
set -eu
nebula=$1 cert=$2 shared=$3 if=$4 side=$5 ip=$6 peer=$7 uip=$8 upeer=$9 dir=${10}
rm -f "$dir/host.crt" "$dir/host.key"
"$cert" sign -ca-crt "$shared/ca.crt" -ca-key "$shared/ca.key" -name "$side" -ip "$ip/24" \
  -out-crt "$dir/host.crt" -out-key "$dir/host.key"
cat >"$dir/config.yml" <<Y
pki: {ca: $shared/ca.crt, cert: $dir/host.crt, key: $dir/host.key}
static_host_map: {"$peer": ["$upeer:4242"]}
lighthouse: {am_lighthouse: false}
listen: {host: $uip, port: 4242, batch: 64}
punchy: {punch: false}
tun: {dev: $if, mtu: ${MTU:-1300}}
logging: {level: error, format: text}
firewall:
  outbound: [{port: any, proto: any, host: any}]
  inbound: [{port: any, proto: any, host: any}]
Y
exec "$nebula" -config "$dir/config.yml"
