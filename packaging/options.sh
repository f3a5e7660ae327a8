# What install.sh and uninstall.sh share. Each reads `about`, then this, from beside itself, and says by `option` which
# options are its own.

list=usr/local/lib/tacet/$role/installed

fail() {
    echo "${0##*/}: $1" >&2
    exit "${2:-1}"
}

# Sets root (empty: the machine itself) and live (empty: a folder).
read_options() {
    root=
    while [ $# -gt 0 ]; do
        case $1 in
        --root)
            # An empty one is a variable that was not set: not the machine itself.
            [ -n "${2-}" ] || fail "--root needs a folder (see --help)" 2
            root=$2
            shift
            ;;
        --root=*)
            root=${1#--root=}
            [ -n "$root" ] || fail "--root needs a folder (see --help)" 2
            ;;
        --help | -h)
            usage
            exit 0
            ;;
        *) option "$1" || fail "there is no option $1 (see --help)" 2 ;;
        esac
        shift
    done
    live=yes
    if [ -n "$root" ]; then
        [ -d "$root" ] || fail "there is no folder $root"
        root=$(CDPATH='' cd -- "$root" && pwd -P)
        [ "$root" = / ] && root= || live=
    fi
}

systemd_runs() {
    [ -n "$live" ] && [ -d /run/systemd/system ] && command -v systemctl >/dev/null
}
