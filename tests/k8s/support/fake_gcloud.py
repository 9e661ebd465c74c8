"""Replaces gcloud, kubectl, helm and podman when a test runs setup and teardown for real.

What `create` makes, `describe` and `list` find until `delete`; the bucket's grants are kept as
Google keeps them. The folder of the script has the state, one line per resource, the grants, and
the log of all calls. FAKE_CRD names the definition of RayJobs that the cluster has; what FAKE_FRESH
names fails once, as what was just made does.
"""

import gzip
import json
import os
import re
import sys
from pathlib import Path

FOLDER = Path(sys.argv[0]).parent
STATE, LOG, GRANTS, FAILED = (FOLDER / name for name in ("state", "calls", "grants", "failed"))
ADDON = "addon: RayOperator"
QUOTA = {"metric": "CPUS", "limit": 24.0, "usage": 0.0}


def flag(name: str) -> str:
    prefix = f"--{name}="
    values = (word.removeprefix(prefix) for word in sys.argv if word.startswith(prefix))
    return next(values, "")


def main() -> int:
    program = Path(sys.argv[0]).name
    arguments = [argument for argument in sys.argv[1:] if argument[0] != "-"]
    with LOG.open("a") as log:
        log.write(json.dumps([program, *sys.argv[1:]]) + "\n")
    fresh = os.environ.get("FAKE_FRESH")
    if fresh and fresh in " ".join(sys.argv) and not FAILED.exists():
        FAILED.touch()
        return 1
    resources = set(STATE.read_text().splitlines()) if STATE.exists() else set()
    if program == "helm":
        return helm(arguments, resources)
    if arguments[:2] == ["storage", "buckets"] and "iam-policy" in arguments[2]:
        return grants(arguments[2])
    return resource_command(arguments, resources)


def resource_command(arguments: list[str], resources: set[str]) -> int:
    verbs = ("create", "create-auto", "delete", "describe", "list", "rm", "get", "apply", "update")
    at = next((place for place, argument in enumerate(arguments) if argument in verbs), None)
    if at is None:
        return 0
    verb, group = arguments[at], " ".join(arguments[:at])
    name = " ".join(arguments[at + 1 :]).partition("@")[0]
    if policy := flag("policy-from-file"):
        name = json.loads(Path(policy).read_text())["userLabels"]["alert"]
    if verb == "rm":
        group, verb = "storage buckets", "delete"
    if group == "" and arguments[:2] == [verb, "namespace"]:
        group, name = "namespace", arguments[2]
    if group == "" and arguments[:2] == [verb, "deployment"]:
        group, name = "helm", arguments[2]
    change(verb, f"{group}: {name or 'default'}", resources)
    save(resources)
    return answer(verb, group, name, resources)


def change(verb: str, resource: str, resources: set[str]) -> None:
    if verb == "apply" and "--dry-run=server" not in sys.argv:
        resources.add("namespace: storecast")
        resources.add("compute backend-services: gkegw1-storecast-api")
        resources.add("compute network-endpoint-groups: k8s1-storecast-api")
    if verb in {"create", "create-auto"}:
        resources.add(resource)
    if verb == "delete":
        resources.discard(resource)
        if resource.startswith("container clusters"):
            resources -= {ADDON, "helm: kuberay-operator"}
    if "--enable-ray-operator" in sys.argv or flag("update-addons") == "RayOperator=ENABLED":
        resources.add(ADDON)
    if flag("update-addons") == "RayOperator=DISABLED":
        resources.discard(ADDON)


def save(resources: set[str]) -> None:
    STATE.write_text("".join(f"{line}\n" for line in sorted(resources)))


def helm(arguments: list[str], resources: set[str]) -> int:
    release = "helm: kuberay-operator"
    if arguments[0] == "upgrade":
        save(resources | {release})
    if arguments[0] == "uninstall":
        save(resources - {release})
    # `show` runs beside the kubectl that reads its output, and must not write the state.
    return int(arguments[0] == "status" and release not in resources)


def grants(verb: str) -> int:
    """The bindings of the bucket: each a role, a condition and its members."""
    kept = json.loads(GRANTS.read_text()) if GRANTS.exists() else []
    condition = flag("condition")
    grant = [flag("member"), flag("role"), "" if condition == "None" else condition]
    if verb.startswith("add"):
        kept += [grant] if grant not in kept else []
    elif verb.startswith("remove"):
        if grant not in kept:
            return 1
        kept.remove(grant)
    else:
        bindings = [
            {
                "role": role,
                "members": [member],
                **({"condition": fields(condition)} if condition else {}),
            }
            for member, role, condition in kept
        ]
        sys.stdout.write(json.dumps({"bindings": bindings, "etag": "CAI="}))
    GRANTS.write_text(json.dumps(kept))
    return 0


def fields(condition: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in re.split(r",(?=[a-z]+=)", condition))


def field_of_the_definition(path: str) -> str:
    """What jsonpath finds in the definition of RayJobs; nothing where the field is not."""
    definition = Path(os.environ["FAKE_CRD"])
    value = json.loads(gzip.decompress(definition.read_bytes())) if definition.exists() else {}
    for name in path.partition("openAPIV3Schema.")[2].rstrip("}").split("."):
        value = value.get(name, {})
    return value if isinstance(value, str) else ""


def answer(verb: str, group: str, name: str, resources: set[str]) -> int:
    if verb == "list":
        alert = flag("filter").removeprefix("userLabels.alert=")
        of_group = [line for line in sorted(resources) if line.startswith(f"{group}: ")]
        names = [line.split(": ")[1] for line in of_group]
        if "alert=" in flag("filter"):
            names = [resource for resource in names if resource == alert]
        zone = "\teurope-west3-a" if "zone" in flag("format") else ""
        sys.stdout.write("".join(f"{resource}{zone}\n" for resource in names[:1]))
        return 0
    if verb == "get" and "jsonpath" in flag("output"):
        sys.stdout.write(field_of_the_definition(flag("output")))
        return 0
    if verb in {"describe", "get"}:
        return described(group, name, resources)
    return 0


def described(group: str, name: str, resources: set[str]) -> int:
    if "image" in group:
        sys.stdout.write("sha256:" + "a" * 64 + "\n")
        return 0
    if group == "compute regions":
        sys.stdout.write(json.dumps({"quotas": [QUOTA]}))
        return 0
    if "rayOperator" in flag("format"):
        sys.stdout.write("True\n" if ADDON in resources else "\n")
        return 0
    if flag("format"):
        sys.stdout.write("987654321098\n")
    return 0 if f"{group}: {name}" in resources else 1


if __name__ == "__main__":
    sys.exit(main())
