#!/usr/bin/env bash
# OpenVINO reports every conversion of a model to Google Analytics, and asks nobody.
#
# Versions: openvino 2026.4.1, which brings openvino-telemetry 2025.2.0; nncf 3.4.0 does the same.
# One would guess: a library that converts files on a disk opens no connection; or it asks first, as
# its telemetry package can.
# Seen: convert_model of an ONNX file of one operator looks for the host of Google Analytics and leaves
# an identifier of the user in ~/intel/openvino_ga_cid. No question, no line in the terminal; only
# on build servers that it knows is it silent. The question exists, but is asked for some old
# command-line tools alone; until it is answered, or `opt_in_out --opt_out` is run, consent counts
# as given. Behind a firewall that drops packets, a process may wait for it at its end.
# So: programs that promise to stay offline make openvino_telemetry impossible to import before they
# import openvino (sys.modules["openvino_telemetry"] = None); both packages then do without.
# Needs Python 3.11 or later and a package index; exits with another code than 0 if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 onnx==1.23.2
cat >"$folder/convert.py" <<'PYTHON'
import sys
import time
from pathlib import Path

hosts = Path.home() / "hosts"


def watch(event, arguments):
    """Note the hosts that are looked for, here or in a process forked from this, and find none."""
    if event == "socket.getaddrinfo":
        with hosts.open("a") as file:
            print(*arguments[:1], file=file)
        raise OSError("offline")


sys.addaudithook(watch)
if sys.argv[1] == "kept from it":
    sys.modules["openvino_telemetry"] = None
import openvino
from onnx import TensorProto, helper

place = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])
out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", [place], [out])
path = Path.home() / "model.onnx"
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
path.write_bytes(model.SerializeToString())
openvino.convert_model(path)
time.sleep(5)  # other processes report
found = sorted(set(hosts.read_text().split())) if hosts.exists() else []
print(f"{sys.argv[1]}: looked for {found}")
assert (found == ["www.google-analytics.com"]) == (sys.argv[1] == "as it comes"), found
PYTHON
for way in "as it comes" "kept from it"; do
    mkdir "$folder/home"
    env -i HOME="$folder/home" PATH=/usr/bin:/bin "$folder/venv/bin/python" "$folder/convert.py" "$way"
    left=$(find "$folder/home" -name 'openvino_ga_cid' | wc -l)
    echo "$way: identifiers of the user that are left: $left"
    [ "$left" = "$([ "$way" = "as it comes" ] && echo 1 || echo 0)" ]
    rm -rf "$folder/home"
done
