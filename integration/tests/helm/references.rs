//! What objects of one rendering say of each other.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::chart::{NAMESPACE, Outcome, Rendering, called, list, selects};

/// Ends at the first reference that leads nowhere.
pub(crate) fn check(all: &Rendering) -> Outcome {
    names_are_unique(all)?;
    for workload in all.workloads() {
        pods_have_what_they_name(all, workload)?;
    }
    for service in all.of_kind("Service") {
        service_finds_pods(all, service)?;
    }
    for (kind, target) in [
        ("PodDisruptionBudget", "selector"),
        ("NetworkPolicy", "podSelector"),
    ] {
        for object in all.of_kind(kind) {
            let selector = &object["spec"][target]["matchLabels"];
            let found = all.workloads().filter(|it| selects(selector, labels(it)));
            ensure(found.count() == 1, all, object, "is for one workload")?;
        }
    }
    for scaler in all.of_kind("HorizontalPodAutoscaler") {
        let target = &scaler["spec"]["scaleTargetRef"];
        let (kind, name) = (text(&target["kind"]), text(&target["name"]));
        let scaled = all.get(kind, name).ok_or("nothing to scale")?;
        ensure(
            scaled["spec"]["replicas"].is_null(),
            all,
            scaled,
            "is scaled by one alone",
        )?;
        let cpu =
            &scaled["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"];
        ensure(
            !cpu.is_null(),
            all,
            scaled,
            "has a request that a share is of",
        )?;
    }
    monitors_find_their_pods(all)?;
    roles_are_used(all)?;
    certificates_are_used(all)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn labels(workload: &Value) -> &Value {
    &workload["spec"]["template"]["metadata"]["labels"]
}

fn ensure(holds: bool, all: &Rendering, object: &Value, what: &str) -> Outcome {
    match holds {
        true => Ok(()),
        false => Err(format!("{}: {}: not so: it {what}", all.name, called(object)).into()),
    }
}

fn names_are_unique(all: &Rendering) -> Outcome {
    let mut seen = BTreeSet::new();
    for object in &all.objects {
        ensure(
            seen.insert(called(object)),
            all,
            object,
            "is the only one of its name",
        )?;
        ensure(
            object["metadata"]["namespace"] == NAMESPACE,
            all,
            object,
            "is in the release's namespace",
        )?;
        let name = text(&object["metadata"]["name"]);
        ensure(name.len() <= 63, all, object, "has a short name")?;
        let labels = &object["metadata"]["labels"];
        ensure(
            labels["app.kubernetes.io/instance"] == "fleet",
            all,
            object,
            "says whose it is",
        )?;
    }
    Ok(())
}

fn pods_have_what_they_name(all: &Rendering, workload: &Value) -> Outcome {
    let is = |holds: bool, what: &str| ensure(holds, all, workload, what);
    let spec = &workload["spec"]["template"]["spec"];
    let selector = &workload["spec"]["selector"]["matchLabels"];
    is(selects(selector, labels(workload)), "selects its own pods")?;
    let others = all.workloads().filter(|it| selects(selector, labels(it)));
    is(others.count() == 1, "selects nobody else's pods")?;
    let account = text(&spec["serviceAccountName"]);
    is(
        all.get("ServiceAccount", account).is_some(),
        "has an account that exists",
    )?;

    let claims = list(&workload["spec"]["volumeClaimTemplates"]).iter();
    let claims = claims.map(|claim| &claim["metadata"]["name"]);
    let volumes = list(&spec["volumes"]).iter().map(|volume| &volume["name"]);
    let volumes: Vec<&Value> = volumes.chain(claims).collect();
    let distinct: BTreeSet<String> = volumes.iter().map(|name| name.to_string()).collect();
    is(distinct.len() == volumes.len(), "names each volume once")?;
    for container in list(&spec["containers"])
        .iter()
        .chain(list(&spec["initContainers"]))
    {
        for mount in list(&container["volumeMounts"]) {
            is(
                volumes.contains(&&mount["name"]),
                "mounts volumes that it has",
            )?;
        }
    }
    let mounts = list(&spec["containers"][0]["volumeMounts"]).iter();
    let mounted: Vec<&Value> = mounts.map(|mount| &mount["name"]).collect();
    for volume in volumes {
        is(mounted.contains(&volume), "mounts each volume that it has")?;
    }
    for volume in list(&spec["volumes"]) {
        if let Some(name) = volume["configMap"]["name"].as_str() {
            is(
                all.get("ConfigMap", name).is_some(),
                "mounts a ConfigMap that exists",
            )?;
        }
    }
    if workload["kind"] == "StatefulSet" {
        let service = all.get("Service", text(&workload["spec"]["serviceName"]));
        let service = service.ok_or("a StatefulSet without its service")?;
        is(
            service["spec"]["clusterIP"] == "None",
            "has a headless service",
        )?;
        is(
            workload["spec"]["podManagementPolicy"] == "Parallel",
            "starts all at once",
        )?;
    }

    // The program must have ended by itself before it is killed.
    let settings = all.settings(text(&workload["metadata"]["name"]))?;
    let timeout = text(&settings["shutdown_timeout"]);
    let timeout: tributary_node::config::Duration = timeout.parse()?;
    let slept = &spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"];
    let needed = timeout.get().as_secs() + slept.as_u64().unwrap_or(0);
    let grace = spec["terminationGracePeriodSeconds"].as_u64();
    is(
        grace > Some(needed),
        "is given longer than shutdown_timeout and what comes before",
    )?;

    discovery_finds_a_service(all, workload, &settings)
}

/// Who asks the API server may, and names a service that does not call everybody ready; nobody else has a token.
fn discovery_finds_a_service(all: &Rendering, workload: &Value, settings: &Value) -> Outcome {
    let is = |holds: bool, what: &str| ensure(holds, all, workload, what);
    let spec = &workload["spec"]["template"]["spec"];
    let discovery = &settings["forward_discovery"];
    let asks = discovery["kind"] == "kubernetes";
    is(
        spec["automountServiceAccountToken"] == asks,
        "has a token if it needs one",
    )?;
    let account = &spec["serviceAccountName"];
    let bound = all
        .of_kind("RoleBinding")
        .any(|binding| binding["subjects"][0]["name"] == *account);
    is(bound == asks, "has a role if it needs one")?;
    if asks {
        is(discovery["namespace"] == NAMESPACE, "asks in its namespace")?;
        let service = all.get("Service", text(&discovery["service"]));
        let service = service.ok_or("discovery names no service of ours")?;
        let mut ports = list(&service["spec"]["ports"]).iter();
        is(
            ports.any(|port| port["name"] == discovery["port"]),
            "asks for a port that exists",
        )?;
        is(
            service["spec"]["publishNotReadyAddresses"] != true,
            "sees readiness",
        )?;
    }
    if discovery["kind"] == "dns" {
        let service = text(&discovery["name"])
            .split('.')
            .next()
            .unwrap_or_default();
        let service = all
            .get("Service", service)
            .ok_or("DNS has no such service")?;
        is(
            service["spec"]["clusterIP"] == "None",
            "asks for addresses of pods",
        )?;
        is(
            service["spec"]["publishNotReadyAddresses"] != true,
            "sees readiness",
        )?;
    }
    Ok(())
}

fn service_finds_pods(all: &Rendering, service: &Value) -> Outcome {
    let selector = &service["spec"]["selector"];
    let found: Vec<&Value> = all
        .workloads()
        .filter(|it| selects(selector, labels(it)))
        .collect();
    let [workload] = found.as_slice() else {
        return ensure(false, all, service, "is for one workload");
    };
    if workload["kind"] == "DaemonSet" {
        let policy = &service["spec"]["internalTrafficPolicy"];
        ensure(policy == "Local", all, service, "stays on the node")?;
    }
    let container = &workload["spec"]["template"]["spec"]["containers"][0];
    for port in list(&service["spec"]["ports"]) {
        let mut named = list(&container["ports"]).iter();
        let fits =
            named.any(|it| it["name"] == port["targetPort"] && it["protocol"] == port["protocol"]);
        ensure(fits, all, service, "has ports that its pods have")?;
    }
    Ok(())
}

fn monitors_find_their_pods(all: &Rendering) -> Outcome {
    for monitor in all.of_kind("PodMonitor") {
        let selector = &monitor["spec"]["selector"]["matchLabels"];
        let mut found = all.workloads().filter(|it| selects(selector, labels(it)));
        let pods = found.next().ok_or("a PodMonitor without pods")?;
        ensure(found.next().is_none(), all, monitor, "is for one tier")?;
        let [endpoint] = list(&monitor["spec"]["podMetricsEndpoints"]) else {
            return ensure(false, all, monitor, "scrapes once");
        };
        let mut ports = list(&pods["spec"]["template"]["spec"]["containers"][0]["ports"]).iter();
        ensure(
            ports.any(|port| port["name"] == endpoint["port"]),
            all,
            monitor,
            "scrapes a port that exists",
        )?;
    }
    for monitor in all.of_kind("ServiceMonitor") {
        let selector = &monitor["spec"]["selector"]["matchLabels"];
        let found = all.of_kind("Service");
        let found: Vec<&Value> = found
            .filter(|it| selects(selector, &it["metadata"]["labels"]))
            .collect();
        // Two would scrape each pod twice.
        let ([service], [endpoint]) = (found.as_slice(), list(&monitor["spec"]["endpoints"]))
        else {
            return ensure(false, all, monitor, "scrapes one service, once");
        };
        let mut ports = list(&service["spec"]["ports"]).iter();
        ensure(
            ports.any(|port| port["name"] == endpoint["port"]),
            all,
            monitor,
            "scrapes a port that exists",
        )?;
    }
    Ok(())
}

fn roles_are_used(all: &Rendering) -> Outcome {
    let rule = json!([{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]}]);
    for role in all.of_kind("Role") {
        ensure(
            role["rules"] == rule,
            all,
            role,
            "allows to read EndpointSlices and nothing else",
        )?;
    }
    for kind in ["ClusterRole", "ClusterRoleBinding"] {
        if let Some(role) = all.of_kind(kind).next() {
            return ensure(false, all, role, "is of one namespace");
        }
    }
    for binding in all.of_kind("RoleBinding") {
        let role = text(&binding["roleRef"]["name"]);
        ensure(
            all.get("Role", role).is_some(),
            all,
            binding,
            "binds a role that exists",
        )?;
        for subject in list(&binding["subjects"]) {
            let account = all.get("ServiceAccount", text(&subject["name"]));
            ensure(
                account.is_some() && subject["namespace"] == NAMESPACE,
                all,
                binding,
                "binds an account that exists",
            )?;
        }
    }
    Ok(())
}

/// Each certificate is mounted, and each name that somebody connects to, or lets in, is in one.
fn certificates_are_used(all: &Rendering) -> Outcome {
    let certificates: Vec<&Value> = all.of_kind("Certificate").collect();
    for certificate in &certificates {
        let secret = &certificate["spec"]["secretName"];
        let mut volumes = all
            .workloads()
            .flat_map(|it| list(&it["spec"]["template"]["spec"]["volumes"]));
        ensure(
            volumes.any(|it| it["secret"]["secretName"] == *secret),
            all,
            certificate,
            "is mounted",
        )?;
    }
    if certificates.is_empty() {
        return Ok(());
    }
    let named: Vec<&Value> = certificates
        .iter()
        .flat_map(|it| list(&it["spec"]["dnsNames"]))
        .collect();
    for workload in all.workloads() {
        let settings = all.settings(text(&workload["metadata"]["name"]))?;
        let server = &settings["forward_tls"]["server_name"];
        let known = server.is_null() || named.contains(&server);
        ensure(
            known,
            all,
            workload,
            "connects to a name that a certificate has",
        )?;
        for client in list(&settings["grpc_tls"]["allowed_names"]) {
            ensure(
                named.contains(&client),
                all,
                workload,
                "lets in names that a certificate has",
            )?;
        }
    }
    Ok(())
}
