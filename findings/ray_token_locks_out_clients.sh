#!/usr/bin/env bash
# A Ray cluster is closed to its own user's clients once a local ray.init() has made a token.
#
# Versions: ray 2.60.0.
# One would guess: a token in ~/.ray/auth_token is used by both sides, or by neither.
# Seen: ray.init() on one machine makes ~/.ray/auth_token by itself. From then on `ray start --head`
# asks for it, and a client of the same user on the same machine, ray.init(address=...), does not
# send it: after some 20 s "Failed to connect to Ray cluster", without a word of the token. With
# RAY_AUTH_MODE=token in the client's environment it connects; that setting does no harm where the
# cluster asks for none.
# So: set RAY_AUTH_MODE=token for clients wherever a token is there, or RAY_AUTH_MODE=disabled for all.
# Needs Python 3.11 or later and a package index; exits with another code than 0 if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null; wait 2>/dev/null; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ray==2.60.0
cd "$folder"
export HOME="$folder"
unset RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_AUTH_TOKEN_PATH
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

"$folder/venv/bin/python" -c 'import ray; ray.init(num_cpus=1, include_dashboard=False); ray.shutdown()' 2>log
ls "$HOME/.ray/auth_token"

"$folder/venv/bin/ray" start --head --block --port "$port" --num-cpus 1 --include-dashboard false \
    --disable-usage-stats --temp-dir "$folder/r" >server.log 2>&1 &
server=$!
for _ in $(seq 60); do
    python3 -c "import socket; socket.create_connection(('127.0.0.1', $port), 1)" 2>/dev/null && break
    sleep 1
done
sleep 5

client() {
    "$folder/venv/bin/python" - 2>>log <<PYTHON
import ray
try:
    ray.init(address="127.0.0.1:$port", log_to_driver=False)
    print("connected")
except ConnectionError as error:
    print(str(error).splitlines()[0])
PYTHON
}
plain=$(client | tail -1)
echo "without a setting: $plain"
with=$(RAY_AUTH_MODE=token client | tail -1)
echo "RAY_AUTH_MODE=token: $with"
[[ $plain == "Failed to connect to Ray cluster"* && $with == connected ]]
