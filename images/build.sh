#!/usr/bin/env bash
# Builds the images: `images/build.sh [TARGET...]`. PUSH=1 pushes them, with provenance and bill of materials, and writes
# images.lock.yaml. Settings are the variables of docker-bake.hcl. Without buildx, it builds what plain docker can build.
set -euo pipefail
cd "$(dirname "$0")/.."

targets=("$@")
[ $# -gt 0 ] || targets=(cpu gpu judge)
TAG=${TAG:-dev}
REVISION=${REVISION:-$(git rev-parse HEAD)}
CREATED=${CREATED:-$(git show -s --format=%cI HEAD)}
export TAG REVISION CREATED

if docker buildx version > /dev/null 2>&1; then
  if [ -z "${PUSH:-}" ]; then
    exec docker buildx bake --load --provenance=false --sbom=false "${targets[@]}"
  fi
  metadata=$(mktemp)
  trap 'rm -f "$metadata"' EXIT
  docker buildx bake --push --metadata-file "$metadata" "${targets[@]}"
  "${PYTHON:-python3}" images/lock.py "$metadata" images.lock.yaml
  exit
fi

[ -z "${PUSH:-}" ] || { echo "pushing needs docker buildx, for the attestations" >&2; exit 2; }
for target in "${targets[@]}"; do
  index=${TORCH_INDEX_GPU:-}
  [ "$target" != cpu ] || index=${TORCH_INDEX_CPU-https://download.pytorch.org/whl/cpu}
  DOCKER_BUILDKIT=1 docker build --file images/Dockerfile --target "$target" \
    --tag "${REGISTRY:-ghcr.io/biasgym}/biasgym-$target:$TAG" \
    ${BASE_IMAGE:+--build-arg "BASE_IMAGE=$BASE_IMAGE"} \
    --build-arg "CPU_CONTENT=${CPU_CONTENT:-light}" --build-arg "TORCH_INDEX=$index" \
    --build-arg "VLLM_VERSION=${VLLM_VERSION:-}" \
    --build-arg "VERSION=$TAG" --build-arg "REVISION=$REVISION" --build-arg "CREATED=$CREATED" .
done
