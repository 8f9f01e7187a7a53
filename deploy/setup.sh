#!/bin/sh
# Makes the workspace that compose.yaml's services share, with its database and tracker in it; one that is there stays as it is.
set -eu
place="$1"
[ -e "$place/flywheel.yaml" ] && exit 0
# Made aside and moved in whole: a setup that is cut off begins again.
rm -rf "$place.new"
set -- --preset "$FLYWHEEL_PRESET"
[ -z "$FLYWHEEL_SERVER" ] || set -- "$@" --url "$FLYWHEEL_SERVER" --api-key-env MODEL_KEY
flywheel init "$place.new" "$@"
file="$place.new/flywheel.yaml"
sed -i "s|^  uri: ''|  uri: $FLYWHEEL_TRACKER|" "$file"
printf '\nstore:\n  database: %s\n' "$FLYWHEEL_DATABASE" >> "$file"
flywheel config validate --config "$place.new"
mkdir -p "$place"
mv "$file" "$place/flywheel.yaml"
rmdir "$place.new"
