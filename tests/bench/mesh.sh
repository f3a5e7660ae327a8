#!/usr/bin/env bash
# mesh.sh - one of two machines of a private network, for wgbench.sh --custom:
#   mesh.sh PROGRAMS SHARED {if} {side} {uip} {dir} {address}
# PROGRAMS is the folder of vpnd, vpnctl and coordinator; SHARED one that both
# sides see. Side a has the coordinator too, which is no child of its vpnd and
# so not counted with it. Once data goes directly, the file {address} has the
# machine's own address in the network. Ends as vpnd does.
set -eu -o pipefail
programs=$1 shared=$2 if=$3 side=$4 uip=$5 dir=$6 address=$7
socket=$dir/vpnd.sock vpnd=$$
find "$dir" -mindepth 1 -delete
if [ "$side" = a ]; then rm -f "$shared/token"; fi

ctl() { "$programs/vpnctl" --socket "$socket" "$@"; }
lives() { kill -0 "$vpnd" 2>/dev/null; }
until_it() { while ! "$@" >/dev/null 2>&1; do lives || exit 1; sleep 0.1; done; }

create() {
  "$programs/coordinator" serve --data-dir "$dir/coordinator" --public-url "https://$uip" \
    --listen "$uip:443" --stun-listen "$uip:3478" &
  coordinator=$!
  trap 'kill "$coordinator" 2>/dev/null' EXIT
  enrol() { "$programs/coordinator" enrol --data-dir "$dir/coordinator" --json >"$dir/enrol.json"; }
  until_it enrol
  until_it ctl status
  echo 'correct horse battery staple' |
    ctl account create ann --enrol "$(jq -r .token "$dir/enrol.json")" --password-stdin
  ctl network create home
  ctl --json invite create | jq -r .token >"$shared/token.new"
  mv "$shared/token.new" "$shared/token"
}

join() {
  until_it ctl status
  until_it test -s "$shared/token"
  ctl join "$(cat "$shared/token")"
}

direct() {
  local status
  status=$(ctl --json status) || return 1
  ping -c 1 -W 1 "$(jq -er '.networks[0].peers[0].ipv4' <<<"$status")" || return 1
  jq -e '.networks[0].peers[0].path == "direct"' <<<"$status"
}

prepare() {
  if [ "$side" = a ]; then create; else join; fi
  until_it direct
  ctl --json status | jq -r '.networks[0].machine.ipv4' >"$address.new"
  mv "$address.new" "$address"
  while lives; do sleep 0.2; done
}

# Two steps away from vpnd, and not its child for wgbench.
(prepare </dev/null >"$dir/prepare.log" 2>&1 &)
exec "$programs/vpnd" --state-dir "$dir/state" --socket "$socket" --interface "$if" \
  --no-port-mapping --no-lan-discovery
