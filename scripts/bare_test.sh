#!/usr/bin/env bash
# Proves the set-up: makes a bare Debian root, mounts only the Rust toolchain into it, clones this
# repository's last commit there and runs what a newcomer types. Mounts live in a namespace of
# their own and are gone when this script ends, however it ends.
#
# What this machine needs to reach package registries (proxy, certificates, mirrors) is copied
# from it at run time. The root stays in target/bare for a look; the next run replaces it.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=${BARE_SUITE:-bookworm}
serving_s_max=20

say() { printf 'bare-test: %s\n' "$*"; }
fail() { printf 'bare-test: %s\n' "$@" >&2; exit 1; }

[ "$(uname)" = Linux ] || fail "needs Linux."
[ "$(id -u)" = 0 ] || fail "needs root (debootstrap, mounts and chroot): sudo -E make bare-test"

if [ "${1:-}" != inside-namespace ]; then
    if ! command -v debootstrap >/dev/null; then
        command -v apt-get >/dev/null || fail "debootstrap is missing: install it with your packages."
        say "installing debootstrap: it makes the bare root"
        apt-get -qq update
        DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends debootstrap
    fi
    exec unshare --mount --pid --fork --kill-child -- "$0" inside-namespace
fi

here=$PWD
root=$here/target/bare
toolchain=$(rustc --print sysroot)

stage() {
    local name=$1 began=$SECONDS
    shift
    say "$name ..."
    "$@" || fail "$name failed after $((SECONDS - began)) s"
    say "$name: $((SECONDS - began)) s"
}

# The mirror this machine uses, or Debian's own.
mirror() {
    local uri
    # shellcheck disable=SC2016 # apt fills in its own placeholders
    uri=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(CODENAME)' 2>/dev/null |
        awk -v suite="$suite" '$2 == "Debian" && $3 == suite { print $1; exit }') || true
    echo "${uri:-http://deb.debian.org/debian}"
}

make_root() {
    rm -rf --one-file-system "$root"
    mkdir -p "$root"
    # `make` is what a newcomer types first; all else is found missing by the set-up.
    debootstrap --variant=minbase --include=make "$suite" "$root" "$(mirror)" >"$here/target/bare.log" 2>&1 ||
        { tail -20 "$here/target/bare.log" >&2; return 1; }
}

copy_network() {
    local file
    for file in /etc/resolv.conf /etc/hosts; do
        if [ -e "$file" ]; then cp -L "$file" "$root$file"; fi
    done
    apt-config dump 2>/dev/null | grep -i '^Acquire::.*proxy' >"$root/etc/apt/apt.conf.d/99host" || true
    # Certificates of the host's own making; the bare root's `ca-certificates` picks them up.
    if [ -d /usr/local/share/ca-certificates ]; then
        mkdir -p "$root/usr/local/share"
        cp -rL /usr/local/share/ca-certificates "$root/usr/local/share/"
    fi
    mkdir -p "$root/root/.cargo"
    for file in config.toml config; do
        file=${CARGO_HOME:-$HOME/.cargo}/$file
        if [ -e "$file" ]; then cp "$file" "$root/root/.cargo/"; fi
    done
    if [ -e /etc/pip.conf ]; then cp /etc/pip.conf "$root/etc/"; fi
}

mount_toolchain() {
    mkdir -p "$root/opt/rust" "$root/proc" "$root/dev"
    mount --bind "$toolchain" "$root/opt/rust"
    mount -o remount,bind,ro "$root/opt/rust"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
}

clone() {
    git -c safe.directory="$here" clone --quiet --no-hardlinks "$here" "$root/root/ecumene"
}

# Runs a command line in the bare root with nothing but a home, a path and the proxy.
within() {
    local keep=() name
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY CARGO_HTTP_PROXY; do
        if [ -n "${!name:-}" ]; then keep+=("$name=${!name}"); fi
    done
    chroot "$root" /usr/bin/env -i HOME=/root PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        "${keep[@]}" bash -euo pipefail -c "cd /root/ecumene && $1" </dev/null
}

# Starts the server as a newcomer does and waits for its health page; then asks it to stop.
serve() {
    # shellcheck disable=SC2016 # expanded inside the bare root
    within '
        make run >/tmp/serve.log 2>&1 &
        run=$!
        trap "cat /tmp/serve.log" EXIT
        page=
        for _ in $(seq '$((serving_s_max * 10))'); do
            kill -0 $run 2>/dev/null || { echo "the server ended by itself"; exit 1; }
            page=$(grep -o "http://[^ /]*" /tmp/serve.log | head -1) || true
            if [ -n "$page" ]; then
                address=${page#http://}
                if { exec 3<>"/dev/tcp/${address%:*}/${address##*:}"; } 2>/dev/null; then
                    # The page answers to its own name alone.
                    printf "GET /healthz HTTP/1.0\r\nHost: %s\r\n\r\n" "$address" >&3
                    if head -1 <&3 | grep -q " 200 "; then break; fi
                    exec 3>&-
                fi
            fi
            page=
            sleep 0.1
        done
        [ -n "$page" ] || { echo "no healthy page within '$serving_s_max' s"; exit 1; }
        pid=$(grep -l "^ecumene" /proc/[0-9]*/comm | head -1 | cut -d/ -f3) || true
        kill -TERM "$pid"
        wait $run'
}

stage "debootstrap $suite" make_root
stage "network" copy_network
stage "mounts" mount_toolchain
stage "clone" clone
stage "make setup" within "make setup"
stage "cargo build --release -p server" within "cargo build --release --quiet -p server"
stage "make run" serve
# Python, promtool and the rest; Chromium alone would double the time.
stage "make setup-test" within "ECUMENE_NO_CHROMIUM=1 make setup-test"
# shellcheck disable=SC2016 # expanded inside the bare root
stage "set-up again does nothing" within '[ -z "$(make --silent setup)" ]'
say "done: $SECONDS s in all; the root stays in ${root#"$here"/}"
