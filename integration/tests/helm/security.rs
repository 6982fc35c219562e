//! What the Pod Security Standard `restricted` asks of a pod: <https://kubernetes.io/docs/concepts/security/pod-security-standards/>.

use serde_json::{Value, json};

use super::chart::list;

/// Kinds of volumes that are allowed there.
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// What is not as `restricted` wants it, and what of our own rules (a root file system that cannot be written, bounds of memory) is not kept.
pub(crate) fn violations(spec: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        if spec[key] == true {
            found.push(key.to_owned());
        }
    }
    for volume in list(&spec["volumes"]) {
        let kind = volume.as_object().into_iter().flat_map(|it| it.keys());
        for kind in kind.filter(|kind| *kind != "name" && !VOLUMES.contains(&kind.as_str())) {
            found.push(kind.clone());
        }
    }
    let pod = &spec["securityContext"];
    for key in ["initContainers", "containers"] {
        for container in list(&spec[key]) {
            let own = &container["securityContext"];
            let name = container["name"].as_str().unwrap_or_default();
            let either = |key: &str| match own[key].is_null() {
                true => &pod[key],
                false => &own[key],
            };
            let rules = [
                (
                    "privilege escalation",
                    own["allowPrivilegeEscalation"] == false,
                ),
                (
                    "capabilities",
                    own["capabilities"] == json!({"drop": ["ALL"]}),
                ),
                ("privileged", own["privileged"] != true),
                ("root file system", own["readOnlyRootFilesystem"] == true),
                ("root", *either("runAsNonRoot") == true),
                ("root's number", *either("runAsUser") != 0),
                (
                    "seccomp",
                    either("seccompProfile")["type"] == "RuntimeDefault",
                ),
            ];
            let broken = rules.iter().filter(|(_, kept)| !kept);
            found.extend(broken.map(|(rule, _)| format!("{name}: {rule}")));
            let ports = list(&container["ports"]);
            if ports.iter().any(|port| !port["hostPort"].is_null()) {
                found.push("hostPort".to_owned());
            }
        }
    }
    found
}

#[test]
fn each_violation_is_seen() {
    let context = json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}});
    let good = json!({
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "securityContext": context, "ports": [{"containerPort": 1}]}],
        "volumes": [{"name": "v", "configMap": {"name": "c"}}],
    });
    assert!(violations(&good).is_empty());
    for (place, value, told) in [
        ("/hostNetwork", json!(true), "hostNetwork"),
        (
            "/volumes",
            json!([{"name": "v", "hostPath": {}}]),
            "hostPath",
        ),
        ("/containers/0/ports/0/hostPort", json!(1), "hostPort"),
        (
            "/containers/0/securityContext/runAsUser",
            json!(0),
            "c: root's number",
        ),
        (
            "/containers/0/securityContext/capabilities/add",
            json!(["CHOWN"]),
            "c: capabilities",
        ),
        (
            "/containers/0/securityContext/readOnlyRootFilesystem",
            json!(false),
            "c: root file system",
        ),
        (
            "/containers/0/securityContext/privileged",
            json!(true),
            "c: privileged",
        ),
        (
            "/containers/0/securityContext/allowPrivilegeEscalation",
            json!(null),
            "c: privilege escalation",
        ),
        ("/securityContext/runAsNonRoot", json!(null), "c: root"),
        ("/securityContext/seccompProfile", json!(null), "c: seccomp"),
    ] {
        let mut bad = good.clone();
        let (above, key) = place.rsplit_once('/').unwrap_or_default();
        let above = bad.pointer_mut(above).and_then(Value::as_object_mut);
        above.map(|above| above.insert(key.to_owned(), value));
        assert_eq!(violations(&bad), [told], "{place}");
    }
}
