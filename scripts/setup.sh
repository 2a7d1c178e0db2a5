#!/usr/bin/env bash
# Makes this machine able to build Ecumene (`setup.sh build`) or to run its whole test suite
# (`setup.sh test`). Looks first, says what is missing and why, installs only that, and does
# nothing when nothing is missing. Never installs Rust itself: that is the user's choice.
set -euo pipefail
cd "$(dirname "$0")/.."

want=${1:-build}
case $want in build | test) ;; *) echo "usage: scripts/setup.sh build|test" >&2; exit 2 ;; esac

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$@" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Debian packages to install, and what each is for.
packages=()
reasons=()
need() { packages+=("$1"); reasons+=("$1: $2"); }

on_debian() { have apt-get && have dpkg; }

# Without a terminal nobody could type a password, so sudo must not ask for one.
sudo_options=()
[ -t 0 ] || sudo_options=(-n)

may_be_root() { [ "$(id -u)" = 0 ] || have sudo; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "${sudo_options[@]}" "$@"; fi
}

# Runs apt-get and shows what it says only when it fails.
apt_quiet() {
    local log rc=0
    log=$(mktemp)
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" \
        </dev/null >"$log" 2>&1 || rc=$?
    [ $rc = 0 ] || tail -20 "$log" >&2
    rm -f "$log"
    return $rc
}

# Package lists are fetched at most once per run, and only when something is to be installed.
lists_fetched=no
fetch_lists() {
    [ $lists_fetched = no ] || return 0
    lists_fetched=yes
    apt_quiet update
}

check_rust() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    if ! have cargo || ! have rustc; then
        fail "Rust is missing (needs $wanted or newer)." \
            "Install it from https://rustup.rs, then open a new shell and try again."
    fi
    found=$(rustc --version | cut -d' ' -f2)
    if [ "$(printf '%s\n' "$wanted" "${found%%-*}" | sort -V | head -1)" != "$wanted" ]; then
        fail "Rust $found is too old: needs $wanted or newer." "With rustup: rustup update stable"
    fi
}

compiles_c() { have cc && printf '#include <stdio.h>\n' | cc -E - >/dev/null 2>&1; }

# Finds a Python that can make an environment and has pip to fill it; prints its path.
find_python() {
    local python
    for python in python3 /usr/bin/python3; do
        if "$python" -c 'import venv, pip' >/dev/null 2>&1; then echo "$python"; return 0; fi
    done
    return 1
}

list_for_build() {
    compiles_c || {
        need gcc "ring, zstd and mimalloc contain C code"
        need libc6-dev "the C library's headers"
    }
    have make || need make "the targets in the Makefile"
    [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/pki/tls/certs/ca-bundle.crt ] ||
        [ "$(uname)" = Darwin ] || need ca-certificates "cargo fetches crates over TLS"
}

list_for_test() {
    find_python >/dev/null || {
        need python3 "a second client, written in Python, checks the wire format"
        need python3-pip "fills that client's environment in .venv"
    }
}

install_listed() {
    [ ${#packages[@]} -gt 0 ] || return 0
    say "missing:"
    printf '  %s\n' "${reasons[@]}"
    if ! on_debian; then
        fail "This is not Debian or Ubuntu: install these yourself, names may differ." \
            "Fedora: gcc glibc-devel make python3 python3-pip golang-github-prometheus chromium" \
            "Arch:   gcc make python python-pip prometheus chromium" \
            "macOS:  xcode-select --install; brew install python prometheus"
    fi
    may_be_root || fail "Installing needs root, and sudo is missing. As root, type:" \
        "apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"
    say "installing: ${packages[*]}"
    fetch_lists
    apt_quiet install -y --no-install-recommends "${packages[@]}"
}

# promtool checks the metrics page and the alert rules. It is taken out of Debian's package, so
# that no Prometheus service is installed or started.
download_prometheus() { apt-get -qq download prometheus 2>/dev/null; }

setup_promtool() {
    if have promtool || [ -x target/tools/promtool ]; then return 0; fi
    if ! on_debian; then say "SKIPPED promtool: put it on PATH to check metrics and alerts"; return 0; fi
    say "missing:"
    echo "  promtool: checks the metrics page and the alert rules (unpacked into target/tools)"
    local room
    room=$(mktemp -d)
    if (cd "$room" && { download_prometheus || { fetch_lists && download_prometheus; }; } &&
        dpkg-deb -x prometheus_*.deb out); then
        mkdir -p target/tools
        mv "$room/out/usr/bin/promtool" target/tools/promtool
    else
        say "SKIPPED promtool: package prometheus could not be fetched; its checks will say so"
    fi
    rm -rf "$room"
}

# Chromium opens the server's page in a test. It is large, so its absence is no failure.
setup_chromium() {
    if have chromium || have chromium-browser || have google-chrome; then return 0; fi
    if [ "${ECUMENE_NO_CHROMIUM:-}" = 1 ]; then say "SKIPPED chromium: ECUMENE_NO_CHROMIUM=1"; return 0; fi
    if ! on_debian; then say "SKIPPED chromium: install it to run the page test"; return 0; fi
    say "missing:"
    echo "  chromium: opens the server's page in a test (large; ECUMENE_NO_CHROMIUM=1 leaves it out)"
    if ! { may_be_root && fetch_lists && apt_quiet install -y --no-install-recommends chromium; }; then
        say "SKIPPED chromium: it could not be installed; the page test will say so"
    fi
}

# Python packages of the second client. The copy of the list in .venv tells whether they are current.
setup_venv() {
    local list=tests/requirements.txt python
    if cmp -s "$list" .venv/requirements.txt; then return 0; fi
    python=$(find_python)
    say "making .venv from $list: the second client"
    "$python" -m venv --clear --without-pip .venv
    "$python" -m pip --python .venv/bin/python install --quiet --disable-pip-version-check \
        --root-user-action=ignore --only-binary :all: -r "$list"
    cp "$list" .venv/requirements.txt
}

check_rust
list_for_build
[ "$want" = build ] || list_for_test
install_listed
if [ "$want" = test ]; then
    setup_promtool
    setup_chromium
    setup_venv
fi
