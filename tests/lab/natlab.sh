#!/usr/bin/env bash
# natlab.sh - a NAT and bad-network laboratory out of Linux network namespaces.
#
#   natlab.sh up TOPOLOGY            build a lab; prints its run id (TOPOLOGY: a spec, a JSON file, or - for stdin)
#   natlab.sh list [--json]          runs, or with a run chosen: its sites, hosts and addresses
#   natlab.sh exec HOST -- CMD...    run CMD inside a host (a-1, srv, srv2, router:SITE, isp:NAME, inet)
#   natlab.sh addr HOST [4|6]        print a host's address (srv has two of each: addr srv 4 2)
#   natlab.sh roam HOST SITE         move a host to another site: same interface, link flap, new address
#   natlab.sh attach HOST SITE       give a host a second uplink (eth1, worse metric); detach HOST removes it
#   natlab.sh flush-nat SITE         forget all NAT state (reboot, rebinding); a remap site gets new ports
#   natlab.sh nat SITE TYPE          change a site's NAT type while it runs, state forgotten
#   natlab.sh wan-ip SITE            give the site's router a new public address (ISP reconnect)
#   natlab.sh cut LINK [in|out]      partition a link, in one direction only where said (asymmetric path)
#   natlab.sh cut LINK LINK          partition two sites from each other only; both keep the rest
#   natlab.sh heal [LINK]            undo every cut of that link (of all links)
#   natlab.sh loss LINK PERMILLE     random packet loss, each direction (0: none)
#   natlab.sh hole LINK BYTES        MTU black hole: larger IP packets vanish, no ICMP (0: none)
#   natlab.sh mtu LINK BYTES         honest small MTU: routers answer with ICMP (1500: normal)
#   natlab.sh rate LINK RATE         rate limit, each direction, e.g. 20mbit (0: none)
#   natlab.sh delay LINK MS [JITTER_MS [REORDER]]   one-way delay, each direction (0: none)
#   natlab.sh freeze HOST            SIGSTOP all its processes (sleep); thaw HOST wakes them
#   natlab.sh down [--all]           kill what runs inside, remove everything
#   natlab.sh selftest [--quick]     check that every NAT type and condition is what its name says
#
# LINK is a site, a server (srv, srv2), or the isp= name that sites share. Choose a run with -r RUN (first argument)
# or NATLAB_RUN; with one run alive there is no need.
#
# TOPOLOGY as a spec: sites separated by commas, each NAME=TYPE[:HOSTS][:KEY=VALUE]..., and @KEY=VALUE for the lab:
#     a=easy:2,b=hard:v6=1:loss=20,c=cgnat:delay=40,@servers=2
# or JSON with the same keys: {"servers":2,"sites":[{"name":"a","nat":"easy","hosts":2},...]}
# Lab keys:  v6=1 (all sites) servers=N offload=1 (keep GSO: faster, but loss and holes then hit whole bursts)
#            in_order=1 (links keep the order of a flow, as network cards do; offload=1 means that too)
# Site keys: hosts v6 loss hole mtu rate delay jitter hairpin=1 isp=NAME isp_nat=TYPE isp_hairpin=1
#            lan=192.168.1 (to make LANs overlap) udp_timeout udp_stream (conntrack seconds)
#            wan=203.0.113.7 (the router's public address, in a /24 of its own) first=N (the first host's number)
#            igd=1 (the router maps ports for whoever asks: miniupnpd; igd=pcp, natpmp or upnp: by that protocol alone)
#            auth=1 (the proxy of a blocked site wants the user lab with the password sesame)
#            net6=2001:db8:1:2 (the LAN's /64; in JSON only)
# NAT types (mapping + filtering, RFC 4787):
#   none       no NAT, no firewall: the hosts are public
#   easy       endpoint-independent + address and port dependent, port kept: a Linux home router
#   remap      as easy, but the public port differs from the private one
#   addr       endpoint-independent + address dependent
#   fullcone   endpoint-independent + endpoint-independent
#   hard       address and port dependent (symmetric), random ports + address and port dependent
#   one2one    cloud 1:1 NAT, everything inbound goes to the first host
#   cgnat      an easy home router behind a second NAT of the ISP (isp_nat, default easy), 100.64/10 between
#   udpblocked only TCP to port 443 gets out
#   blocked    nothing gets out but HTTP CONNECT to port 443 through the proxy ROUTER-LAN-ADDRESS:3128
#   v6only     IPv6 with a stateful firewall, no IPv4 at all
# IPv6 is never translated; all types but none, udpblocked and blocked put a stateful firewall before it.
#
# Needs root, bash, iproute2, nftables, iputils-ping, jq; python3 for delay, blocked, flush-nat (or conntrack) and
# selftest; miniupnpd for igd. Nothing is connected to the machine's own network.
set -euo pipefail
export LC_ALL=C
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BASE=${NATLAB_STATE:-/run/natlab}
TYPES="none easy remap addr fullcone hard one2one cgnat udpblocked blocked v6only"

die() { echo "natlab: $*" >&2; exit 1; }
need() { command -v "$1" >/dev/null || die "$1 is missing"; }

# ------------------------------------------------------------------ run state
RUN=${NATLAB_RUN:-}
[[ ${1:-} == -r ]] && { RUN=${2:?run id}; shift 2; }
pick() {
  if [[ -z $RUN ]]; then
    local all=("$BASE"/*/)
    [[ -d ${all[0]} ]] || die "no lab is up"
    ((${#all[@]} == 1)) || die "several labs are up: choose one with -r RUN (natlab.sh list)"
    RUN=$(basename "${all[0]}")
  fi
  D=$BASE/$RUN P=nl-$RUN
  [[ -d $D ]] || die "no lab $RUN"
}
get() { cat "$D/$1/$2" 2>/dev/null || echo "${3:-}"; } # get site.a nat [default]
put() { mkdir -p "$D/$1" && printf '%s\n' "$3" >"$D/$1/$2"; }
ns() { # name as the user says it -> namespace
  case $1 in
    inet) echo "$P-inet" ;;
    router:*) echo "$P-r-${1#router:}" ;;
    isp:*) echo "$P-i-${1#isp:}" ;;
    *) [[ -d $D/host.$1 ]] || die "no host $1 in lab $RUN"; echo "$P-h-$1" ;;
  esac
}
inn() { local n=$1; shift; ip netns exec "$n" "$@"; }
sysctl_in() { # NS key=value...   (keys with slashes)
  local n=$1 s=; shift
  for kv in "$@"; do s+="[ -e /proc/sys/${kv%%=*} ] && echo '${kv#*=}' >/proc/sys/${kv%%=*}; "; done
  ip netns exec "$n" sh -c "$s true"
}
newns() {
  ip netns add "$1"
  sysctl_in "$1" net/ipv4/ip_forward=${2:-0} net/ipv6/conf/all/forwarding=${2:-0} \
    net/ipv4/conf/all/rp_filter=0 net/ipv4/conf/default/rp_filter=0 \
    net/ipv6/conf/all/accept_dad=0 net/ipv6/conf/default/accept_dad=0 net/ipv6/conf/default/accept_ra=0 \
    net/ipv6/conf/all/disable_ipv6=0 net/ipv6/conf/default/disable_ipv6=0 \
    net/ipv4/conf/all/send_redirects=0 net/ipv4/conf/default/send_redirects=0 \
    net/bridge/bridge-nf-call-iptables=0 net/bridge/bridge-nf-call-ip6tables=0 net/bridge/bridge-nf-call-arptables=0 \
    net/ipv4/ping_group_range="0 2147483647" net/ipv4/icmp_ratelimit=0
  ip -n "$1" link set lo up
}
one_flow_one_cpu() { # NS if     as a network card's queues do: else a sender that moves to another CPU overtakes itself
  local n; n=$(nproc)
  ip netns exec "$1" sh -c "printf %x $(((1 << (n < 32 ? n : 32)) - 1)) >/sys/class/net/$2/queues/rx-0/rps_cpus"
}
veth() { # NS1 if1 NS2 if2
  ip -n "$1" link add "$2" type veth peer name "$4" netns "$3"
  if [[ $(get lab offload 0) != 1 ]]; then
    ip -n "$1" link set "$2" gso_max_segs 1
    ip -n "$3" link set "$4" gso_max_segs 1
  fi
  if [[ $(get lab offload 0) == 1 || $(get lab in_order 0) == 1 ]]; then
    one_flow_one_cpu "$1" "$2"
    one_flow_one_cpu "$3" "$4"
  fi
  ip -n "$1" link set "$2" up
  ip -n "$3" link set "$4" up
}

# ------------------------------------------------------------- NAT and filters
wan4() { ip -n "$1" -j -4 addr show dev wan 2>/dev/null | jq -r '.[0].addr_info[0].local // empty'; }
ports_map() { # a fixed scatter of 4096 public ports for the remap type
  local i out=
  for ((i = 0; i < 4096; i++)); do out+="$i : $((20000 + i * 7919 % 40961)), "; done
  echo "${out%, }"
}
load_rules() { # NS type kind(site|isp) hairpin udp_timeout udp_stream first_host_ip lan_ip
  local n=$1 type=$2 kind=$3 hairpin=$4 first=$7 lanip=$8 wan maps='' track='' pre='' post='' fwd='' policy=drop
  wan=$(wan4 "$n")
  local keep=300s
  [[ -n $6 ]] && keep=${6}s
  if [[ $hairpin == 1 || $type == fullcone || $type == addr ]]; then
    maps="map fc { type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout $keep; size 16384; }
          set sent { type ipv4_addr . inet_service; flags dynamic,timeout; timeout $keep; size 16384; }"
    track="oifname wan meta l4proto udp update @fc { udp sport : ip saddr . udp sport }
           oifname wan meta l4proto udp update @sent { ip daddr . udp sport }"
  fi
  if [[ $hairpin == 1 && -n $wan ]]; then
    pre+="iifname lan ip daddr $wan meta l4proto udp dnat ip to udp dport map @fc
          "
    post+="iifname lan oifname lan ct status dnat snat ip to $wan
           "
  fi
  case $type in
    none) policy=accept ;;
    easy | udpblocked) post+="oifname wan masquerade" ;;
    remap) post+="oifname wan meta l4proto udp masquerade to :jhash ip saddr . udp sport mod 4096 seed 0x$(od -An -N4 -tx4 /dev/urandom | tr -d ' ') map { $(ports_map) }
                  oifname wan masquerade" ;;
    addr) pre+="iifname wan ip saddr . udp dport @sent dnat ip to udp dport map @fc"
      post+="oifname wan masquerade" ;;
    fullcone) pre+="iifname wan meta l4proto udp dnat ip to udp dport map @fc"
      post+="oifname wan masquerade" ;;
    hard) post+="oifname wan masquerade random,fully-random" ;;
    one2one) pre+="iifname wan dnat ip to $first"
      post+="oifname wan masquerade" ;;
    blocked | v6only) ;;
    *) die "unknown NAT type $type (one of: $TYPES)" ;;
  esac
  case $type in
    udpblocked) fwd="iifname lan oifname wan tcp dport 443 accept" ;;
    blocked) fwd="" ;;
    *) fwd="iifname lan oifname wan accept
            ct status dnat accept" ;;
  esac
  [[ $kind == isp ]] && fwd+="
            meta nfproto ipv6 accept"
  inn "$n" nft -f - <<EOF
flush ruleset
table ip nat {
  $maps
  chain track { type filter hook postrouting priority 90; policy accept;
    $track
  }
  chain pre { type nat hook prerouting priority -100; policy accept;
    $pre
  }
  chain post { type nat hook postrouting priority 100; policy accept;
    $post
  }
}
table inet filter {
  chain in { type filter hook input priority 0; policy drop;
    iifname { lo, lan } accept
    ct state established,related accept
    meta l4proto { icmp, ipv6-icmp } accept
  }
  chain through { type filter hook forward priority 0; policy $policy;
    ct state established,related accept
    $fwd
  }
}
EOF
  # shellcheck disable=SC2046
  sysctl_in "$n" $([[ -n $5 ]] && echo "net/netfilter/nf_conntrack_udp_timeout=$5") \
    $([[ -n $6 ]] && echo "net/netfilter/nf_conntrack_udp_timeout_stream=$6")
}
rules_of_site() {
  local s=site.$1 lan
  lan=$(get "$s" lan)
  load_rules "$P-r-$1" "$(get "$s" nat)" site "$(get "$s" hairpin 0)" "$(get "$s" udp_timeout)" \
    "$(get "$s" udp_stream)" "$lan.11" "$lan.1"
  start_igd "$1"
}
start_igd() { # a router that starts anew has forgotten what it mapped
  local s=site.$1 n=$P-r-$1 mode drop=; mode=$(get "$s" igd)
  [[ -n $mode ]] || return 0
  need miniupnpd
  case $mode in
    1 | upnp) ;;
    pcp) drop="udp dport 5351 @th,64,8 0 drop" ;;
    natpmp) drop="udp dport 5351 @th,64,8 2 drop" ;;
    *) die "igd is 1, pcp, natpmp or upnp" ;;
  esac
  [[ ! -f $D/$s/igd.pid ]] || kill "$(cat "$D/$s/igd.pid")" 2>/dev/null || true
  inn "$n" nft -f - <<EOF
table inet igd {
  chain only { type filter hook input priority -1; policy accept;
    $drop
  }
  chain through {
  }
  chain pre { type nat hook prerouting priority -101; policy accept;
  }
  chain post { type nat hook postrouting priority 99; policy accept;
  }
}
EOF
  cat >"$D/$s/igd.conf" <<EOF
ext_ifname=wan
listening_ip=lan
http_port=5000
enable_natpmp=$([[ $mode == upnp ]] && echo no || echo yes)
enable_upnp=$([[ $mode == 1 || $mode == upnp ]] && echo yes || echo no)
secure_mode=yes
upnp_table_name=igd
upnp_nat_table_name=igd
upnp_forward_chain=through
upnp_nat_chain=pre
upnp_nat_postrouting_chain=post
uuid=00000000-0000-0000-0000-0000000000$(printf %02d "$(get "$s" idx)")
allow 1024-65535 0.0.0.0/0 1024-65535
EOF
  ip netns exec "$n" miniupnpd -d -f "$D/$s/igd.conf" -P "$D/$s/igd.daemon" </dev/null >/dev/null 2>"$D/$s/igd.log" 9>&- &
  echo $! >"$D/$s/igd.pid"
}
rules_of_isp() {
  local s=isp.$1
  load_rules "$P-i-$1" "$(get "$s" nat)" isp "$(get "$s" hairpin 0)" "" "" "100.64.0.2" "100.64.0.1"
}
forget() { # drop all connection tracking state of a namespace
  if command -v conntrack >/dev/null; then
    inn "$1" conntrack -F >/dev/null 2>&1
  else
    need python3
    inn "$1" python3 - <<'PY'
import socket, struct
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER
for family in (socket.AF_INET, socket.AF_INET6):           # IPCTNL_MSG_CT_DELETE without a tuple: all of them
    s.send(struct.pack("=IHHIIBBH", 20, (1 << 8) | 2, 5, 1, 0, family, 0, 0))
    s.recv(4096)
PY
  fi
}

# ----------------------------------------------------------------------- links
l3dev() { [[ -d $D/link.$1/delay.on ]] && echo "x-$1" || echo "w-$1"; }
have_link() { [[ -d $D/link.$1 ]] && return; local l; l=$(get "site.$1" link); [[ -n $l ]] || die "no link $1 in lab $RUN"; }
link_of() { if [[ -d $D/link.$1 ]]; then echo "$1"; else get "site.$1" link; fi; }
inet_rules() { # the whole middle of the network, from the links' state
  local l out jumps='' chains='' c pair
  for l in "$D"/link.*/; do
    l=$(basename "$l"); l=${l#link.}
    c=
    case $(get "link.$l" cut) in
      both) c+="drop
        " ;;
      in) c+="oifname { w-$l, x-$l } drop
        " ;;
      out) c+="iifname { w-$l, x-$l } drop
        " ;;
    esac
    out=$(get "link.$l" hole 0); [[ $out == 0 ]] || c+="meta length > $out drop
        "
    out=$(get "link.$l" loss 0); [[ $out == 0 ]] || c+="numgen random mod 1000 < $out drop
        "
    chains+="
  chain l_$l { $c
  }"
    jumps+="
    iifname { w-$l, x-$l } jump l_$l
    oifname { w-$l, x-$l } jump l_$l"
  done
  c=
  while read -r pair; do
    [[ -n $pair ]] || continue
    set -- $pair
    c+="iifname { w-$1, x-$1 } oifname { w-$2, x-$2 } drop
        iifname { w-$2, x-$2 } oifname { w-$1, x-$1 } drop
        "
  done < <(cat "$D/pairs" 2>/dev/null)
  inn "$P-inet" nft -f - <<EOF
flush ruleset
table inet middle { $chains
  chain cross { type filter hook forward priority 0; policy accept;
    $c $jumps
  }
}
EOF
}
add_link() { # LINK NS index v4(0|1) v6(0|1) second-octet [ADDRESS]     far end: wan, .1 or ADDRESS   near end: .254
  local l=$1 n=$2 i=$3 wan=${7:-45.$6.$3.1}
  veth "$P-inet" "w-$l" "$n" wan
  put "link.$l" ns "$n"
  : >"$D/link.$l/addrs"
  if [[ $4 == 1 ]]; then
    echo "${wan%.*}.254/24" >>"$D/link.$l/addrs"
    ip -n "$P-inet" addr add "${wan%.*}.254/24" dev "w-$l"
    ip -n "$n" addr add "$wan/24" dev wan
    ip -n "$n" route add default via "${wan%.*}.254"
  fi
  if [[ $5 == 1 ]]; then
    echo "2a0f:$6:$i::ff/64" >>"$D/link.$l/addrs"
    ip -n "$P-inet" addr add "2a0f:$6:$i::ff/64" dev "w-$l" nodad
    ip -n "$n" addr add "2a0f:$6:$i::1/64" dev wan nodad
    ip -n "$n" -6 route add default via "2a0f:$6:$i::ff"
  fi
}
add_routes() { # LINK: (re)install the routes that its routes file lists
  local dst via
  while read -r dst via; do
    ip -n "$P-inet" route replace "$dst" via "$via" dev "$(l3dev "$1")"
  done < <(cat "$D/link.$1/routes" 2>/dev/null)
}
set_rate() {
  local l=$1 n; n=$(get "link.$1" ns)
  local dev=wan; [[ -d $D/host.$l ]] && dev=eth0
  for at in "$P-inet w-$l" "$n $dev"; do
    set -- $at "$2"
    if [[ $3 == 0 ]]; then tc -n "$1" qdisc del dev "$2" root 2>/dev/null || true
    else tc -n "$1" qdisc replace dev "$2" root tbf rate "$3" burst 16kb latency 100ms; fi
    set -- "$l" "$3"
  done
}
set_mtu() {
  local l=$1 dev=wan; [[ -d $D/host.$l ]] && dev=eth0
  ip -n "$(get "link.$l" ns)" link set "$dev" mtu "$2"
  ip -n "$P-inet" link set "$(l3dev "$l")" mtu "$2"
}
set_delay() { # LINK ms jitter reorder: a Python forwarder steps between the link's two ends
  local l=$1 i=$P-inet a mac
  need python3
  mkdir -p "$D/link.$l"
  echo "$2 ${3:-0} 0 ${4:-0}" >"$D/link.$l/delay"
  if [[ ! -d $D/link.$l/delay.on ]]; then
    [[ $2 == 0 ]] && return
    veth "$i" "x-$l" "$i" "y-$l"
    sysctl_in "$i" net/ipv6/conf/w-$l/disable_ipv6=1 net/ipv6/conf/y-$l/disable_ipv6=1 \
      net/ipv4/conf/all/arp_ignore=1
    mac=$(ip -n "$i" -j link show dev "w-$l" | jq -r '.[0].address')
    ip -n "$i" addr flush dev "w-$l"
    ip -n "$i" link set "w-$l" address "02:$(od -An -N5 -tx1 /dev/urandom | sed 's/^ //; s/ /:/g')"
    ip -n "$i" link set "x-$l" address "$mac"
    while read -r a; do
      if [[ $a == *:* ]]; then ip -n "$i" addr add "$a" dev "x-$l" nodad; else ip -n "$i" addr add "$a" dev "x-$l"; fi
    done <"$D/link.$l/addrs"
    mkdir "$D/link.$l/delay.on"
    add_routes "$l"
    ip netns exec "$i" python3 "$HERE/delay.py" "w-$l" "y-$l" --conf "$D/link.$l/delay" \
      </dev/null >/dev/null 2>"$D/link.$l/delay.log" 9>&- &
    echo $! >"$D/link.$l/delay.pid"
    sleep 0.2
  else
    kill -HUP "$(cat "$D/link.$l/delay.pid")"
  fi
}

# -------------------------------------------------------------------- building
join_site() { # HOST SITE IFNAME METRIC: the host's interface is plugged into the site's LAN already; address it
  local h=$1 s=site.$2 dev=$3 metric=$4 k lan idx n=$P-h-$1
  k=$(($(get "$s" next 10) + 1)); put "$s" next $k
  lan=$(get "$s" lan) idx=$(get "$s" idx)
  if [[ $(get "$s" v4) == 1 ]]; then
    ip -n "$n" addr add "$lan.$k/24" dev "$dev"
    ip -n "$n" route add default via "$lan.1" dev "$dev" metric "$metric"
  fi
  if [[ $(get "$s" v6) == 1 ]]; then
    local net6; net6=$(get "$s" net6)
    ip -n "$n" addr add "$net6::$k/64" dev "$dev" nodad
    ip -n "$n" -6 route add default via "$net6::1" dev "$dev" metric "$metric"
  fi
}
add_host() { # HOST SITE number
  local n=$P-h-$1 id
  newns "$n"
  id=$(($(get lab hosts 0) + 1)); put lab hosts $id
  put "host.$1" site "$2"; put "host.$1" id "$id"
  veth "$n" eth0 "$P-r-$2" "p$id"
  ip -n "$P-r-$2" link set "p$id" master lan
  join_site "$1" "$2" eth0 100
  name_host "$1"
}
name_host() { # HOST: what it, and what runs in its namespace, finds by name
  name_netns "$P-h-$1"
}
name_netns() {
  mkdir -p "/etc/netns/$1"
  printf '127.0.0.1 localhost\n::1 localhost\n' >"/etc/netns/$1/hosts"
  local j
  for ((j = 1; j <= $(get lab servers 1); j++)); do
    printf '45.255.%s.2 srv%s.lab\n2a0f:ff:%s::2 srv%s.lab\n' $j $j $j $j
    ((j > 1)) || printf '45.255.1.2 srv.lab\n2a0f:ff:1::2 srv.lab\n'
  done >>"/etc/netns/$1/hosts"
  echo "nameserver 45.255.1.2" >"/etc/netns/$1/resolv.conf"
}
lan_bridge() { # NS v4cidr v6cidr
  # a fixed address: a bridge's own one follows its ports, and a roaming host would take it away
  ip -n "$1" link add lan address "02:$(od -An -N5 -tx1 /dev/urandom | sed 's/^ //; s/ /:/g')" type bridge forward_delay 0
  ip -n "$1" link set lan up
  [[ -z $2 ]] || ip -n "$1" addr add "$2" dev lan
  [[ -z $3 ]] || ip -n "$1" addr add "$3" dev lan nodad
}
spec_to_json() {
  jq -nc --arg s "$1" '
    reduce ($s | gsub("\\s+"; ",") | split(",")[] | select(length > 0)) as $i ({sites: []};
      if $i | startswith("@") then ($i[1:] | split("=")) as $kv | .[$kv[0]] = ($kv[1] // "1")
      else ($i | capture("^(?<name>[^=]+)=(?<rest>.+)$")) as $c | ($c.rest | split(":")) as $p
        | .sites += [reduce $p[1:][] as $o ({name: $c.name, nat: $p[0]};
            if $o | test("^[0-9]+$") then .hosts = $o else ($o | split("=")) as $kv | .[$kv[0]] = ($kv[1] // "1") end)]
      end)' || die "cannot read the spec: $1"
}
cmd_up() {
  local t=${1:?TOPOLOGY} json
  for c in ip tc nft jq ping; do need $c; done
  [[ $(id -u) == 0 ]] || die "root is needed"
  if [[ $t == - ]]; then json=$(cat); elif [[ -f $t ]]; then json=$(cat "$t"); else json=$(spec_to_json "$t"); fi
  local bad
  bad=$(jq -r '(keys - ["sites","v6","servers","offload","in_order"])[],
    (.sites[] | (keys - ["name","nat","hosts","v6","loss","hole","mtu","rate","delay","jitter","hairpin","isp","isp_nat",
      "isp_hairpin","lan","udp_timeout","udp_stream","wan","first","net6","auth","igd"])[])' <<<"$json") || die "the topology is no valid JSON"
  [[ -z $bad ]] || die "unknown keys in the topology: ${bad//$'\n'/ }"
  mkdir -p "$BASE"
  if [[ -n $RUN ]]; then
    [[ $RUN =~ ^[a-z0-9]{1,12}$ ]] || die "a run id has 1 to 12 lower-case letters and digits"
    mkdir "$BASE/$RUN" 2>/dev/null || die "lab $RUN is up already"
  else
    until RUN=$(od -An -N3 -tx1 /dev/urandom | tr -d ' ') && mkdir "$BASE/$RUN" 2>/dev/null; do :; done
  fi
  pick
  trap 'echo "natlab: up failed, removing lab $RUN" >&2; cmd_down' EXIT
  printf '%s\n' "$json" >"$D/topology.json"
  put lab servers "$(jq -r '.servers // 1' <<<"$json")"
  put lab offload "$(jq -r '(.offload // 0) | if . == true then 1 else . end' <<<"$json")"
  put lab in_order "$(jq -r '(.in_order // 0) | if . == true then 1 else . end' <<<"$json")"
  newns "$P-inet" 1
  local j name
  for ((j = 1; j <= $(get lab servers); j++)); do
    name=srv; ((j == 1)) || name=srv$j
    newns "$P-h-$name"
    put "host.$name" site -; put "host.$name" idx $j
    veth "$P-inet" "w-$name" "$P-h-$name" eth0
    put "link.$name" ns "$P-h-$name"
    printf '%s\n' "45.255.$j.254/24" "2a0f:ff:$j::ff/64" >"$D/link.$name/addrs"
    ip -n "$P-inet" addr add "45.255.$j.254/24" dev "w-$name"
    ip -n "$P-inet" addr add "2a0f:ff:$j::ff/64" dev "w-$name" nodad
    local k
    for k in 2 3; do
      ip -n "$P-h-$name" addr add "45.255.$j.$k/24" dev eth0
      ip -n "$P-h-$name" addr add "2a0f:ff:$j::$k/64" dev eth0 nodad
    done
    ip -n "$P-h-$name" route add default via "45.255.$j.254"
    ip -n "$P-h-$name" -6 route add default via "2a0f:ff:$j::ff"
    name_host "$name"
  done
  local i=0 nat hosts v6 loss hole mtu rate delay jitter hairpin isp isp_nat isp_hair lan ut us wan first net6 auth igd
  while IFS='|' read -r name nat hosts v6 loss hole mtu rate delay jitter hairpin isp isp_nat isp_hair lan ut us wan first net6 auth igd; do
    i=$((i + 1))
    [[ $name =~ ^[a-z][a-z0-9]{0,7}$ && $name != srv* ]] || die "bad site name: $name (a letter, then up to 7 letters or digits)"
    [[ ! -d $D/site.$name ]] || die "two sites named $name"
    [[ " $TYPES " == *" $nat "* ]] || die "unknown NAT type $nat (one of: $TYPES)"
    local s=site.$name v4=1 n=$P-r-$name
    if [[ $nat == cgnat ]]; then nat=easy; isp=${isp:-$name}; put "$s" label cgnat; fi
    [[ $nat == v6only ]] && v4=0 v6=1
    if [[ -z $lan ]]; then if [[ $nat == none ]]; then lan=45.1.$i; else lan=192.168.$((10 + i)); fi; fi
    put "$s" nat "$nat"; put "$s" idx $i; put "$s" v4 $v4; put "$s" v6 "$v6"; put "$s" lan "$lan"
    put "$s" hairpin "$hairpin"; put "$s" udp_timeout "$ut"; put "$s" udp_stream "$us"
    net6=${net6:-2a0f:1:$i}
    put "$s" auth "$auth"; [[ -z $igd ]] || put "$s" igd "$igd"
    put "$s" net6 "$net6"; [[ -z $first ]] || put "$s" next $((first - 1))
    newns "$n" 1
    if [[ -n $isp ]]; then
      if [[ ! -d $D/isp.$isp ]]; then
        put "isp.$isp" nat "${isp_nat:-easy}"; put "isp.$isp" hairpin "$isp_hair"; put "isp.$isp" next 1
        put "isp.$isp" idx $i
        newns "$P-i-$isp" 1
        add_link "$isp" "$P-i-$isp" $i 1 1 0
        lan_bridge "$P-i-$isp" 100.64.0.1/16 "2a0f:2:$i::1/64"
        rules_of_isp "$isp"
      fi
      local k ii; k=$(($(get "isp.$isp" next) + 1)); put "isp.$isp" next $k; ii=$(get "isp.$isp" idx)
      veth "$n" wan "$P-i-$isp" "c$k"
      ip -n "$P-i-$isp" link set "c$k" master lan
      ip -n "$n" addr add "100.64.0.$k/16" dev wan
      ip -n "$n" route add default via 100.64.0.1
      ip -n "$n" addr add "2a0f:2:$ii::$k/64" dev wan nodad
      ip -n "$n" -6 route add default via "2a0f:2:$ii::1"
      put "$s" isp "$isp"; put "$s" link "$isp"
      if [[ $v6 == 1 ]]; then
        echo "$net6::/64 2a0f:0:$ii::1" >>"$D/link.$isp/routes"
        ip -n "$P-i-$isp" -6 route add "$net6::/64" via "2a0f:2:$ii::$k"
      fi
    else
      [[ ! -d $D/link.$name ]] || die "the name $name is taken by an ISP"
      add_link "$name" "$n" $i $v4 1 0 "$wan"
      put "$s" link "$name"
      [[ $nat != none ]] || echo "$lan.0/24 ${wan:-45.0.$i.1}" >>"$D/link.$name/routes"
      [[ $v6 != 1 ]] || echo "$net6::/64 2a0f:0:$i::1" >>"$D/link.$name/routes"
    fi
    local l; l=$(get "$s" link)
    add_routes "$l"
    lan_bridge "$n" "$( ((v4)) && echo "$lan.1/24")" "$([[ $v6 == 1 ]] && echo "$net6::1/64")"
    rules_of_site "$name"
    for ((j = 1; j <= hosts; j++)); do add_host "$name-$j" "$name" $j; done
    [[ $nat != blocked ]] || start_proxy "$name"
    [[ $loss == 0 ]] || put "link.$l" loss "$loss"
    [[ $hole == 0 ]] || put "link.$l" hole "$hole"
    [[ -z $mtu ]] || set_mtu "$l" "$mtu"
    [[ -z $rate ]] || set_rate "$l" "$rate"
    [[ $delay == 0 ]] || set_delay "$l" "$delay" "$jitter"
  done < <(jq -r '(.v6 // 0) as $six | def b: if . == true then 1 elif . == false then 0 else . end;
    .sites[] | [.name, .nat, .hosts // 1, ((.v6 // $six) | b), .loss // 0, .hole // 0, .mtu // "", .rate // "",
      .delay // 0, .jitter // 0, ((.hairpin // 0) | b), .isp // "", .isp_nat // "", ((.isp_hairpin // 0) | b),
      .lan // "", .udp_timeout // "", .udp_stream // "",
      .wan // "", .first // "", .net6 // "", ((.auth // 0) | b),
      (.igd // "")] | map(tostring) | join("|")' <<<"$json")
  ((i > 0)) || die "the topology has no sites"
  inet_rules
  trap - EXIT
  echo "$RUN"
}
start_proxy() {
  need python3
  local login=()
  [[ $(get "site.$1" auth 0) != 1 ]] || login=(--auth lab:sesame)
  name_netns "$P-r-$1"
  ip netns exec "$P-r-$1" python3 "$HERE/proxy.py" --listen "$(get "site.$1" lan).1:3128" "${login[@]}" \
    </dev/null >/dev/null 2>"$D/site.$1/proxy.log" 9>&- &
}
pids_of() { ip netns pids "$1" 2>/dev/null || true; }
cmd_down() {
  if [[ ${1:-} == --all ]]; then
    local r
    for r in "$BASE"/*/; do [[ -d $r ]] && (RUN=$(basename "$r"); pick; cmd_down); done
    return 0
  fi
  local n p left=
  # By their names in the file system: `ip netns list` fails where another laboratory comes or goes meanwhile.
  local all; all=$(cd /run/netns 2>/dev/null && compgen -G "$P-*" || true)
  for n in $all; do for p in $(pids_of "$n"); do kill -CONT "$p" 2>/dev/null || true; kill -TERM "$p" 2>/dev/null && left=1; done; done
  [[ -z $left ]] || sleep 0.3
  for n in $all; do
    for p in $(pids_of "$n"); do kill -KILL "$p" 2>/dev/null || true; done # it may have ended by itself
    # Busy while another laboratory copies the mounts.
    local k; for k in 1 2 3 4 5; do ip netns del "$n" 2>/dev/null && break; [[ -e /run/netns/$n ]] || break; sleep 0.1; done
    rm -rf "/etc/netns/$n"
  done
  rmdir /etc/netns 2>/dev/null || true
  rm -rf "$D"
}

# --------------------------------------------------------------------- changes
cmd_roam() {
  local h=$1 to=$2 from id; from=$(get "host.$1" site)
  [[ -d $D/host.$h && $from != - ]] || die "no host $h that could move"
  [[ -d $D/site.$to ]] || die "no site $to"
  id=$(get "host.$h" id)
  ip -n "$P-h-$h" addr flush dev eth0
  ip -n "$P-h-$h" -6 addr flush dev eth0 scope global
  ip -n "$P-h-$h" -6 route del default dev eth0 2>/dev/null || true # IPv4's goes with its address
  ip -n "$P-r-$from" link set "p$id" nomaster
  [[ $from == "$to" ]] || ip -n "$P-r-$from" link set "p$id" netns "$P-r-$to"
  ip -n "$P-r-$to" link set "p$id" master lan up
  put "host.$h" site "$to"
  join_site "$h" "$to" eth0 100
}
cmd_attach() {
  local h=$1 to=$2 id; id=$(get "host.$h" id)
  [[ -n $id && -d $D/site.$to ]] || die "no such host or site"
  veth "$P-h-$h" eth1 "$P-r-$to" "q$id"
  ip -n "$P-r-$to" link set "q$id" master lan
  join_site "$h" "$to" eth1 200
}
cmd_list() {
  if [[ -z $RUN ]] && ! compgen -G "$BASE/*/" >/dev/null; then echo "no lab is up"; return; fi
  if [[ -z $RUN && $(compgen -G "$BASE/*/" | wc -l) -gt 1 ]]; then
    for r in "$BASE"/*/; do echo "$(basename "$r") $(jq -c '[.sites[] | .name + "=" + .nat]' "$r/topology.json")"; done
    return
  fi
  pick
  local h s n out=''
  for h in "$D"/host.*/; do
    h=$(basename "$h"); h=${h#host.}; s=$(get "host.$h" site); n=$P-h-$h
    out+=$(ip -n "$n" -j addr show scope global | jq -c --arg h "$h" --arg s "$s" --arg n "$n" \
      --arg t "$([[ $s == - ]] && echo server || get "site.$s" label "$(get "site.$s" nat)")" \
      --arg gw "$([[ $s == - ]] || get "site.$s" lan)" \
      --arg w "$([[ $s == - ]] || wan4 "$P-r-$s")" --arg l "$([[ $s == - ]] && echo "$h" || get "site.$s" link)" '
      {host: $h, site: $s, nat: $t, link: $l, netns: $n, wan: $w,
       v4: [.[].addr_info[]? | select(.family == "inet") | .local],
       v6: [.[].addr_info[]? | select(.family == "inet6") | .local]}
       + (if $t == "blocked" then {proxy: ($gw + ".1:3128")} else {} end)')$'\n'
  done
  if [[ ${1:-} == --json ]]; then jq -s --arg r "$RUN" '{run: $r, hosts: .}' <<<"$out"
  else echo "run $RUN"; jq -r '[.host, .nat, "wan=" + .wan, (.v4 + .v6 | join(" ")), .netns] | @tsv' <<<"$out"; fi
}

# -------------------------------------------------------------------- commands
num() { [[ $1 =~ ^[0-9]+$ ]] || die "not a number: $1"; }
cmd_set() {
  local what=$1 l; have_link "$2"; l=$(link_of "$2")
  case $what in
    loss) num "$3"; put "link.$l" loss "$3"; inet_rules ;;
    hole) num "$3"; put "link.$l" hole "$3"; inet_rules ;;
    mtu) num "$3"; set_mtu "$l" "$3" ;;
    rate) set_rate "$l" "$3" ;;
    delay) set_delay "$l" "$3" "${4:-0}" "${5:-0}" ;;
  esac
}
cmd_cut() {
  local a b; have_link "$1"; a=$(link_of "$1")
  case ${2:-} in
    '') put "link.$a" cut both ;;
    in | out) put "link.$a" cut "$2" ;;
    *) have_link "$2"; b=$(link_of "$2"); [[ $a != "$b" ]] || die "$1 and $2 share one link"
      echo "$a $b" >>"$D/pairs" ;;
  esac
  inet_rules
}
cmd_heal() {
  if [[ -z ${1:-} ]]; then rm -f "$D"/link.*/cut "$D/pairs"
  else
    local a; have_link "$1"; a=$(link_of "$1"); rm -f "$D/link.$a/cut"
    [[ ! -f $D/pairs ]] || { awk -v a="$a" '$1 != a && $2 != a' "$D/pairs" >"$D/pairs.new"; mv "$D/pairs.new" "$D/pairs"; }
  fi
  inet_rules
}
cmd_flush() {
  if [[ -d $D/site.$1 ]]; then
    rules_of_site "$1"; forget "$P-r-$1"
    local i; i=$(get "site.$1" isp); [[ -z $i ]] || { rules_of_isp "$i"; forget "$P-i-$i"; }
  elif [[ -d $D/isp.$1 ]]; then rules_of_isp "$1"; forget "$P-i-$1"
  else die "no site $1"; fi
}
cmd_nat() {
  [[ -d $D/site.$1 ]] || die "no site $1"
  [[ $2 != cgnat && $2 != none && $2 != v6only && " $TYPES " == *" $2 "* && $(get "site.$1" nat) != none ]] ||
    die "a site cannot change to or from $2 while it runs"
  put "site.$1" nat "$2"; rm -f "$D/site.$1/label"
  [[ $2 != blocked ]] || start_proxy "$1"
  cmd_flush "$1"
}
cmd_wanip() {
  local n old new p l; l=$(get "site.$1" link); [[ -n $l ]] || die "no site $1"
  n=$(get "link.$l" ns); old=$(wan4 "$n"); [[ -n $old ]] || die "$1 has no IPv4"
  p=${old%.*}; new=$((${old##*.} % 200 + 1))
  ip -n "$n" addr del "$old/24" dev wan
  ip -n "$n" addr add "$p.$new/24" dev wan
  ip -n "$n" route replace default via "$p.254"
  if [[ -f $D/link.$l/routes ]]; then sed -i "s/ ${old//./\\.}\$/ $p.$new/" "$D/link.$l/routes"; add_routes "$l"; fi
  if [[ -d $D/isp.$l ]]; then rules_of_isp "$l"; else rules_of_site "$1"; fi
  forget "$n"
}
cmd_addr() { # HOST [4|6] [n-th]
  local f=${2:-4}
  ip -n "$(ns "$1")" -j "-$f" addr show scope global | jq -r --argjson k "${3:-1}" '[.[].addr_info[]? | .local // empty] | sort | .[$k - 1] // empty'
}
sig() { local p; for p in $(pids_of "$(ns "$2")"); do kill "-$1" "$p" 2>/dev/null || true; done; }

verb=${1:-}
[[ -n $verb ]] && shift
case $verb in
  up) cmd_up "$@" ;;
  selftest) . "$HERE/selftest.sh"; cmd_selftest "$@" ;;
  list) cmd_list "$@" ;;
  down) if [[ ${1:-} == --all ]]; then cmd_down --all; else pick; cmd_down; fi ;;
  exec) pick; h=${1:?HOST}; shift; [[ ${1:-} == -- ]] && shift; (($#)) || die "exec HOST -- CMD"
    exec ip netns exec "$(ns "$h")" "$@" ;;
  addr) pick; cmd_addr "${1:?HOST}" "${2:-4}" "${3:-1}" ;;
  roam) pick; cmd_roam "${1:?HOST}" "${2:?SITE}" ;;
  attach) pick; cmd_attach "${1:?HOST}" "${2:?SITE}" ;;
  detach) pick; ip -n "$(ns "${1:?HOST}")" link del eth1 ;;
  flush-nat) pick; cmd_flush "${1:?SITE}" ;;
  nat) pick; cmd_nat "${1:?SITE}" "${2:?TYPE}" ;;
  wan-ip) pick; cmd_wanip "${1:?SITE}" ;;
  cut) pick; cmd_cut "${1:?LINK}" "${2:-}" ;;
  heal) pick; cmd_heal "${1:-}" ;;
  loss | hole | mtu | rate | delay) pick; cmd_set "$verb" "${1:?LINK}" "${2:?value}" "${3:-0}" "${4:-0}" ;;
  freeze) pick; sig STOP "${1:?HOST}" ;;
  thaw) pick; sig CONT "${1:?HOST}" ;;
  '' | -h | --help | help) sed -n '2,/^set -euo/p' "${BASH_SOURCE[0]}" | sed '$d; s/^# \{0,1\}//' ;;
  *) die "unknown command $verb (natlab.sh help)" ;;
esac
