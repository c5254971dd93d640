#!/bin/sh
# Called by Buildroot on its copy of the root, before it is packed; images/buildroot.py says what is done.
set -e
PYTHONPATH=$(cd "$(dirname "$0")/../../.." && pwd)
export PYTHONPATH PYTHONDONTWRITEBYTECODE=1
exec python3 -m images.buildroot root "$1"
