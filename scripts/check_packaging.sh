#!/usr/bin/env bash
# Checks what is shipped beside the code: alert rules, the systemd unit and the shell scripts.
# A tool that is missing is named, its check is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() { printf 'packaging: SKIPPED %s: %s is not installed\n' "$1" "$2"; }

if command -v promtool >/dev/null; then
    promtool check rules packaging/alerts.yml
    promtool test rules packaging/alerts_test.yml
else
    skip "alert rules" promtool
fi

if command -v systemd-analyze >/dev/null; then
    # The program is not installed on a build machine; any executable stands in for it.
    room=$(mktemp -d)
    trap 'rm -rf "$room"' EXIT
    sed 's|^ExecStart=/usr/local/bin/ecumene|ExecStart=/bin/true|' packaging/ecumene.service \
        >"$room/ecumene.service"
    systemd-analyze verify "$room/ecumene.service"
    echo "packaging: ecumene.service is well formed"
    systemd-analyze security --offline=yes --threshold=20 --no-pager "$room/ecumene.service" | tail -1
else
    skip "ecumene.service" systemd-analyze
fi

if command -v shellcheck >/dev/null; then
    shellcheck .ci/run scripts/*.sh
    echo "packaging: scripts are clean"
else
    skip "scripts" shellcheck
fi
