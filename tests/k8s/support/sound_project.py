"""What a project on Google Cloud in which everything holds answers to `k8s/gcp/verify`.

The answers are written by hand, in the forms that Google's references give: no project was asked.
"""

from __future__ import annotations

import copy
import json

import yaml

from k8s.gcp.verification import cluster, project
from k8s.gcp.verification.answers import Live, Page
from tests.k8s.support.manifests import TEMPLATE, of_kind

POOL = "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p"
OURS = f"{POOL}.svc.id.goog/subject/ns/storecast/sa/"
OBJECTS = "projects/_/buckets/b/objects/"


def grant(name, role, *prefixes):
    prefixed = " || ".join(f'resource.name.startsWith("{OBJECTS}{prefix}")' for prefix in prefixes)
    condition = f"title={name}-{role},expression={prefixed}" if prefixes else ""
    return f"{OURS}{name} roles/storage.{role} {condition}"


GRANTS = [
    grant("storecast-job", "legacyBucketReader"),
    grant("storecast-job", "objectViewer", "raw_data/", "results/"),
    grant("storecast-job", "objectCreator", "results/"),
    grant("storecast-job", "objectUser", "results/current.json"),
    grant("storecast-submitter", "objectViewer", "results/receipts/"),
]
SETTINGS = {
    "PROJECT": "p-1",
    "NUMBER": "1",
    "REGION": "europe-west3",
    "BUCKET": "b",
    "CLUSTER": "storecast",
    "CONTEXT": "gke_p-1_europe-west3_storecast",
    "NAMESPACE": "storecast",
    "NETWORK": "",
    "TIME_ZONE": "Europe/Berlin",
    "DEADLINE": "06:00",
    "DOMAIN": "forecasts.example.com",
    "MANAGERS": "group:managers@example.com",
    "OPERATOR": "addon",
    "GRANTS": "\n".join(GRANTS),
    "PRINCIPAL": OURS,
}


def binding(line):
    member, role, condition = line.split(" ", 2)
    fields = dict(part.split("=", 1) for part in condition.split(",")) if condition else None
    return {"role": role, "members": [member], **({"condition": fields} if fields else {})}


def quota(metric, limit, usage=0.0):
    return {"metric": metric, "limit": limit, "usage": usage}


def policies():
    for path in project.POLICIES.glob("*.json"):
        yield {
            **json.loads(path.read_text()),
            "name": f"projects/p-1/alertPolicies/{path.stem}",
            "enabled": True,
            "notificationChannels": ["projects/p-1/notificationChannels/9"],
        }


def condition(kind, status="True", **more):
    return {"type": kind, "status": status, **more}


RIGHTS = {
    "storecast-job": {
        "raw_data/": {"read": True, "create": False, "delete": False},
        "results/": {"read": True, "create": True, "delete": False},
        "results/current.json": {"read": True, "create": True, "delete": True},
        "results/receipts/": {"read": True, "create": True, "delete": False},
    },
    "storecast-submitter": {
        "raw_data/": {"read": False, "create": False, "delete": False},
        "results/": {"read": False, "create": False, "delete": False},
        "results/current.json": {"read": False, "create": False, "delete": False},
        "results/receipts/": {"read": True, "create": False, "delete": False},
    },
}
ANSWERS = {
    "gcloud projects get-ancestors": [
        {"id": "p-1", "type": "project"},
        {"id": "77", "type": "organization"},
    ],
    "gcloud compute regions describe": {
        "quotas": [
            quota("CPUS", 100.0, 10.0),
            quota("PREEMPTIBLE_CPUS", 64.0),
            quota("SSD_TOTAL_GB", 2000.0, 100.0),
            quota("IN_USE_ADDRESSES", 8.0, 2.0),
        ]
    },
    "gcloud storage buckets describe": {
        "location": "EUROPE-WEST3",
        "iamConfiguration": {
            "uniformBucketLevelAccess": {"enabled": True},
            "publicAccessPrevention": "enforced",
        },
        "softDeletePolicy": {"retentionDurationSeconds": "604800"},
    },
    "gcloud storage buckets get-iam-policy": {"bindings": [binding(line) for line in GRANTS]},
    "gcloud container clusters describe": {
        "autopilot": {"enabled": True},
        "addonsConfig": {"rayOperatorConfig": {"enabled": True}},
        "networkConfig": {"defaultEnablePrivateNodes": True},
        "workloadIdentityConfig": {"workloadPool": "p-1.svc.id.goog"},
        "loggingConfig": {
            "componentConfig": {"enableComponents": ["SYSTEM_COMPONENTS", "WORKLOADS"]}
        },
        "monitoringConfig": {"managedPrometheusConfig": {"enabled": True}},
        "maintenancePolicy": {
            "window": {
                "recurringWindow": {
                    "recurrence": "FREQ=DAILY",
                    "window": {
                        "startTime": "2026-01-01T09:00:00Z",
                        "endTime": "2026-01-01T15:00:00Z",
                    },
                }
            }
        },
    },
    "gcloud compute routers nats list": [{"name": "storecast"}],
    "gcloud alpha monitoring policies list": list(policies()),
    "gcloud beta monitoring channels list": [
        {"name": "projects/p-1/notificationChannels/9", "enabled": True}
    ],
    "gcloud logging metrics list": [{"name": path.stem} for path in project.METRICS.glob("*.yaml")],
    "gcloud auth print-access-token": "token\n",
    "gcloud certificate-manager certificates describe": {"managed": {"state": "ACTIVE"}},
    "gcloud compute addresses describe": {"address": "203.0.113.7"},
    "gcloud compute backend-services list": [
        {"id": "42", "name": "gkegw1-x-storecast-api", "iap": {"enabled": True}}
    ],
    "gcloud iap web get-iam-policy": {
        "bindings": [
            {
                "role": "roles/iap.httpsResourceAccessor",
                "members": ["group:managers@example.com"],
            }
        ]
    },
    "kubectl get deployment": of_kind("prod", "Deployment")["storecast-api"],
    "kubectl get deployments": {"items": []},
    "kubectl get cronjobs": {"items": list(of_kind("prod", "CronJob").values())},
    "kubectl get raycluster": of_kind("prod", "RayCluster")["storecast-adhoc"],
    "kubectl get pod/": {
        "items": [
            {
                "metadata": {"name": "verify-storecast-job"},
                "status": {
                    "containerStatuses": [
                        {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "403"}}}
                    ]
                },
            },
            {
                "metadata": {"name": "verify-storecast-submitter"},
                "status": {
                    "conditions": [
                        condition("PodScheduled", "False", reason="Unschedulable", message="quota")
                    ]
                },
            },
        ]
    },
    "kubectl get configmap": {
        "data": {
            "STORECAST_API_ISSUERS": json.dumps(
                [{"audience": "/projects/1/global/backendServices/42"}]
            )
        }
    },
    "kubectl get customresourcedefinition": {
        "spec": {
            "versions": [
                {"name": "v1alpha1"},
                {
                    "name": "v1",
                    "schema": {
                        "openAPIV3Schema": {
                            "properties": {
                                "spec": {
                                    "properties": {
                                        "rayClusterSpec": {
                                            "properties": {"authOptions": {"type": "object"}}
                                        }
                                    }
                                }
                            }
                        }
                    },
                },
            ]
        }
    },
    "kubectl get rayjob": yaml.safe_load(TEMPLATE.read_text()),
    "kubectl get rayjobs": {
        "items": [
            {
                "metadata": {"name": "storecast-20261127", "creationTimestamp": "2026-11-28T00:00"},
                "status": {"jobStatus": "SUCCEEDED", "jobDeploymentStatus": "Complete"},
            }
        ]
    },
    "kubectl get gateway": {
        "status": {
            "conditions": [condition("Accepted"), condition("Programmed")],
            "addresses": [{"value": "203.0.113.7"}],
        }
    },
    "kubectl get httproute": {
        "status": {"parents": [{"conditions": [condition("Accepted"), condition("ResolvedRefs")]}]}
    },
    "kubectl get gcpbackendpolicy": {"status": {"conditions": [condition("Attached")]}},
    "kubectl get healthcheckpolicy": {"status": {"conditions": [condition("Attached")]}},
    "kubectl create": None,
    "kubectl wait": "",
    "kubectl delete": "",
    "kubectl logs pod/verify-storecast-job": {
        "rights": RIGHTS["storecast-job"],
        "race": 412,
        "kubernetes": True,
    },
    "kubectl logs pod/verify-storecast-submitter": {
        "rights": RIGHTS["storecast-submitter"],
        "race": None,
        "kubernetes": True,
    },
}
PAGES = {
    "https://monitoring.googleapis.com": Page(200, {}, '{"data": {"result": [{}, {}]}}'),
    "https://forecasts.example.com": Page(
        302, {"Location": "https://accounts.google.com/o/oauth2/v2/auth"}, ""
    ),
}


class SoundProject(Live):
    """Gives these answers, and keeps the commands that were asked."""

    def __init__(self):
        super().__init__(dict(SETTINGS))
        self.answers = copy.deepcopy(ANSWERS)
        self.pages = dict(PAGES)
        self.commands = []
        self.addresses = {"203.0.113.7"}
        self.admit = autopilot

    def run(self, command, given=""):
        self.commands.append(command)
        line = " ".join(word for word in command if not word.startswith("--"))
        if line == "kubectl create" and "--dry-run=server" in command:
            return json.dumps(self.admit(json.loads(given)))
        key = max((key for key in self.answers if line.startswith(key)), key=len)
        answer = self.answers[key]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, str) else json.dumps(answer)

    def page(self, url, _token=""):
        answer = next(page for start, page in self.pages.items() if url.startswith(start))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def address_of(self, _domain):
        return self.addresses


def autopilot(pod):
    """What Autopilot's admission adds to a pod that selects Spot."""
    if pod["spec"].get("nodeSelector", {}).get(cluster.SPOT):
        toleration = {"key": cluster.SPOT, "operator": "Equal", "value": "true"}
        pod["spec"]["tolerations"] = [toleration]
    return pod
