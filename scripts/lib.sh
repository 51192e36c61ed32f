# shellcheck shell=sh
# What scripts/run and scripts/test share: installing packages when they are missing, and building out of tree.

say() {
    printf '\033[1m==>\033[0m %s\n' "$*" >&2
}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# need PACKAGE...: installs those Debian packages that are not there yet; silent and quick when all are.
need() {
    missing=
    for package in "$@"; do
        # "a|b": any of them will do.
        found=
        for one in $(printf '%s' "$package" | tr '|' ' '); do
            if dpkg-query -W -f='${Status}' "$one" 2>/dev/null | grep -q '^install ok installed'; then
                found=1
                break
            fi
        done
        [ -n "$found" ] || missing="$missing ${package%%|*}"
    done
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        die "these Debian packages are needed and apt-get is not here to install them:$missing"
    fi
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null 2>&1 || die "run this as root once, or install:$missing"
        as_root=sudo
    fi
    say "installing:$missing"
    # A package's own service must not start: the tests and rpd start what they need on free ports.
    policy=/usr/sbin/policy-rc.d
    placed=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
        $as_root chmod 755 "$policy"
        placed=1
    fi
    status=0
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing \
        </dev/null >&2 || {
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q </dev/null >&2 &&
            $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing \
                </dev/null >&2
    } || status=$?
    [ -z "$placed" ] || $as_root rm -f "$policy"
    [ "$status" -eq 0 ] || die "apt-get failed"
}

# shellcheck disable=SC2034
BUILD_PACKAGES="gcc libc6-dev make autoconf automake pkgconf|pkg-config libinih-dev libpcre2-dev libc-ares-dev libssl-dev libnghttp2-dev \
zlib1g-dev libbrotli-dev libzstd-dev"

# build DIR [CONFIGURE-ARGUMENT...]: configures when that was not done or, if arguments are given, when they changed; and makes.
# The caller has set top. The output is shown only when something fails.
build() {
    dir=$1
    shift
    mkdir -p "$dir"
    log=$dir/build.log
    build_steps "$@" 3>&2 >"$log" 2>&1 || {
        tail -n 40 "$log" >&2
        die "the build failed; the whole output is in $log"
    }
}

build_steps() {
    # shellcheck disable=SC2154
    if [ ! -x "$top/configure" ] || [ -n "$(find "$top/configure.ac" -newer "$top/configure")" ]; then
        say "preparing configure" 2>&3
        (cd "$top" && autoreconf -i) || return 1
    fi
    if [ ! -f "$dir/Makefile" ] || { [ $# -gt 0 ] && [ "$(cat "$dir/configured" 2>/dev/null)" != "$*" ]; }; then
        say "configuring ${dir#"$top"/}" 2>&3
        (cd "$dir" && "$top/configure" --sysconfdir=/etc --localstatedir=/var "$@") || return 1
        printf '%s' "$*" >"$dir/configured"
    fi
    say "building ${dir#"$top"/}" 2>&3
    make -C "$dir" -j "$(nproc)" || return 1
}
