#!/usr/bin/env bash
# Builds kube-apiserver and kubelet from their Go modules: build_kubernetes.sh FOLDER [VERSION].
# Needs the Go that this release asks for, 3 GB of disk and about fifteen minutes of two cores.
# 1.35 is the last release that runs with containerd 1.x, as Debian 12 has it.
set -euo pipefail
target=$(realpath "$1")
version=${2:-1.35.4}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

export GOFLAGS=-mod=mod CGO_ENABLED=0
go mod init built
module=$(go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
go mod edit -go="$(sed -n 's/^go //p' "$module")" -require="k8s.io/kubernetes@v$version"
# Within Kubernetes' own repository these are folders; as modules they have versions of their own.
sed -n 's#^[[:space:]]*\(k8s.io/[a-z-]*\) => ./staging.*#\1#p' "$module" |
  while read -r part; do go mod edit -replace="$part=$part@v0.${version#*.}"; done

program() { # NAME COMMAND
  mkdir "$1"
  cat >"$1/main.go" <<GO
package main

import (
	"context"
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/$1/app"
)

var _ = context.Background

func main() { os.Exit(cli.Run(app.$2)) }
GO
}
program kube-apiserver 'NewAPIServerCommand()'
program kubelet 'NewKubeletCommand(context.Background())'
go mod tidy -e 2>/dev/null
go build -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$version \
  -X k8s.io/component-base/version.gitMajor=1 \
  -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$version")" -o "$target/" ./...
"$target/kube-apiserver" --version
"$target/kubelet" --version
