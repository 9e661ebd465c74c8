# ruff: noqa: INP001 - scripts beside those that call them
"""Checks of the project: what gcloud and the API's own address show."""

from __future__ import annotations

import json
import urllib.parse
from datetime import datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from k8s.gcp import stale_grants
from k8s.gcp.verification.answers import Json, Live, Verdict, failed, not_seen, passed, value_of

POLICIES = Path(__file__).parents[1] / "monitoring" / "policies"
METRICS = Path(__file__).parents[1] / "monitoring" / "metrics"
CPUS, SPOT_CPUS, DISK_GB = 12, 32, 500
"""What a night and the API need at once: processors on demand and on Spot, and the nodes' disks."""
ACCESSOR = "roles/iap.httpsResourceAccessor"
NO_BACKEND = "the load balancer has no backend yet: give setup again in ten minutes"
CUSTOM_CLIENT = "https://cloud.google.com/iap/docs/custom-oauth-configuration"


def organisation(live: Live) -> Verdict:
    ancestors = live.gcloud("projects", "get-ancestors", live["PROJECT"])
    ids = [entry["id"] for entry in ancestors if entry["type"] == "organization"]
    if not ids:
        return failed(
            "the project belongs to no organisation, and the client that Google manages lets only"
            f" people of the project's organisation in: give IAP a client of your own,"
            f" {CUSTOM_CLIENT}"
        )
    return passed(f"organisation {ids[0]}; {live['MANAGERS']} must be of it")


def quotas(live: Live) -> Verdict:
    region = live.gcloud("compute", "regions", "describe", live["REGION"])
    free = {entry["metric"]: entry["limit"] - entry["usage"] for entry in region["quotas"]}
    limits = {entry["metric"]: entry["limit"] for entry in region["quotas"]}
    needed = {"CPUS": CPUS, "SSD_TOTAL_GB": DISK_GB, "IN_USE_ADDRESSES": 1}
    # A limit of 0 means that Spot's processors count as any others.
    if limits.get("PREEMPTIBLE_CPUS"):
        needed["PREEMPTIBLE_CPUS"] = SPOT_CPUS
    else:
        needed["CPUS"] += SPOT_CPUS
    short = [
        f"{metric} has {free.get(metric, 0):g} left of the {amount} that a night takes"
        for metric, amount in needed.items()
        if free.get(metric, 0) < amount
    ]
    if short:
        return failed("; ".join(short) + f": ask for more in {live['REGION']}")
    return passed(", ".join(f"{metric} {free[metric]:g} left" for metric in needed))


def bucket(live: Live) -> Verdict:
    described = live.gcloud("storage", "buckets", "describe", f"gs://{live['BUCKET']}", "--raw")
    iam = "iamConfiguration"
    kept = int(value_of(described, "softDeletePolicy.retentionDurationSeconds") or 0)
    wrong = [
        sentence
        for is_wrong, sentence in (
            (
                str(described.get("location")).lower() != live["REGION"].lower(),
                f"it lies in {described.get('location')}, and the cluster in {live['REGION']}",
            ),
            (
                not value_of(described, f"{iam}.uniformBucketLevelAccess.enabled"),
                "it has no uniform bucket-level access, so grants on prefixes do not hold",
            ),
            (
                value_of(described, f"{iam}.publicAccessPrevention") != "enforced",
                "public access is not prevented",
            ),
            (
                kept < timedelta(days=7).total_seconds(),
                f"soft delete keeps objects for {kept} s, and docs/restore.md counts on 7 days",
            ),
            (
                bool(described.get("retentionPolicy"))
                or bool(described.get("defaultEventBasedHold")),
                "a retention policy or a hold forbids to overwrite: the pointer could never move",
            ),
            (
                any(
                    rule["action"]["type"] == "Delete"
                    and rule["condition"].get("isLive", True)
                    and not rule["condition"].get("daysSinceNoncurrentTime")
                    for rule in value_of(described, "lifecycle.rule") or []
                ),
                "a lifecycle rule deletes live objects, which releases may still reach",
            ),
        )
        if is_wrong
    ]
    if wrong:
        return failed("; ".join(wrong))
    return passed(f"{described['location']}, soft delete for {kept // 86400} days")


def grants(live: Live) -> Verdict:
    policy = live.gcloud("storage", "buckets", "get-iam-policy", f"gs://{live['BUCKET']}")
    wanted = set(live["GRANTS"].splitlines())
    actual = {grant for grant in wanted if grant in _grants(policy)}
    missing = sorted(wanted - actual)
    stale = stale_grants.stale(live["PRINCIPAL"], policy, wanted)
    if missing:
        return failed(f"{len(missing)} grants are missing, such as {missing[0]}: give setup again")
    if stale:
        return failed(
            f"{len(stale)} grants are not wanted any more, such as {' '.join(stale[0])}:"
            " give setup again"
        )
    public = [
        member
        for binding in policy["bindings"]
        for member in binding["members"]
        if member in {"allUsers", "allAuthenticatedUsers"}
    ]
    return failed(f"{public[0]} may read it") if public else passed(f"{len(wanted)} grants")


def _grants(policy: Json) -> set[str]:
    return {
        f"{member} {role} {'' if condition == 'None' else condition}"
        for member, role, condition in stale_grants.stale("", policy, set())
    }


def maintenance(live: Live) -> Verdict:
    window = value_of(live.gke(), "maintenancePolicy.window.recurringWindow.window")
    if not window:
        return failed("GKE may upgrade the cluster in the night: give setup again")
    zone = ZoneInfo(live["TIME_ZONE"])
    deadline = time.fromisoformat(live["DEADLINE"])
    for month in (1, 7):
        start, end = (
            datetime.fromisoformat(window[name]).replace(month=month, day=15).astimezone(zone)
            for name in ("startTime", "endTime")
        )
        if end.date() != start.date() or start.time() < deadline:
            return failed(
                f"GKE's window opens at {start:%H:%M} and closes at {end:%H:%M}, and the night runs"
                f" from 00:00 to {deadline:%H:%M}: give setup again"
            )
    return passed(f"{start:%H:%M} to {end:%H:%M} in summer")


def private_nodes(live: Live) -> Verdict:
    cluster = live.gke()
    private = value_of(cluster, "networkConfig.defaultEnablePrivateNodes") or value_of(
        cluster, "privateClusterConfig.enablePrivateNodes"
    )
    if not value_of(cluster, "autopilot.enabled"):
        return failed("the cluster is not an Autopilot cluster, and the manifests count on one")
    if not private:
        return failed(
            "the nodes have public addresses: make the cluster with --enable-private-nodes"
        )
    if live["NETWORK"]:
        return passed(f"private nodes in {live['NETWORK']}, which has to have a way out")
    nats = live.gcloud(
        "compute", "routers", "nats", "list", "--router=storecast", f"--region={live['REGION']}"
    )
    if not nats:
        return failed("private nodes without Cloud NAT reach no registry but Google's: setup again")
    return passed("private nodes with Cloud NAT")


def workload_pool(live: Live) -> Verdict:
    expected = f"{live['PROJECT']}.svc.id.goog"
    pool = value_of(live.gke(), "workloadIdentityConfig.workloadPool")
    if pool != expected:
        return failed(f"the workload pool is {pool}, and the grants name {expected}")
    return passed(expected)


def logs(live: Live) -> Verdict:
    components = value_of(live.gke(), "loggingConfig.componentConfig.enableComponents") or []
    missing = {"SYSTEM_COMPONENTS", "WORKLOADS"} - set(components)
    if missing:
        return failed(
            f"the cluster does not log {', '.join(sorted(missing))}: alerts match nothing"
        )
    return passed("events and containers are logged")


def log_metrics(live: Live) -> Verdict:
    """An alert on a metric that is not there stays silent."""
    listed = live.gcloud("logging", "metrics", "list", "--filter=name~^storecast_")
    wanted = {path.stem for path in METRICS.glob("*.yaml")}
    missing = wanted - {metric["name"] for metric in listed}
    if missing:
        return failed(f"{', '.join(sorted(missing))} are missing: give setup again")
    return passed(f"{len(wanted)} metrics")


def alerts(live: Live) -> Verdict:
    label = "--filter=userLabels.app=storecast"
    policies = {
        policy["userLabels"]["alert"]: policy
        for policy in live.gcloud("alpha", "monitoring", "policies", "list", label)
    }
    channels = {
        channel["name"]: channel
        for channel in live.gcloud("beta", "monitoring", "channels", "list", label)
    }
    if not any(channel.get("enabled", True) for channel in channels.values()):
        return failed("there is no channel that is switched on: nobody is told")
    for path in sorted(POLICIES.glob("*.json")):
        policy = policies.get(path.stem.lower())
        if policy is None:
            return failed(f"the policy {path.stem} is missing: give setup again")
        if not policy.get("enabled", True):
            return failed(f"the policy {path.stem} is switched off")
        if not set(policy.get("notificationChannels", [])) & set(channels):
            return failed(f"the policy {path.stem} tells nobody: give setup again")
        if _conditions(policy) != _conditions(json.loads(path.read_text())):
            return failed(f"the policy {path.stem} is an older one: give setup again")
    return passed(
        f"{len(policies)} policies; the fire drill of k8s/TASKS.md shows that a mail comes"
    )


def _conditions(policy: Json) -> list[str]:
    return [
        value_of(condition, "conditionMatchedLog.filter")
        or value_of(condition, "conditionPrometheusQueryLanguage.query")
        for condition in policy["conditions"]
    ]


def managed_prometheus(live: Live) -> Verdict:
    if not value_of(live.gke(), "monitoringConfig.managedPrometheusConfig.enabled"):
        return failed("the cluster's managed collection is off: --enable-managed-prometheus")
    token = live.run(["gcloud", "auth", "print-access-token"]).strip()
    base = f"https://monitoring.googleapis.com/v1/projects/{live['PROJECT']}/location/global"
    query = urllib.parse.urlencode({"query": "storecast_api_ready"})
    page = live.page(f"{base}/prometheus/api/v1/query?{query}", token)
    if page.status != 200:  # noqa: PLR2004 - an HTTP status
        return failed(f"Cloud Monitoring answers {page.status}: {page.body[:200]}")
    series = json.loads(page.body)["data"]["result"]
    if not series:
        return failed(
            "no gauge of the API arrives: the collectors' namespace may not reach port 8081"
            " (k8s/base/api/network.yaml), or no pod of the API runs"
        )
    return passed(f"{len(series)} pods of the API are scraped")


def certificate(live: Live) -> Verdict:
    described = live.gcloud("certificate-manager", "certificates", "describe", "storecast")
    addresses = live.gcloud("compute", "addresses", "describe", "storecast", "--global")
    expected, actual = addresses["address"], live.address_of(live["DOMAIN"])
    if expected not in actual:
        where = ", ".join(sorted(actual)) or "nowhere"
        return failed(f"{live['DOMAIN']} points at {where}: point it at {expected}")
    state = value_of(described, "managed.state")
    if state != "ACTIVE":
        reasons = value_of(described, "managed.authorizationAttemptInfo") or [{}]
        reason = (
            reasons[0].get("failureReason") or "it takes up to an hour after the name points here"
        )
        return not_seen(f"the certificate is {state}: {reason}")
    return passed(f"{live['DOMAIN']} is {expected}, and the certificate is active")


def _backend(live: Live) -> Json:
    """The load balancer's backend of the API; None while there is none."""
    filters = ("--global", "--filter=name~^gkegw.*storecast-api")
    return next(iter(live.gcloud("compute", "backend-services", "list", *filters)), None)


def let_in(live: Live) -> Verdict:
    """setup only ever adds a member: a group that MANAGERS named before stays."""
    backend = _backend(live)
    if backend is None:
        return not_seen(NO_BACKEND)
    service = ("--resource-type=backend-services", f"--service={backend['name']}")
    policy = live.gcloud("iap", "web", "get-iam-policy", *service)
    members = {
        member
        for binding in policy.get("bindings", [])
        if binding["role"] == ACCESSOR
        for member in binding["members"]
    }
    if live["MANAGERS"] not in members:
        return failed(f"IAP does not let {live['MANAGERS']} in: give setup again")
    if others := sorted(members - {live["MANAGERS"]}):
        remove = " ".join(("gcloud iap web remove-iam-policy-binding", *service))
        return failed(
            f"IAP lets {', '.join(others)} in, too: put them into {live['MANAGERS']}, or"
            f" {remove} --role={ACCESSOR} --member={others[0]}"
        )
    return passed(f"{live['MANAGERS']}, and nobody else")


def proxy(live: Live) -> Verdict:
    backend = _backend(live)
    if backend is None:
        return not_seen(NO_BACKEND)
    if not value_of(backend, "iap.enabled"):
        return failed("IAP is off, so everybody reaches the API: see the GCPBackendPolicy's status")
    audience = f"/projects/{live['NUMBER']}/global/backendServices/{backend['id']}"
    deployment = live.kubectl("get", "deployment", "storecast-api")
    (container,) = value_of(deployment, "spec.template.spec.containers")
    settings = live.kubectl("get", "configmap", container["envFrom"][0]["configMapRef"]["name"])
    known = json.loads(settings["data"]["STORECAST_API_ISSUERS"])[0]["audience"]
    if known != audience:
        return failed(f"the API expects tokens for {known}, IAP signs for {audience}: setup again")
    page = live.page(f"https://{live['DOMAIN']}/v1/stores")
    headers = {name.lower(): value for name, value in page.headers.items()}
    by_proxy = headers.get("x-goog-iap-generated-response") == "true"
    if by_proxy or "accounts.google.com" in headers.get("location", ""):
        return passed(f"who is not signed in gets {page.status} from IAP; it signs for {audience}")
    return failed(f"who is not signed in gets {page.status}, and not from IAP")
