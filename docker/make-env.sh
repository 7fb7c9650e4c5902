#!/bin/sh
# Writes .env (or FILE) from .env.example with fresh secrets, readable by its owner only.
# An existing file is never touched: its passwords are already in the volumes.
# Usage: docker/make-env.sh [FILE]
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
target=${1:-$root/.env}
umask 077

secret() { head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

draft=$(mktemp "$target.XXXXXX")
trap 'rm -f "$draft"' EXIT
while IFS= read -r line; do
    case $line in
        SIGHTLINE_API_KEYS= | [A-Z]*_PASSWORD=) printf '%s%s\n' "$line" "$(secret)" ;;
        *) printf '%s\n' "$line" ;;
    esac
done < "$root/.env.example" > "$draft"

# A hard link, unlike a move, fails where the name is taken.
if ! ln "$draft" "$target" 2> /dev/null; then
    echo "error: $target exists and stays as it is; delete it yourself to get new secrets" >&2
    exit 1
fi
echo "wrote $target"
