#!/usr/bin/env bash
# Builds the image without a network from a base of its own and runs it, as root: tests/image/run.sh
# Takes two minutes, and Debian's buildah, podman, runc and mmdebstrap; leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/../.."

need=()
for program in buildah mmdebstrap podman runc; do
  command -v "$program" >/dev/null || need+=("$program")
done
if ((${#need[@]})); then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi

folder=$(mktemp -d /var/tmp/wattkeeper-image.XXXXXX)
store=(--root "$folder/store" --runroot "$folder/run")
clean() {
  podman "${store[@]}" rm --all --force >/dev/null 2>&1 || true
  buildah "${store[@]}" rm --all >/dev/null 2>&1 || true
  rm -rf --one-file-system "$folder"
}
trap clean EXIT
export BUILDAH_ISOLATION=chroot

fail() { echo "✗ $*" >&2; exit 1; }

# Commit a base of Debian with Python, as a registry would have it.
base() {
  mmdebstrap --quiet --variant=minbase --include=python3-venv,python3-pip bookworm "$folder/base.tar"
  local container
  container=$(buildah "${store[@]}" from scratch)
  buildah "${store[@]}" add --quiet "$container" "$folder/base.tar" / >/dev/null
  buildah "${store[@]}" commit --quiet --timestamp 0 --rm "$container" localhost/base:1 >/dev/null
}

# Build without a network: FORMAT TAG [OPTIONS].
build() {
  unshare --net buildah "${store[@]}" build --quiet --no-cache --timestamp 0 --format "$1" --tag "localhost/$2" \
    --build-arg BASE=localhost/base:1 "${@:3}" .
}

# Start a container as an orchestrator does: NAME IMAGE [OPTIONS] -- [ARGUMENTS].
start() {
  local name=$1 image=$2 files options=()
  shift 2
  while [[ $1 != -- ]]; do options+=("$1"); shift; done
  shift
  files=$(ulimit -Hn)
  podman "${store[@]}" --cgroup-manager cgroupfs --runtime runc run --detach --name "$name" --network none \
    --read-only --tmpfs /tmp --cap-drop all --security-opt no-new-privileges --no-healthcheck \
    --ulimit "nofile=$files:$files" --ulimit nproc=4096:4096 "${options[@]}" "localhost/$image" "$@" >/dev/null
}

inside() { podman "${store[@]}" exec "$@"; }

# Wait for an answer: NAME PORT.
healthy() {
  local code="import urllib.request as u; print(u.urlopen('http://127.0.0.1:$2/healthz', timeout=5).read())"
  for _ in $(seq 60); do
    inside "$1" python3 -c "$code" 2>/dev/null | grep -q '"ok"' && return
    sleep 0.5
  done
  podman "${store[@]}" logs "$1" >&2
  fail "$1 does not answer"
}

# Stop it: NAME. Everything that is open is committed, and the exit code says so.
stopped() {
  podman "${store[@]}" stop --time 20 "$1" >/dev/null
  [[ $(podman "${store[@]}" inspect --format '{{.State.ExitCode}}' "$1") == 0 ]] || fail "$1 did not end well"
}

rm -rf build/wheelhouse
python3 start.py wheelhouse build/wheelhouse --python 3.11 --machine "$(uname -m)" >/dev/null
base
[[ $(build oci first) == "$(build oci second)" ]] || fail "two builds differ"
echo "✓ built twice without a network, the same to the byte"
build docker nodes --build-arg EXTRAS=kubernetes >/dev/null
podman "${store[@]}" images --format '{{.Repository}} {{.Size}}'
podman "${store[@]}" image inspect localhost/nodes:latest | grep -q healthz || fail "no health check"

start aggregator first --tmpfs /run/wattkeeper --env WATTKEEPER_AGGREGATOR_LISTEN=0.0.0.0:9746 \
  --env WATTKEEPER_AGGREGATOR_ACCESS__SOCKET=/run/wattkeeper/aggregator.sock --
healthy aggregator 9746
[[ $(inside aggregator id -u) == 64646 ]] || fail "the aggregator is not 64646"
inside aggregator grep -q '^CapEff:.0000000000000000$' /proc/1/status || fail "the aggregator has capabilities"
inside aggregator stat --format %a /var/lib/wattkeeper | grep -qx 700 || fail "its folder is open"
inside aggregator wattkeeper balance >/dev/null || fail "who is inside is not told everything"
inside aggregator wattkeeper balance --url http://127.0.0.1:9746 >/dev/null 2>&1 && fail "who is outside is told everything"
stopped aggregator
echo "✓ an aggregator as nobody, on a read-only root"

install -d -o 1000730000 "$folder/other"
start other first --user 1000730000:0 --volume "$folder/other:/var/lib/wattkeeper" --
healthy other 9746
stopped other
echo "✓ under a number that the image does not know"

mkdir "$folder/state"
start agent nodes --user 0:0 --pid host --cap-add DAC_READ_SEARCH --volume "$folder/state:/var/lib/wattkeeper" \
  --volume /sys/bus:/host/sys/bus:ro --volume /sys/class:/host/sys/class:ro \
  --volume /sys/devices:/host/sys/devices:ro --volume /sys/module:/host/sys/module:ro \
  --volume /sys/fs/cgroup:/host/cgroup:ro --env WATTKEEPER_AGENT_DATA_DIR=/var/lib/wattkeeper/agent \
  --env WATTKEEPER_AGENT_PATH__SYSFS=/host/sys --env WATTKEEPER_AGENT_PATH__CGROUPFS=/host/cgroup -- agent
healthy agent 9745
inside agent grep -q '^CapEff:.0000000000000004$' /proc/self/status || fail "the agent has other capabilities"
inside agent wattkeeper doctor >"$folder/doctor" || true # not every machine has a power meter
grep -q '^ok  *cgroups' "$folder/doctor" || fail "the agent sees no cgroups"
stopped agent
[[ $(stat --format %a "$folder/state/agent") == 700 ]] || fail "the journal is open"
echo "✓ an agent as in its DaemonSet"
