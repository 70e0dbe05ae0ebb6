#!/usr/bin/env bash
# What the README promises, on a Debian 12 with nothing but Python, as root:
#   tests/fresh/run.sh [up] [wheel] [test]
# Each is tried in a tree of its own that mmdebstrap makes, on what is committed here, with this
# machine's network and pip settings. Nothing is left behind. `test` takes as long as the tests do.
set -euo pipefail
cd "$(dirname "$0")/../.."

need=()
command -v mmdebstrap >/dev/null || need+=(mmdebstrap)
command -v systemd-nspawn >/dev/null || need+=(systemd-container)
if ((${#need[@]})); then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi

folder=$(mktemp -d /var/tmp/wattkeeper-fresh.XXXXXX)
trap 'rm -rf --one-file-system "$folder"' EXIT
# Indexes and certificates are this machine's: what its network needs, a site's may not.
certificates=/etc/ssl/certs/ca-certificates.crt
given=(--setenv=DEBIAN_FRONTEND=noninteractive "--setenv=PIP_CERT=/opt/certificates.pem")
for name in "${!PIP_@}"; do
  [[ $name == *INDEX* || $name == *TIMEOUT ]] && given+=("--setenv=$name=${!name}")
done
[[ -e /etc/pip.conf ]] && given+=(--bind-ro=/etc/pip.conf)

# Run a command in the tree, in the checkout.
inside() {
  echo "→ $*"
  systemd-nspawn --quiet --register=no --keep-unit --directory="$folder/tree" --chdir=/srv/wattkeeper \
    --resolv-conf=copy-host --console=pipe "${given[@]}" "$@" </dev/null
}

up() { inside python3 start.py up; }

test() { inside python3 start.py test; }

wheel() {
  inside sh -euc '
    apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    python3 -m venv /opt/build && /opt/build/bin/pip wheel --quiet --no-deps --wheel-dir /opt/wheel .
    rm -r /opt/build /srv/wattkeeper/*
    for extra in "" "[kubernetes]" "[aggregator,postgresql]"; do
      python3 -m venv --clear /opt/wattkeeper
      /opt/wattkeeper/bin/pip install --quiet "$(ls /opt/wheel/*.whl)$extra"
      /opt/wattkeeper/bin/wattkeeper --version
    done
    cd / && exec /opt/wattkeeper/bin/wattkeeper up'
}

mmdebstrap --quiet --variant=minbase --include=python3 bookworm "$folder/base"
printf '127.0.0.1 localhost\n::1 localhost\n' >"$folder/base/etc/hosts" # as any installer does
cp "${PIP_CERT:-$certificates}" "$folder/base/opt/certificates.pem"
(($#)) || set -- up wheel test
for what; do
  rm -rf "$folder/tree"
  cp -a --reflink=auto "$folder/base" "$folder/tree"
  git clone --quiet . "$folder/tree/srv/wattkeeper"
  "$what"
  echo "✓ $what"
done
