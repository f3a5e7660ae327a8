#!/bin/sh
# Takes one role of Tacet off a machine: what install.sh listed, and nothing else. What the role keeps stays, unless told
# otherwise. It lies in the tarball, and where the role is installed (/usr/local/lib/tacet/ROLE/uninstall.sh).
set -eu
export LC_ALL=C

usage() {
    echo "Takes Tacet's $role off this machine. Without an option it keeps what cannot be made again:"
    echo "$keeps."
    echo
    if [ "$role" = machine ]; then
        cat <<END
Usage: uninstall.sh [--leave [--force] | --keep-state | --purge] [--root DIR]

  --leave        leave every network first, and keep nothing. vpnd must run for that
  --force        with --leave: also where this machine is a network's only signer
  --keep-state   do not ask, keep it: a later installation goes on where this one stops
END
    else
        cat <<END
Usage: uninstall.sh [--keep-state | --purge] [--root DIR]

  --keep-state   what it does anyway
END
    fi
    cat <<END
  --purge        overwrite and remove all that it keeps, and remove its account
  --root DIR     off DIR in place of /, for an image or a test: nothing is stopped
  --help         this
END
    if [ "$role" = machine ]; then
        echo
        echo "A machine that is in a network is asked which of these it shall be; where there is no terminal, all is kept."
    fi
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
[ -r "$here/about" ] && [ -r "$here/options.sh" ] || {
    echo "uninstall.sh: about or options.sh is missing beside $0: take the uninstall.sh of an unpacked tarball" >&2
    exit 1
}
# As in install.sh.
. "$here/about"
. "$here/options.sh"
vpnctl=/usr/local/bin/vpnctl

state_is=
force=
choose() {
    [ -z "$state_is" ] || [ "$state_is" = "$1" ] ||
        fail "--leave, --keep-state and --purge exclude one another (see --help)" 2
    state_is=$1
}
option() {
    case $1 in
    --leave) choose left ;;
    --force) force=--force ;;
    --keep-state) choose kept ;;
    --purge) choose purged ;;
    *) return 1 ;;
    esac
}
read_options "$@"
[ "$state_is" != left ] || [ "$role" = machine ] || fail "only a machine can leave a network: the $role has none" 2
[ -z "$force" ] || [ "$state_is" = left ] || fail "--force goes with --leave (see --help)" 2

[ -n "$live" ] || [ "$state_is" != left ] ||
    fail "a network is left by a machine that runs: vpnctl leave there, or --purge here"
[ -z "$live" ] || [ "$(id -u)" = 0 ] || fail "uninstalling needs root: run this as root, or give --root DIR"
[ -e "$root/$list" ] || [ "$state_is" = purged ] ||
    fail "Tacet's $role is not installed here ($root/$list is missing). To erase what it keeps: --purge"

# How many networks this machine is in, as far as its folders tell.
networks() {
    count=0
    for folder in "$root"/var/lib/tacet/networks/*/; do
        case $folder in
        */\*/ | *.new/) ;;
        *) count=$((count + 1)) ;;
        esac
    done
    echo "$count"
}

# Their names, one a line, if vpnd answers.
names() {
    [ -z "$live" ] || "$vpnctl" --json network list 2>/dev/null | grep -o '{"name":"[a-z0-9-]*"' | cut -d'"' -f4 || true
}

in_networks=0
[ "$role" != machine ] || in_networks=$(networks)
if [ "$in_networks" != 0 ] && [ -z "$state_is" ]; then
    called=$(names | tr '\n' ' ' | sed 's/ $//; s/ /, /g')
    their="a network"
    [ "$in_networks" = 1 ] || their="$in_networks networks"
    echo "This machine is in $their${called:+ ($called)}. Uninstalling alone does not change that: the others go on"
    echo "listing it, and its keys stay in $root/var/lib/tacet."
    if [ -n "$live" ] && [ -t 0 ] && [ -t 1 ]; then
        cat <<END
  l  leave first: its keys are erased. It needs a new invite to come back
  k  keep them: a later installation goes on where this one stops
  c  cancel: nothing is changed
END
        printf 'Leave, keep or cancel? [l/k/C] '
        read -r answer || answer=
        case $answer in
        l | L | leave) state_is=left ;;
        k | K | keep) state_is=kept ;;
        *)
            echo "Nothing was changed."
            exit 0
            ;;
        esac
    fi
fi

leave() {
    if ! "$vpnctl" network list >/dev/null 2>&1 && systemd_runs; then
        systemctl start "$unit" || true
    fi
    "$vpnctl" network list >/dev/null 2>&1 || fail "nothing was changed: a network is left through vpnd, and vpnd does \
not run. Start it and try again; or erase everything unseen by the others, with --purge"
    for network in $(names); do
        # It says what a signer has to do.
        "$vpnctl" --network "$network" leave --yes $force ||
            fail "$network was not left, and Tacet stays installed. Where this machine is the only signer: --leave --force"
    done
    [ "$(networks)" = 0 ] ||
        fail "a network could not be left, and Tacet stays installed: see vpnctl status; or erase everything with --purge"
}

[ "$state_is" != left ] || leave

# Ends the program that holds a lock.
stop_by_hand() {
    for process in $(awk -v at=":$(stat -c %i "$1")$" '$2 == "FLOCK" && $6 ~ at { print $5 }' /proc/locks); do
        case $(readlink "/proc/$process/exe" || true) in
        */"$program" | */"$program (deleted)") kill "$process" 2>/dev/null || true ;;
        esac
    done
    flock --timeout 10 "$1" true || fail "a $program that was started by hand still runs: stop it, then try again"
}

if systemd_runs; then
    systemctl --quiet disable --now "$unit" 2>/dev/null || true
elif [ -z "$live" ]; then
    rm -f "$root/etc/systemd/system/multi-user.target.wants/$unit"
fi
if [ -n "$live" ]; then
    # One that was started by hand holds the lock of what it keeps.
    for kept in $state; do
        [ ! -e "/$kept/lock" ] || flock --nonblock "/$kept/lock" true || stop_by_hand "/$kept/lock"
    done
fi

if [ -e "$root/$list" ]; then
    # Backwards: what is in a folder before the folder. The list goes last, with the folders that were made for it.
    listed=$(sort -r "$root/$list")
    remove() {
        if [ -d "$root/$1" ] && [ ! -L "$root/$1" ]; then
            rmdir "$root/$1" 2>/dev/null || true
        else
            rm -f "$root/$1"
        fi
    }
    for entry in $listed; do
        case $list in
        "$entry" | "$entry"/*) ;;
        *) remove "$entry" ;;
        esac
    done
    remove "$list"
    for entry in $listed; do
        [ "${list#"$entry"/}" = "$list" ] || remove "$entry"
    done
    echo "uninstalled: Tacet's $role${root:+, from $root}"
fi
! systemd_runs || systemctl daemon-reload || true

# Zeros over every file, as far as the file system writes in place, then away with it.
erase() {
    for path in "$@"; do
        [ -e "$root/$path" ] || [ -L "$root/$path" ] || continue
        find "$root/$path" -xdev -type f -exec shred --iterations=0 --zero --remove=unlink -- {} + ||
            fail "not all of $root/$path could be erased: try again with --purge"
        rm -rf -- "$root/$path" 2>/dev/null || [ -d "$root/$path" ] || fail "$root/$path could not be removed"
    done
}

if [ "$state_is" = purged ] || [ "$state_is" = left ]; then
    # shellcheck disable=SC2086 # words without blanks
    erase $state $settings
    [ "$in_networks" = 0 ] || [ "$state_is" = left ] ||
        echo "The networks that it was in list it still: on a signer, vpnctl machines remove NAME"
fi
# A socket that nobody answers, and folders with nothing in them, are nothing to keep.
[ -z "$runtime" ] || rm -rf "$root/$runtime" 2>/dev/null || true
left=
for kept in $state $settings; do
    [ ! -d "$root/$kept" ] || rmdir "$root/$kept" 2>/dev/null || true
    [ ! -e "$root/$kept" ] || left="$left /$kept"
done
rmdir "$root/etc/tacet" 2>/dev/null || true
if [ -n "$left" ]; then
    echo "kept:$left"
    echo "To erase that: uninstall.sh --purge, of the tarball of the $role"
elif [ -n "$live" ]; then
    # The accounts own what is kept; with nothing kept they go too.
    for account in $accounts; do
        userdel "$account" >/dev/null 2>&1 || true
        groupdel "$account" >/dev/null 2>&1 || true
    done
fi
