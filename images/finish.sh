#!/bin/sh
# Makes an environment ready to be copied into an image, where it finds packages in more folders:
# finish.sh ENVIRONMENT FOLDER...
set -eu
environment=$1
shift

# headers, static libraries and tests serve nobody here; some tests also carry private keys
find "$environment" -depth -type d \( -name tests -o -name SelfTest -o -path '*/torch/include' -o -path '*/torch/test' \) \
  -exec rm -rf {} +
find "$environment" \( -name '*.a' -o -path '*/torch/bin/protoc*' \) -delete

# the project, and what only the judge has, lie in folders, hence layers, of their own; one that is not there does no harm
packages=$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
printf '%s\n' "$@" > "$packages/beside.pth"

# byte code is made now, for nothing can be written later; packages carry files for other versions of Python, which fail
"$environment/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$environment" > /dev/null || true
