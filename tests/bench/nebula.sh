#!/usr/bin/env bash
# nebula.sh - one of two hosts of a Nebula network, for wgbench.sh --custom:
#   nebula.sh SHARED {if} {side} {ip} {peer} {uip} {upeer} {dir}
# SHARED holds ca.crt, ca.key: nebula-cert ca -name bench.
set -eu
shared=$1 if=$2 side=$3 ip=$4 peer=$5 uip=$6 upeer=$7 dir=$8
rm -f "$dir/host.crt" "$dir/host.key"
nebula-cert sign -ca-crt "$shared/ca.crt" -ca-key "$shared/ca.key" -name "$side" -ip "$ip/24" \
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
exec nebula -config "$dir/config.yml"
