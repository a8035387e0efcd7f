#!/usr/bin/env bash
# A Ray cluster is closed to its own user's clients once a local ray.init() has made a token.
#
# Versions: ray 2.60.0.
# One would guess: a token in ~/.ray/auth_token is used by both sides, or by neither.
# Seen: ray.init("local") on one machine makes ~/.ray/auth_token by itself. From then on `ray start --head`
# asks for it, and a client of the same user on the same machine, ray.init(address=...), does not
# send it: after some 20 s "Failed to connect to Ray cluster", without a word of the token. With
# RAY_AUTH_MODE=token in the client's environment it connects. With that setting and a cluster that was
# started without a token it connects too, and then no actor ever runs ("the actor never ran").
# So: give servers and clients the same RAY_AUTH_MODE, token or disabled, and never leave it to the file.
# Needs Python 3.11 or later and a package index; exits with another code than 0 if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ray==2.60.0
cd "$folder"
export HOME="$folder"
unset RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_AUTH_TOKEN_PATH

head() {  # start a cluster of one node at port $1
    "$folder/venv/bin/ray" start --head --block --port "$1" --num-cpus 1 --include-dashboard false \
        --disable-usage-stats --temp-dir "$folder/$1" >"server$1.log" 2>&1 &
    for _ in $(seq 60); do
        python3 -c "import socket; socket.create_connection(('127.0.0.1', $1), 1)" 2>/dev/null && break
        sleep 1
    done
    sleep 5
}

client() {  # connect to port $1, and let an actor do something
    "$folder/venv/bin/python" - 2>>log <<PYTHON | tail -1
import ray
try:
    ray.init(address="127.0.0.1:$1", log_to_driver=False)
    words = ray.remote(num_cpus=1)(type("Words", (), {"all": lambda self: "done"})).remote()
    print(ray.get(words.all.remote(), timeout=60))
except ConnectionError as error:
    print(str(error).splitlines()[0])
except ray.exceptions.ActorDiedError as error:
    print(str(error).splitlines()[-1])
PYTHON
}

read -r before after < <(python3 - <<'PYTHON'
import socket
sockets = [socket.socket(), socket.socket()]
for one in sockets:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in sockets))
PYTHON
)
head "$before"
"$folder/venv/bin/python" -c 'import ray; ray.init("local", num_cpus=1, include_dashboard=False); ray.shutdown()' 2>log
ls "$HOME/.ray/auth_token"
head "$after"

plain=$(client "$after")
echo "started after the token was made, client without a setting: $plain"
with=$(RAY_AUTH_MODE=token client "$after")
echo "the same, RAY_AUTH_MODE=token: $with"
older=$(RAY_AUTH_MODE=token client "$before")
echo "started before, RAY_AUTH_MODE=token: $older"
older_plain=$(client "$before")
echo "the same, without a setting: $older_plain"
[[ $plain == "Failed to connect to Ray cluster"* && $with == done ]]
[[ $older == "The actor never ran"* && $older_plain == done ]]
