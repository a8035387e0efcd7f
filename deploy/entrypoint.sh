#!/bin/sh
# Run a command of cgeartheye in the container. A server can be reached by others there, so it needs
# tokens: the first start makes one for an admin, and prints it once.
set -eu
case "${1:-}" in
serve)
    shift
    tokens=${TOKEN_FILE:-/data/serve/tokens}
    if [ ! -s "$tokens" ]; then
        echo "token of the admin, shown once: $(cgeartheye serve-token admin --scope admin --token-file "$tokens")"
    fi
    exec cgeartheye serve --host 0.0.0.0 --port 8000 --folder /data/serve --scenes /scenes \
        --token-file "$tokens" "$@"
    ;;
worker)
    shift
    exec cgeartheye worker --folder /data/serve "$@"
    ;;
*)
    exec cgeartheye "$@"
    ;;
esac
