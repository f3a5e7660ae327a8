#!/bin/sh
# Puts one role of Tacet on a machine, or a newer version in its place. Needs a POSIX shell and what every Debian has.
#
# Beside it lie `about` (which role this is), `options.sh` and `root/` (all that is installed, at its place). Every file, and every folder
# that was not there before, is written to a list first, /usr/local/lib/tacet/ROLE/installed: uninstall.sh goes by it.
set -eu
umask 022
export LC_ALL=C

usage() {
    cat <<END
Puts Tacet's $role ($version, $architecture) on this machine, or this version in the place of another.

Usage: install.sh [--enable] [--root DIR]

  --enable     start $unit now and at every boot, if that is not so already
  --root DIR   into DIR in place of /, for an image or a test: nothing is started, no account is made
  --help       this

Files go below /usr/local and are listed in /$list.
What an older version keeps (keys, rosters, databases, settings) stays as it is, and a service that runs is restarted.
END
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
[ -r "$here/about" ] && [ -r "$here/options.sh" ] && [ -d "$here/root" ] || {
    echo "install.sh: this is not the folder of an unpacked tarball: about, options.sh or root/ is missing beside $0" >&2
    exit 1
}
# role, version, architecture, unit, program, needs, accounts, state, first: written when the tarball was made.
. "$here/about"
. "$here/options.sh"

enable=
option() {
    [ "$1" = --enable ] || return 1
    enable=yes
}
read_options "$@"

# What can be known to go wrong goes wrong before anything is changed.
if [ -n "$live" ]; then
    [ "$(id -u)" = 0 ] || fail "installing needs root: run this as root, or give --root DIR"
    machine=$(uname -m)
    [ "$(uname -s) $machine" = "Linux $architecture" ] ||
        fail "this is Tacet for Linux on $architecture, and here is $(uname -s) on $machine: take the tarball for $machine"
    runs=0
    "$here/root/usr/local/bin/$program" --version >/dev/null 2>&1 || runs=$?
    case $runs in
    0) ;;
    126) fail "programs cannot be run from $here: unpack the tarball in another folder, such as /root" ;;
    *) fail "$program does not run on this system: it needs Debian 12, or another Linux with glibc 2.36 or newer" ;;
    esac
    [ -z "$enable" ] || [ -z "$needs" ] || [ -e "/$needs" ] ||
        fail "$unit cannot be started before there is /$needs: install without --enable, which tells how to write it"
fi

files=$(cd "$here/root" && find . -type f | sed 's|^\./||' | sort)
folders=$(cd "$here/root" && find . -mindepth 1 -type d | sed 's|^\./||' | sort)
before=$(cat "$root/$list" 2>/dev/null || true)

# Folders that are not there yet, and those that Tacet made before, for this role or another.
known=$(cat "$root"/usr/local/lib/tacet/*/installed 2>/dev/null || true)
plan=$(
    for folder in $folders; do
        if [ ! -d "$root/$folder" ] || printf '%s\n' "$known" | grep -qxF "$folder"; then
            echo "$folder"
        fi
    done
    printf '%s\n' "$files" "$list"
)

unfinished=
trap '[ -z "$unfinished" ] || rm -f "$unfinished"' EXIT
trap 'exit 1' HUP INT TERM

write_list() {
    unfinished=$root/$list.new
    printf '%s\n' "$@" | sed '/^$/d' | sort -u >"$unfinished"
    mv -f "$unfinished" "$root/$list"
    unfinished=
}

# Until all is in place the list has what was there and what will be, so that an interrupted installation can be undone.
mkdir -p "$root/${list%/*}"
write_list "$before" "$plan"
for folder in $folders; do
    mkdir -p "$root/$folder"
done
for file in $files; do
    # Beside and then renamed: a program that runs is replaced, not written into.
    unfinished=$root/$file.new
    cp -f "$here/root/$file" "$unfinished"
    if [ -x "$here/root/$file" ]; then chmod 755 "$unfinished"; else chmod 644 "$unfinished"; fi
    mv -f "$unfinished" "$root/$file"
    unfinished=
done
# What only the older version had.
printf '%s\n' "$before" | sort -r | while IFS= read -r old; do
    if [ -z "$old" ] || printf '%s\n' "$plan" | grep -qxF "$old"; then
        continue
    elif [ -d "$root/$old" ]; then
        rmdir "$root/$old" 2>/dev/null || true
    else
        rm -f "$root/$old"
    fi
done
write_list "$plan"

verb=installed
[ -z "$before" ] || verb=upgraded
echo "$verb: Tacet's $role, version $version${root:+, in $root}"

if [ -z "$live" ]; then
    if [ -n "$enable" ]; then
        mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
        ln -sf "/usr/local/lib/systemd/system/$unit" "$root/etc/systemd/system/multi-user.target.wants/$unit"
        echo "$unit starts when that system does"
    fi
    exit 0
fi

sync -f "/$list" 2>/dev/null || true
# Accounts and folders, as systemd would make them at the next boot; without it in the same way by hand.
if ! systemd-sysusers "/usr/local/lib/sysusers.d/tacet-$role.conf" >/dev/null 2>&1; then
    for account in $accounts; do
        id "$account" >/dev/null 2>&1 && continue
        # An older installation may have left the group.
        useradd --system --no-create-home --shell /usr/sbin/nologin --user-group "$account" >/dev/null 2>&1 ||
            useradd --system --no-create-home --shell /usr/sbin/nologin --gid "$account" "$account" >/dev/null 2>&1 ||
            echo "the account $account could not be made: make it by hand" >&2
    done
fi
if [ -n "$needs" ] && [ ! -d /etc/tacet ]; then
    mkdir -m 755 /etc/tacet
fi
# The kernel remembers no more who spoke to whom over TCP; what it remembers by now, too.
sysctl --load "/usr/local/lib/sysctl.d/tacet-$role.conf" >/dev/null 2>&1 ||
    echo "/usr/local/lib/sysctl.d/tacet-$role.conf takes effect at the next start of this machine"
ip tcp_metrics flush all >/dev/null 2>&1 || true

if ! systemd_runs; then
    echo "systemd does not run here: nothing was enabled or restarted. Start it by hand: $program --help"
    exit 0
fi
systemctl daemon-reload || fail "systemd did not read its units again: systemctl daemon-reload"
if systemctl --quiet is-active "$unit"; then
    systemctl restart "$unit" || fail "$unit did not start again, see: journalctl -u ${unit%.service}"
    echo "$unit was restarted"
elif [ -n "$enable" ]; then
    systemctl --quiet enable --now "$unit" || fail "$unit did not start, see: journalctl -u ${unit%.service}"
    echo "$unit runs, now and at every boot"
fi
if ! systemctl --quiet is-enabled "$unit" 2>/dev/null; then
    echo "next:"
    printf '%s\n' "$first"
fi
