#!/usr/bin/env bash
# Tests against a real kube-apiserver, and as root a real kubelet with containerd:
#   tests/kube/run_real.sh FOLDER [PYTEST OPTIONS]
# Builds both into FOLDER unless they are there (see build_kubernetes.sh) and installs Debian's etcd,
# containerd and runc. Uses the kernel's control groups (v1 or hybrid) and leaves nothing behind.
set -euo pipefail
folder=$(realpath -m "$1")
shift
cd "$(dirname "$0")/../.."

mkdir -p "$folder"
if [[ ! -x $folder/kubelet || ! -x $folder/kube-apiserver ]]; then
  tests/kube/build_kubernetes.sh "$folder"
fi
need=()
command -v cc >/dev/null || need+=(gcc libc6-dev)
command -v openssl >/dev/null || need+=(openssl)
command -v etcd >/dev/null || need+=(etcd-server)
command -v containerd >/dev/null && command -v runc >/dev/null || need+=(containerd runc)
if ((${#need[@]})); then
  apt-get update -qq
  # Their services stay down: the tests start what they need.
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    "${need[@]}" >/dev/null
fi
export WATTKEEPER_TEST_KUBE_APISERVER=$folder/kube-apiserver WATTKEEPER_TEST_KUBELET=$folder/kubelet
exec python3 start.py test tests/kube "$@"
