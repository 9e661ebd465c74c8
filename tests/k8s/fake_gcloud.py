"""Stands for gcloud, kubectl and podman where setup and teardown really run them.

What a `create` made is there for `describe` and `list`, until a `delete`. The folder of the script
has the state, one line per thing, and the log of all calls.
"""

import json
import sys
from pathlib import Path

HERE = Path(sys.argv[0]).parent
STATE, LOG = HERE / "state", HERE / "calls"


def flag(name: str) -> str:
    return next((item.split("=", 1)[1] for item in sys.argv if item.startswith(f"--{name}=")), "")


def main() -> int:
    program, words = Path(sys.argv[0]).name, [item for item in sys.argv[1:] if item[0] != "-"]
    with LOG.open("a") as log:
        log.write(json.dumps([program, *sys.argv[1:]]) + "\n")
    if program == "podman":
        return 0
    there = set(STATE.read_text().splitlines()) if STATE.exists() else set()
    verbs = ("create", "create-auto", "delete", "describe", "list", "rm", "get", "apply")
    at = next((number for number, word in enumerate(words) if word in verbs), None)
    if at is None:
        return 0
    verb, group = words[at], " ".join(words[:at])
    name = " ".join(words[at + 1 :]).partition("@")[0]
    if policy := flag("policy-from-file"):
        name = json.loads(Path(policy).read_text())["userLabels"]["alert"]
    if verb == "apply" and "--dry-run=server" not in sys.argv:
        there.add("namespace: storecast")
        there.add("compute backend-services: gkegw1-storecast-api")
    if verb == "rm":
        group, verb = "storage buckets", "delete"
    if group == "" and words[:2] == [verb, "namespace"]:
        group, name = "namespace", words[2]
    if verb in {"create", "create-auto"}:
        there.add(f"{group}: {name or 'the one'}")
    if verb == "delete":
        there.discard(f"{group}: {name}")
    STATE.write_text("".join(f"{line}\n" for line in sorted(there)))
    return answer(verb, group, name, there)


def answer(verb: str, group: str, name: str, there: set[str]) -> int:
    if verb == "list":
        wanted = flag("filter").removeprefix("userLabels.alert=")
        names = [line.split(": ")[1] for line in sorted(there) if line.startswith(f"{group}: ")]
        if "alert=" in flag("filter"):
            names = [item for item in names if item == wanted]
        sys.stdout.write("".join(f"{item}\n" for item in names[:1]))
        return 0
    if verb in {"describe", "get"}:
        if "image" in group:
            sys.stdout.write("sha256:" + "a" * 64 + "\n")
            return 0
        if flag("format"):
            sys.stdout.write("987654321098\n")
        return 0 if f"{group}: {name}" in there else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
