# shellcheck shell=bash
# selftest.sh - the laboratory measures itself: every NAT type and condition must be what its name says.
# Read by natlab.sh, whose functions and variables it uses.
cmd_selftest() {
  local quick=0 fails=0 tmp; [[ ${1:-} == --quick ]] && quick=1
  need python3
  local probe=$HERE/natprobe.py; [[ -f $probe ]] || die "natprobe.py is not beside natlab.sh"
  RUN=
  tmp=$(mktemp -d)
  local began=$SECONDS
  cmd_up "pub=none:v6=1,easy=easy:2,dual=easy:v6=1,remap=remap,addr=addr,full=fullcone,hard=hard,hard2=hard,one=one2one,
    cg=cgnat,cga=cgnat:isp=x,cgb=cgnat:isp=x,cgc=cgnat:isp=y:isp_hairpin=1,cgd=cgnat:isp=y:isp_hairpin=1,cgh=cgnat:isp_nat=hard,
    hair=easy:2:hairpin=1,udpb=udpblocked:v6=1,blk=blocked:v6=1,six=v6only,lossy=easy,@servers=2" >"$tmp/run"
  trap "RUN=$RUN; pick; cmd_down; rm -rf '$tmp'" EXIT
  trap 'exit 130' INT TERM
  pick
  echo "lab $RUN up in $((SECONDS - began)) s"
  ip netns exec "$P-h-srv" python3 "$probe" server --ip 45.255.1.2 --alt-ip 45.255.1.3 \
    --ip6 2a0f:ff:1::2 --alt-ip6 2a0f:ff:1::3 >"$tmp/server" 2>&1 &
  local t=0; until grep -q ready "$tmp/server"; do sleep 0.1; ((++t < 50)) || die "the probe server did not start: $(cat "$tmp/server")"; done

  check() { # name expected measured
    local ok=ok; [[ $2 == "$3" ]] || { ok=MISMATCH; fails=$((fails + 1)); }
    printf '%-34s %-46s %-46s %s\n' "$1" "$2" "$3" "$ok"
  }
  run() { local h=$1; shift; ip netns exec "$(ns "$h")" "$@"; }
  local batch=()
  batched() { batch+=($!); ((${#batch[@]} < ${1:-8})) || done_all; }
  done_all() { local p; for p in "${batch[@]}"; do wait "$p" || true; done; batch=(); }

  printf '%-34s %-46s %-46s\n' "NAT TYPE (host, family)" "EXPECTED mapping/filter/port/hairpin/tcp443/tcp" MEASURED
  # host family expected; the fields: mapping filtering port hairpin tcp443 tcp8443 [proxy]
  local cases='pub-1 4 none/eif/kept/-/yes/yes
pub-1 6 none/eif/kept/-/yes/yes
easy-1 4 eim/apdf/kept/no/yes/yes
dual-1 6 none/apdf/kept/-/yes/yes
remap-1 4 eim/apdf/moved/no/yes/yes
addr-1 4 eim/adf/kept/no/yes/yes
full-1 4 eim/eif/kept/no/yes/yes
hard-1 4 apdm/apdf/moved/no/yes/yes
one-1 4 eim/eif/kept/no/yes/yes
cg-1 4 eim/apdf/kept/no/yes/yes
cgh-1 4 apdm/apdf/moved/no/yes/yes
hair-1 4 eim/apdf/kept/yes/yes/yes
udpb-1 4 noudp/yes/no
udpb-1 6 noudp/yes/no
blk-1 4 noudp/no/no/proxy-yes
six-1 6 none/apdf/kept/-/yes/yes
six-1 4 noudp/no/no'
  local h f want got proxy
  while read -r h f want; do
    proxy=(); [[ $h == blk-1 ]] && proxy=(--proxy "$(get site.blk lan).1:3128")
    if [[ $f == 4 ]]; then run "$h" python3 "$probe" probe --server 45.255.1.2 --alt-server 45.255.1.3 "${proxy[@]}" >"$tmp/p.$h.$f" 2>&1 &
    else run "$h" python3 "$probe" probe --server 2a0f:ff:1::2 --alt-server 2a0f:ff:1::3 >"$tmp/p.$h.$f" 2>&1 & fi
    batched 6
  done <<<"$cases"
  done_all
  while read -r h f want; do
    got=$(jq -r 'def y: if . then "yes" else "no" end;
      (if .udp then [.mapping // "?", .filtering // "?", (if .port_preserved then "kept" else "moved" end),
                     (if .hairpin == null then "-" else (.hairpin | y) end)] else ["noudp"] end)
      + [(.tcp443 | y), (.tcp_other | y)] + (if has("proxy443") then ["proxy-" + (.proxy443 | y)] else [] end)
      | join("/")' "$tmp/p.$h.$f" 2>/dev/null || echo unreadable)
    check "$(get "site.${h%-*}" label "$(get "site.${h%-*}" nat)") ($h, v$f)" "$want" "$got"
  done <<<"$cases"

  printf '\n%-34s %-46s %-46s\n' "PLAIN SIMULTANEOUS OPEN" "EXPECTED direct?" MEASURED
  punch() { # room a b args...
    local r=$1 a=$2 b=$3; shift 3
    run "$a" python3 "$probe" punch --room "$r" --me "$a" "$@" >"$tmp/x.$r.a" 2>/dev/null &
    batch+=($!)
    run "$b" python3 "$probe" punch --room "$r" --me "$b" "$@" >"$tmp/x.$r.b" 2>/dev/null &
    batched 16
  }
  direct() { jq -rs 'if all(.direct) and length == 2 then "direct" else "relay" end' "$tmp/x.$1.a" "$tmp/x.$1.b" 2>/dev/null || echo "?"; }
  local kinds=(pub easy remap addr full hard one cg udpb) x y pairs=() a b
  for ((x = 0; x < ${#kinds[@]}; x++)); do
    for ((y = x; y < ${#kinds[@]}; y++)); do
      a=${kinds[x]}-1 b=${kinds[y]}-1
      [[ $a != "$b" ]] || case ${kinds[x]} in hard) b=hard2-1 ;; easy) b=lossy-1 ;; *) continue ;; esac
      want=direct
      [[ $a == udpb* || $b == udpb* ]] && want=relay
      for k in easy remap cg hard lossy hard2; do
        [[ $a == hard* && $b == $k-* || $b == hard* && $a == $k-* ]] && want=relay
      done
      pairs+=("$a $b $want 4")
    done
  done
  pairs+=("cga-1 cgb-1 relay 4" "cgc-1 cgd-1 direct 4" "easy-1 easy-2 direct 4" "hair-1 hair-2 direct wan"
    "dual-1 six-1 direct 6" "dual-1 pub-1 direct 6" "easy-1 cgh-1 relay 4" "full-1 cgh-1 direct 4")
  ((quick)) && pairs=("easy-1 cg-1 direct 4" "easy-1 hard-1 relay 4" "full-1 hard-1 direct 4" "hard-1 hard2-1 relay 4" "dual-1 six-1 direct 6")
  local n=0 p
  for p in "${pairs[@]}"; do
    set -- $p; n=$((n + 1))
    case $4 in
      4) punch "r$n" "$1" "$2" --server 45.255.1.2 ;;
      wan) punch "r$n" "$1" "$2" --server 45.255.1.2 --local-wan-only ;;
      6) punch "r$n" "$1" "$2" --server6 2a0f:ff:1::2 ;;
    esac
  done
  done_all
  n=0
  for p in "${pairs[@]}"; do
    set -- $p; n=$((n + 1)); check "$1 x $2 ($4)" "$3" "$(direct "r$n")"
  done

  printf '\n%-34s %-46s %-46s\n' "CONDITIONS" EXPECTED MEASURED
  between() { awk -v v="$1" -v a="$2" -v b="$3" 'BEGIN { print (v >= a && v <= b) ? "in range" : v " not in " a ".." b }'; }
  pings() { run "$1" ping -n -c 1 -W 1 "${@:2}" >/dev/null 2>&1 && echo yes || echo no; }
  lost() { run "$1" python3 "$probe" loss --server 45.255.1.2 --count 1500 | jq .lost_permille; }
  rtt() { run "$1" ping -n -c "${2:-5}" -i 0.2 -W 2 45.255.1.2 | awk -F'[ /]' '/^rtt/ { print $7 }'; } # the least of them
  check "loss 0" "in range" "$(between "$(lost lossy-1)" 0 3)"
  cmd_set loss lossy 100
  check "loss 100 permille, round trip 190" "in range" "$(between "$(lost lossy-1)" 150 232)"
  cmd_set loss lossy 0
  cmd_set hole lossy 1280
  check "hole 1280: 1280 B DF passes" yes "$(pings lossy-1 -M do -s 1252 45.255.1.2)"
  check "hole 1280: 1281 B DF silent" "no, 0 errors" "$(pings lossy-1 -M do -s 1253 45.255.1.2), $(run lossy-1 ping -n -c 1 -W 1 -M do -s 1253 45.255.1.2 2>&1 | grep -c -i frag || true) errors"
  cmd_set hole lossy 0
  cmd_set mtu lossy 1280
  check "mtu 1280: 1281 B DF gets ICMP" yes "$([[ $(run lossy-1 ping -n -c 1 -W 1 -M do -s 1253 45.255.1.2 2>&1) == *[Ff]rag*needed* ]] && echo yes || echo no)"
  cmd_set mtu lossy 1500
  check "delay 0: RTT" "in range" "$(between "$(rtt lossy-1)" 0 5)"
  cmd_set delay lossy 40
  check "delay 40: least RTT 80" "in range" "$(between "$(rtt lossy-1)" 80 95)"
  check "delay 40: checksums intact (TCP)" yes "$(run lossy-1 python3 "$probe" probe --server 45.255.1.2 | jq -r 'if .tcp443 and .udp then "yes" else "no" end')"
  cmd_set delay lossy 100 20
  check "delay 100 jitter 20: least RTT" "in range" "$(between "$(rtt lossy-1 10)" 160 215)"
  cmd_set delay lossy 0
  check "delay back to 0: RTT" "in range" "$(between "$(rtt lossy-1)" 0 10)"
  cmd_set rate easy 8mbit
  check "rate 8mbit: TCP" "in range" "$(between "$(run easy-1 python3 "$probe" tcpbulk --server 45.255.1.2 | jq .mbit)" 5 10)"
  cmd_set rate easy 0
  cmd_cut easy
  check "cut: easy to srv" no "$(pings easy-1 45.255.1.2)"
  cmd_heal easy
  check "heal: easy to srv" yes "$(pings easy-1 45.255.1.2)"
  cmd_cut pub out
  check "cut pub out: echo does not return" no "$(pings easy-1 "$(get site.pub lan).11")"
  cmd_heal
  cmd_cut easy pub
  check "cut easy pub: pair only" "no, yes" "$(pings easy-1 "$(get site.pub lan).11"), $(pings easy-1 45.255.1.2)"
  cmd_heal easy
  cmd_cut srv
  check "cut srv: srv2 stays" "no, yes" "$(pings easy-1 45.255.1.2), $(pings easy-1 45.255.2.2)"
  cmd_heal
  mapped() { run "$1" python3 "$probe" probe --server 45.255.1.2 --local-port "$2" | jq -r '(.mapped // ["none", 0]) | join(":")'; }
  local m1 m2
  m1=$(mapped remap-1 41000); m2=$(mapped remap-1 41000)
  check "remap: mapping is stable" same "$([[ $m1 == "$m2" ]] && echo same || echo "$m1 $m2")"
  cmd_flush remap
  m2=$(mapped remap-1 41000)
  check "flush-nat remap: port changes" changed "$([[ $m1 == "$m2" || $m2 == none* ]] && echo "$m1 $m2" || echo changed)"
  m1=$(mapped easy-2 41001); cmd_wanip easy; m2=$(mapped easy-2 41001)
  check "wan-ip easy: address changes" changed "$([[ ${m1%:*} == "${m2%:*}" || $m2 == none* ]] && echo "$m1 $m2" || echo changed)"
  run easy-2 sleep 60 & p=$!
  m1=$(run easy-2 cat /sys/class/net/eth0/ifindex); cmd_roam easy-2 full
  check "roam easy-2 to full: new LAN" "192.168.$((10 + $(get site.full idx))).12" "$(cmd_addr easy-2 4)"
  check "roam: interface, process kept" "same, alive" "$([[ $m1 == "$(run easy-2 cat /sys/class/net/eth0/ifindex)" ]] && echo same), $(kill -0 $p 2>/dev/null && echo alive)"
  check "roam: works there" "eif" "$(run easy-2 python3 "$probe" probe --server 45.255.1.2 --alt-server 45.255.1.3 | jq -r .filtering)"
  kill $p 2>/dev/null || true
  cmd_nat full hard
  check "nat full hard: type changes" apdm "$(run full-1 python3 "$probe" probe --server 45.255.1.2 --alt-server 45.255.1.3 | jq -r .mapping)"
  cmd_attach easy-1 dual
  check "attach: second uplink works" yes "$(pings easy-1 -I eth1 45.255.1.2)"
  local other before; before=$RUN
  other=$(RUN=''; cmd_up "a=easy,b=hard")
  check "second lab at the same time" "yes, yes" "$(RUN=$other; pick; pings a-1 45.255.1.2), $(RUN=$before; pick; pings easy-1 -I eth0 45.255.1.2)"
  (RUN=$other; pick; cmd_down)
  check "down leaves nothing of it" 0 "$(ip netns list | grep -c "nl-$other-" || true)"
  check "down leaves the other lab" yes "$(pings easy-1 -I eth0 45.255.1.2)"

  printf '\n%s mismatches, %s s\n' "$fails" "$((SECONDS - began))"
  ((fails == 0))
}

