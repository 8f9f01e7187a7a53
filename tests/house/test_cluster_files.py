"""The files for Kubernetes and Slurm: fields, names and commands that there are; the Slurm script is run dry.

No cluster runs here: what its controllers do with the files is not tested.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.house.commands import parse
from tests.house.test_deploy import DEPLOY, composed, instructions

KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
SLURM = DEPLOY / "slurm" / "round.sh"

#: The fields that these files use, as the reference of the API (1.37) and of KubeRay (v1) has them. A type is a value
#: of it, a dict an object, a list with one entry a list of such, and ``{"*": …}`` an object with any names.
_TEXTS, _AMOUNTS = {"*": str}, {"*": (str, int)}
_EXEC = {"command": [str]}
_PROBE = {
    "tcpSocket": {"port": (str, int)},
    "exec": _EXEC,
    "initialDelaySeconds": int,
    "periodSeconds": int,
    "timeoutSeconds": int,
    "failureThreshold": int,
}
_CONTAINER = {
    "name": str,
    "image": str,
    "command": [str],
    "args": [str],
    "envFrom": [{"configMapRef": {"name": str}, "secretRef": {"name": str}}],
    "ports": [{"name": str, "containerPort": int}],
    "resources": {"requests": _AMOUNTS, "limits": _AMOUNTS},
    "volumeMounts": [{"name": str, "mountPath": str}],
    "readinessProbe": _PROBE,
    "livenessProbe": _PROBE,
}
_POD = {
    "metadata": {"labels": _TEXTS},
    "spec": {
        "restartPolicy": str,
        "terminationGracePeriodSeconds": int,
        "securityContext": {"runAsUser": int, "runAsGroup": int, "fsGroup": int, "runAsNonRoot": bool},
        "containers": [_CONTAINER],
        "topologySpreadConstraints": [
            {
                "maxSkew": int,
                "topologyKey": str,
                "whenUnsatisfiable": str,
                "labelSelector": {"matchLabels": _TEXTS},
            }
        ],
        "volumes": [
            {
                "name": str,
                "persistentVolumeClaim": {"claimName": str},
                "emptyDir": {"medium": str, "sizeLimit": str},
            }
        ],
    },
}
_JOB = {
    "backoffLimit": int,
    "backoffLimitPerIndex": int,
    "parallelism": int,
    "completions": int,
    "completionMode": str,
    "podFailurePolicy": {
        "rules": [
            {
                "action": str,
                "onPodConditions": [{"type": str, "status": str}],
                "onExitCodes": {"containerName": str, "operator": str, "values": [int]},
            }
        ]
    },
    "template": _POD,
}
_GROUP = {"rayStartParams": _TEXTS, "template": _POD}
_WORKERS = {**_GROUP, "groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int}
_KINDS: dict[tuple[str, str], dict[str, Any]] = {
    ("v1", "PersistentVolumeClaim"): {"spec": {"accessModes": [str], "resources": {"requests": _AMOUNTS}}},
    ("v1", "ConfigMap"): {"data": _TEXTS},
    ("v1", "Service"): {"spec": {"selector": _TEXTS, "ports": [{"name": str, "port": int, "targetPort": (str, int)}]}},
    ("apps/v1", "Deployment"): {
        "spec": {"replicas": int, "selector": {"matchLabels": _TEXTS}, "template": _POD},
    },
    ("batch/v1", "Job"): {"spec": _JOB},
    ("batch/v1", "CronJob"): {"spec": {"schedule": str, "concurrencyPolicy": str, "jobTemplate": {"spec": _JOB}}},
    ("ray.io/v1", "RayJob"): {
        "spec": {
            "entrypoint": str,
            "shutdownAfterJobFinishes": bool,
            "backoffLimit": int,
            "rayClusterSpec": {"rayVersion": str, "headGroupSpec": _GROUP, "workerGroupSpecs": [_WORKERS]},
        }
    },
}
#: Options of sbatch that a script may carry, of those that this one needs.
_SBATCH = {"job-name", "nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "mem", "time", "requeue"}
_SBATCH |= {"open-mode", "output"}
_SRUN = {"--kill-on-bad-exit=0", "--no-kill", "--nodes=1", "--ntasks=1"}


@cache
def documents() -> list[tuple[str, dict[str, Any]]]:
    return [(file.name, found) for file in KUBERNETES for found in yaml.safe_load_all(file.read_text())]


def faults(value: Any, form: Any, where: str) -> Iterator[str]:
    """What a value has that its form has not."""
    if isinstance(form, dict):
        if not isinstance(value, dict):
            yield f"{where}: no object"
            return
        for name, part in value.items():
            if name not in form and "*" not in form:
                yield f"{where}.{name}: no such field"
            else:
                yield from faults(part, form.get(name, form.get("*")), f"{where}.{name}")
    elif isinstance(form, list):
        if not isinstance(value, list):
            yield f"{where}: no list"
            return
        for number, part in enumerate(value):
            yield from faults(part, form[0], f"{where}[{number}]")
    elif not isinstance(value, form) or (isinstance(value, bool) and form is not bool):
        yield f"{where}: {value!r} is of another type"


def pods(value: Any) -> Iterator[dict[str, Any]]:
    """The specs of all pods in a document."""
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        for part in value.values():
            yield from pods(part)
    elif isinstance(value, list):
        for part in value:
            yield from pods(part)


@pytest.mark.parametrize(("name", "document"), documents(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_kubernetes_file_has_fields_that_there_are(name: str, document: dict[str, Any]) -> None:
    form = {"apiVersion": str, "kind": str, "metadata": {"name": str, "generateName": str}}
    form |= _KINDS[document["apiVersion"], document["kind"]]
    assert list(faults(document, form, name)) == []
    assert re.fullmatch(r"[a-z][a-z0-9\-]{0,40}", "".join(document["metadata"].values()))


def test_a_fault_in_a_kubernetes_file_is_seen() -> None:
    form = {"spec": _JOB}
    wrong = {"spec": {"backofLimit": 1, "parallelism": "4", "template": {"spec": {"containers": {}}}}}
    assert len(list(faults(wrong, form, "x"))) == 3


def test_pods_name_volumes_claims_settings_and_images_that_there_are() -> None:
    every = documents()
    made = {document["metadata"].get("name") for _, document in every}
    for name, document in every:
        for pod in pods(document):
            volumes = {volume["name"] for volume in pod.get("volumes", ())}
            claims = {v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v}
            assert claims <= made, name
            assert pod["securityContext"]["runAsNonRoot"], name
            for container in pod["containers"]:
                assert {mount["name"] for mount in container["volumeMounts"]} <= volumes, name
                assert container["image"] in ("flywheel:cpu", "flywheel:cuda"), name
                assert ("nvidia.com/gpu" in container["resources"]["limits"]) <= (container["image"][-4:] == "cuda")
                assert container["envFrom"][0]["configMapRef"]["name"] in made, name
    settings = next(document["data"] for _, document in every if document["kind"] == "ConfigMap")
    in_setup = set(re.findall(r"\$\{?(FLYWHEEL_[A-Z]+)", (DEPLOY / "setup.sh").read_text()))
    assert set(settings) == in_setup
    assert settings["FLYWHEEL_DATABASE"] == composed()["x-flywheel"]["environment"]["FLYWHEEL_DATABASE"]
    # Passwords and keys are in no file.
    assert not re.search(r"(?i)password:|secret_access|stringData", "".join(f.read_text() for f in KUBERNETES))


def test_kubernetes_and_slurm_call_commands_that_there_are() -> None:
    lines = [shlex.split(document["spec"]["entrypoint"]) for _, document in documents() if document["kind"] == "RayJob"]
    for _, document in documents():
        lines += [c["command"] + c["args"] for p in pods(document) for c in p["containers"] if "args" in c]
    lines += [shlex.split(line) for line in re.findall(r"flywheel (?:annotate|round)[^|\n]*", SLURM.read_text())]
    lines = [line for line in lines if line[0] != "flywheel-setup"]
    assert len(lines) == 6
    for line in lines:
        parse([word for word in line if word != "$workspace"] + (["W"] if line[-1] == "$workspace" else []))


def test_no_job_of_a_round_tries_again_what_a_gate_refused() -> None:
    """By exit codes where a job can be told them, else by no other try."""
    rounds = [d for _, d in documents() if d["kind"] in ("RayJob", "CronJob")]
    assert len(rounds) == 2
    for document in rounds:
        job = document["spec"].get("jobTemplate", document)["spec"]
        rules = job.get("podFailurePolicy", {}).get("rules", ())
        ends_at = {code for rule in rules if rule["action"] == "FailJob" for code in rule["onExitCodes"]["values"]}
        assert ends_at >= {2, 3} or job["backoffLimit"] == 0


def test_images_have_the_ray_that_kuberay_starts() -> None:
    [job] = [document["spec"] for _, document in documents() if document["kind"] == "RayJob"]
    for name in ("Dockerfile", "Dockerfile.cuda"):
        install = next(rest for word, rest in instructions(name) if word == "RUN" and "pip install" in rest)
        # Its pods ask the dashboard's agent whether they are well, and a job is handed to the dashboard.
        assert f"'ray[default]=={job['rayClusterSpec']['rayVersion']}'" in install


def test_slurm_s_script_shares_the_texts_and_then_runs_the_round(tmp_path: Path) -> None:
    text = SLURM.read_text()
    options = re.findall(r"^#SBATCH --([a-z\-]+)", text, re.M)
    assert set(options) <= _SBATCH
    assert len(options) == text.count("#SBATCH")
    assert subprocess.run(["bash", "-n", SLURM], check=False).returncode == 0
    srun = tmp_path / "srun"
    srun.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\ncase "$*" in *round*) exit "$CODE";; *) exit 1;; esac\n'
    )
    srun.chmod(0o755)
    for code, ends_with in ((0, 0), (1, 1), (2, 2), (3, 0)):
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CODE": str(code)}
        done = subprocess.run([SLURM, "/shared/corpus"], env=environment, capture_output=True, check=False)
        assert done.returncode == ends_with, "a gate that said no is no failure; a task that ended early ends no round"
    calls = (tmp_path / "calls").read_text().splitlines()[:2]
    assert [call.split("flywheel ")[1] for call in calls] == [
        "annotate --join --config /shared/corpus",
        "round --config /shared/corpus",
    ]
    assert {word for call in calls for word in call.split("flywheel ")[0].split()} == _SRUN
    assert subprocess.run([SLURM], capture_output=True, check=False).returncode != 0
