#!/usr/bin/env bash
# What happens to cv2 when opencv-python (ours) and opencv-python-headless (LeRobot's) are in one environment.
# Installs both orders into temporary environments, uninstalls either, and prints what `import cv2` then gives.
# Usage: benchmarks/tools/two_opencv_wheels.sh [PYTHON]
set -euo pipefail
python=${1:-python3}
plain=opencv-python==5.0.0.93
headless=opencv-python-headless==4.13.0.92
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

say() {
    printf '%-52s ' "$1"
    "$folder/venv/bin/python" -c '
import cv2
from importlib.metadata import distributions
listed = sorted(d.metadata["Name"] for d in distributions() if "opencv" in d.metadata["Name"])
print("cv2", getattr(cv2, "__version__", "has nothing in it"), " listed:", ", ".join(listed))'
}
pip() { "$folder/venv/bin/pip" --quiet --disable-pip-version-check "$@" 2>/dev/null; }

"$python" -V
for order in "$plain $headless" "$headless $plain"; do
    read -r first second <<<"$order"
    for gone in "$first" "$second"; do
        rm -rf "$folder/venv"
        "$python" -m venv "$folder/venv"
        pip install "$first"
        pip install "$second"
        say "$first, then $second:"
        pip uninstall -y "${gone%%==*}"
        say "  uninstall ${gone%%==*}:"
        kept=$([ "$gone" = "$first" ] && echo "$second" || echo "$first")
        pip install --force-reinstall --no-deps "$kept"
        say "  reinstall ${kept%%==*}:"
    done
done
