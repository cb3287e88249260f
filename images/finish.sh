#!/bin/sh
# Makes an environment ready to be copied into an image: finish.sh ENVIRONMENT PROJECT
set -eu
environment=$1 project=$2

# headers, static libraries and tests serve nobody here; some tests also carry private keys
find "$environment" -depth -type d \( -name tests -o -name SelfTest -o -path '*/torch/include' -o -path '*/torch/test' \) \
  -exec rm -rf {} +
find "$environment" \( -name '*.a' -o -path '*/torch/bin/protoc*' \) -delete

# the project lies in a folder, hence a layer, of its own
packages=$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "$project" > "$packages/project.pth"

# byte code is made now, for nothing can be written later; packages carry files for other versions of Python, which fail
"$environment/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$environment" > /dev/null || true
