//! What the driver's service accounts may do (`1-driver.yaml`).

use anyhow::Result;
use serde_json::{Value, json};

use crate::kubectl::Kubectl;
use crate::steps::{ensure, seen};

/// A right: the name of the API group, the resource, the namespace, and the verbs.
type Right = (&'static str, &'static str, &'static str, &'static [&'static str]);

const READ: &[&str] = &["get", "list", "watch"];

/// What the containers beside the driver ask Kubernetes for: provisioner 5.2, resizer 1.13 and
/// snapshotter 8.2, each with leader election.
const CONTROLLER: [Right; 15] = [
    ("", "persistentvolumes", "", &["get", "list", "watch", "create", "patch", "delete"]),
    ("", "persistentvolumeclaims", "default", &["get", "list", "watch", "update"]),
    ("", "persistentvolumeclaims/status", "default", &["patch"]),
    ("", "events", "default", &["list", "watch", "create", "update", "patch"]),
    ("", "nodes", "", READ),
    ("", "secrets", "rbd-csi", &["get"]),
    ("storage.k8s.io", "storageclasses", "", READ),
    ("storage.k8s.io", "csinodes", "", READ),
    ("storage.k8s.io", "volumeattachments", "", READ),
    ("storage.k8s.io", "volumeattributesclasses", "", READ),
    ("snapshot.storage.k8s.io", "volumesnapshots", "default", &["get", "list"]),
    ("snapshot.storage.k8s.io", "volumesnapshotclasses", "", READ),
    ("snapshot.storage.k8s.io", "volumesnapshotcontents", "", &["get", "list", "watch", "update", "patch"]),
    ("snapshot.storage.k8s.io", "volumesnapshotcontents/status", "", &["update", "patch"]),
    (
        "coordination.k8s.io",
        "leases",
        "rbd-csi",
        &["get", "list", "watch", "create", "update", "patch", "delete"],
    ),
];

/// What nobody of the driver may do.
const NOBODY: [Right; 5] = [
    ("", "secrets", "default", &["get", "list"]),
    ("", "secrets", "rbd-csi", &["list", "create"]),
    ("", "pods", "default", &["get", "create", "delete"]),
    ("", "persistentvolumeclaims", "default", &["create", "delete"]),
    ("rbac.authorization.k8s.io", "clusterroles", "", &["create", "update"]),
];

/// Asks the API server what the accounts may do.
pub fn check(kubectl: &Kubectl) -> Result<()> {
    let (there, asked) = allowed(kubectl, "rbd-csi-controller", &CONTROLLER)?;
    ensure(there.len() == asked, || format!("rbd-csi-controller may only do {there:?}, {asked} are needed"))?;
    seen(format!("rbd-csi-controller has the {asked} rights that its containers need"));
    for account in ["rbd-csi-controller", "rbd-csi-node"] {
        let (there, asked) = allowed(kubectl, account, &NOBODY)?;
        ensure(there.is_empty(), || format!("{account} may do {there:?}"))?;
        seen(format!("{account} has none of {asked} others"));
    }
    let (there, asked) = allowed(kubectl, "rbd-csi-node", &CONTROLLER)?;
    ensure(there.is_empty(), || format!("rbd-csi-node may do {there:?}"))?;
    seen(format!("rbd-csi-node has none of the {asked} of rbd-csi-controller"));
    // The pods of the nodes run by that account, and hold no token of it.
    let pods = kubectl.json(&["-n", "rbd-csi", "get", "pods"])?;
    for pod in pods["items"].as_array().into_iter().flatten() {
        ensure(pod.pointer("/spec/serviceAccountName") == Some(&"rbd-csi-node".into()), || pod.to_string())?;
        let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array).into_iter().flatten();
        let tokens = volumes.filter(|volume| volume.get("secret").is_some()).count();
        ensure(tokens == 0, || format!("a pod of a node has a token: {pod}"))?;
    }
    Ok(())
}

/// Returns which of these rights an account has, and how many there are.
fn allowed(kubectl: &Kubectl, account: &str, rights: &[Right]) -> Result<(Vec<String>, usize)> {
    let (mut names, mut reviews) = (Vec::new(), Vec::new());
    for (group, resource, namespace, verbs) in rights {
        let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
        for verb in *verbs {
            names.push(format!("{verb} {group} {resource} {part} {namespace}"));
            reviews.push(json!({
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": format!("system:serviceaccount:rbd-csi:{account}"),
                    "groups": [
                        "system:serviceaccounts", "system:serviceaccounts:rbd-csi", "system:authenticated",
                    ],
                    "resourceAttributes": {
                        "group": group, "resource": resource, "subresource": part, "verb": verb,
                        "namespace": namespace,
                    },
                },
            }));
        }
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": reviews}).to_string();
    let said =
        kubectl.run(&["create", "--filename=-", "--output=go-template={{.status.allowed}} "], &list)?;
    let answers: Vec<bool> = said.split_whitespace().map(|word| word == "true").collect();
    ensure(answers.len() == names.len(), || {
        format!("{} answers to {} questions", answers.len(), names.len())
    })?;
    let there = names.into_iter().zip(&answers).filter(|(_, allowed)| **allowed);
    Ok((there.map(|(name, _)| name).collect(), answers.len()))
}
