#!/usr/bin/env bash
# Builds kube-apiserver from its Go modules: build_apiserver.sh FILE [VERSION].
# Needs the Go that this release asks for, 3 GB of disk and about ten minutes of two cores. Then:
#   WATTKEEPER_TEST_KUBE_APISERVER=FILE pytest tests/kube
set -euo pipefail
target=$(realpath "$1")
version=${2:-1.36.3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

export GOFLAGS=-mod=mod CGO_ENABLED=0
go mod init apiserver
module=$(go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
go mod edit -go="$(sed -n 's/^go //p' "$module")" -require="k8s.io/kubernetes@v$version"
# Within Kubernetes' own repository these are folders; as modules they have versions of their own.
sed -n 's#^[[:space:]]*\(k8s.io/[a-z-]*\) => ./staging.*#\1#p' "$module" |
  while read -r part; do go mod edit -replace="$part=$part@v0.${version#*.}"; done

cat >main.go <<'GO'
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
GO
go mod tidy -e 2>/dev/null
go build -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$version \
  -X k8s.io/component-base/version.gitMajor=1 \
  -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$version")" -o "$target" .
"$target" --version
