#!/bin/sh
# `npx auditlog` in a clone: linked into node_modules/.bin by make, run from there. The package has dist/main.js instead.
PATH="$(dirname "$0"):$PATH" exec node "$(dirname "$0")/../../src/main.ts" "$@"
