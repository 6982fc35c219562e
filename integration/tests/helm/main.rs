//! The Kubernetes chart: every set of values in `helm/tributary/ci` by Helm itself, by Kubernetes' own schemas, and by our programs.

mod chart;
mod references;
mod security;
mod settings;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use chart::{
    Outcome, Rendering, called, chart, helm, list, objects, render, render_all, root, said,
    template, value_sets,
};
use tributary_integration::consul::fetched;

/// Kinds that no Kubernetes has by itself.
const FOREIGN: [&str; 4] = [
    "Certificate",
    "PodMonitor",
    "PrometheusRule",
    "ServiceMonitor",
];

fn values(name: &str) -> std::path::PathBuf {
    chart().join(format!("ci/{name}.yaml"))
}

#[test]
#[cfg_attr(not(feature = "servers"), ignore = "needs Helm: run integration/test")]
fn helm_finds_nothing_to_complain_of() -> Outcome {
    let chart = chart().display().to_string();
    for file in value_sets()? {
        let file = file.display().to_string();
        let output = helm(&["lint", "--strict", &chart, "--values", &file])?;
        let told = said(&output);
        assert!(output.status.success(), "{file}: {told}");
        assert!(!told.contains("WARNING"), "{file}: {told}");
    }
    Ok(())
}

#[test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs Helm and kubernetes-validate: run integration/test"
)]
fn kubernetes_takes_every_object() -> Outcome {
    let directory = TempDir::new()?;
    let (mut all, mut oldest) = (Vec::new(), Vec::new());
    let mut foreign = BTreeMap::<String, usize>::new();
    for rendering in render_all()? {
        let (theirs, ours) = rendering
            .objects
            .into_iter()
            .partition::<Vec<Value>, _>(|it| FOREIGN.iter().any(|kind| it["kind"] == *kind));
        for object in theirs {
            let kind = object["kind"].as_str().unwrap_or_default().to_owned();
            *foreign.entry(kind).or_default() += 1;
        }
        let file = directory.path().join(format!("{}.yaml", rendering.name));
        let documents: Vec<String> = ours.iter().map(Value::to_string).collect();
        fs::write(&file, documents.join("\n---\n"))?;
        // What sleeps before SIGTERM needs a younger Kubernetes than the chart itself, and says so.
        if !documents.iter().any(|it| it.contains("preStop")) {
            oldest.push(file.clone());
        }
        all.push(file);
    }
    assert_eq!(
        foreign.len(),
        FOREIGN.len(),
        "all kinds are rendered: {foreign:?}"
    );
    assert!(oldest.len() >= 6 && all.len() > oldest.len());

    let validate = fetched("TEST_KUBERNETES_VALIDATE")?;
    for (version, files) in [("1.37", all), ("1.27", oldest)] {
        let output = Command::new("python3")
            .args(["-m", "kubernetes_validate", "--strict", "-k", version])
            .args(files)
            .env("PYTHONPATH", &validate)
            .output()?;
        let told = said(&output);
        assert!(output.status.success(), "{version}: {told}");
        let bad: Vec<&str> = told
            .lines()
            .filter(|line| !line.starts_with("INFO"))
            .collect();
        assert!(bad.is_empty() && told.contains("INFO"), "{version}: {told}");
    }
    Ok(())
}

#[test]
#[cfg_attr(not(feature = "servers"), ignore = "needs Helm: run integration/test")]
fn the_programs_take_the_settings_that_the_chart_writes() -> Outcome {
    for rendering in render_all()? {
        assert!(rendering.workloads().count() > 0, "{}", rendering.name);
        for workload in rendering.workloads() {
            settings::check(&rendering, workload)?;
        }
    }
    Ok(())
}

#[test]
#[cfg_attr(not(feature = "servers"), ignore = "needs Helm: run integration/test")]
fn objects_name_what_exists() -> Outcome {
    for rendering in render_all()? {
        references::check(&rendering)?;
    }
    // Where names are given in the settings, they must be known before their pods are ready.
    for (name, kept) in [("static", true), ("default", false), ("consul", false)] {
        let rendering = render(&values(name), &[])?;
        let mut services = rendering.of_kind("Service");
        let headless = services.find(|it| !it["spec"]["publishNotReadyAddresses"].is_null());
        let headless = headless.ok_or("no service of globals")?;
        assert_eq!(headless["spec"]["publishNotReadyAddresses"], kept, "{name}");
        // And keys have no other owner, to whom they could be handed.
        let global = headless["metadata"]["name"].as_str().unwrap_or_default();
        let settings = rendering.settings(global)?;
        let handed = ["handoff_address", "consul_handoff_service_name"];
        let handed = handed.iter().any(|key| !settings[*key].is_null());
        assert_eq!(handed, !kept, "{name}");
    }
    Ok(())
}

#[test]
#[cfg_attr(not(feature = "servers"), ignore = "needs Helm: run integration/test")]
fn pods_are_restricted_but_where_agents_use_the_node() -> Outcome {
    for rendering in render_all()? {
        let pods = rendering
            .pods()
            .map(|pod| security::violations(&pod["spec"]));
        let found: Vec<String> = pods.flatten().collect();
        let expected: &[&str] = match rendering.name.as_str() {
            "agents-only" => &["hostNetwork", "hostPort"],
            "everything" => &[
                "hostPath",
                "prepare-socket: capabilities",
                "prepare-socket: root",
                "prepare-socket: root's number",
                "hostPort",
            ],
            _ => &[],
        };
        assert_eq!(found, expected, "{}", rendering.name);
        for pod in rendering.pods() {
            for container in list(&pod["spec"]["containers"]) {
                let memory = &container["resources"]["limits"]["memory"];
                assert!(memory.is_string(), "{}: {pod}", rendering.name);
            }
        }
    }
    Ok(())
}

#[test]
#[cfg_attr(not(feature = "servers"), ignore = "needs Helm: run integration/test")]
fn values_that_are_wrong_are_refused_by_name() -> Outcome {
    for (set, told) in [
        (
            "proxys.replicas=3",
            "Additional property proxys is not allowed",
        ),
        (
            "proxies.replica=3",
            "Additional property replica is not allowed",
        ),
        (
            "agents.socket.enable=true",
            "Additional property enable is not allowed",
        ),
        ("proxies.service.type=Loadbalancer", "proxies.service.type"),
        ("discovery.globals=etcd", "discovery.globals"),
        ("globals.replicas=three", "globals.replicas"),
        ("agents.port=99999", "agents.port"),
        ("interval=ten", "interval"),
        ("agents.percentiles={1.5}", "agents.percentiles.0"),
        ("agents.extraPorts[0].name=carbon", "port is required"),
        ("image.digest=1234", "image.digest"),
        ("image.repository=", "image.repository is required"),
        (
            "globals.config.shutdown_timeout=1m",
            "globals.config.shutdown_timeout is not taken: set shutdownTimeoutSeconds",
        ),
        (
            "proxies.config.grpc_address=a:1",
            "proxies.config.grpc_address is not taken",
        ),
        (
            "tls.enabled=true",
            "tls.enabled needs tls.secretName, tls.secretNames.global",
        ),
        (
            "tls.enabled=true,tls.certManager.enabled=true",
            "tls.certManager.issuerRef.name is required",
        ),
        (
            "proxies.enabled=false",
            "discovery.proxies is dns, and proxies.enabled is false",
        ),
        (
            "globals.enabled=false",
            "discovery.globals is kubernetes, and globals.enabled is false",
        ),
        (
            "discovery.proxies=static",
            "discovery.proxyAddresses is empty",
        ),
        ("agents.service.enabled=false", "nobody can reach an agent"),
        (
            "proxies.autoscaling.enabled=true,proxies.autoscaling.cpuUtilization=0",
            "neither cpuUtilization nor podsMetric",
        ),
        (
            "proxies.autoscaling.enabled=true,proxies.autoscaling.maxReplicas=1",
            "minReplicas is greater than maxReplicas",
        ),
        (
            "agents.hostNetwork=true,agents.hostPort.enabled=true,agents.hostPort.port=1",
            "agents.hostPort.port must be agents.port",
        ),
    ] {
        let file = values("default").display().to_string();
        let output = template(&chart(), &["--values", &file, "--set", set])?;
        assert!(!output.status.success(), "{set} is taken");
        assert!(said(&output).contains(told), "{set}: {}", said(&output));
    }
    // A parent chart's own values are none of ours.
    render(&values("default"), &["global.imageRegistry=example.org"])?;
    Ok(())
}

#[test]
#[cfg_attr(not(feature = "servers"), ignore = "needs Helm: run integration/test")]
fn what_a_user_sets_wins_also_where_it_is_empty_or_false() -> Outcome {
    let set = [
        "agents.config.forward_retention.time=7m",
        "agents.config.metric_sinks=null",
        "agents.config.log_format=text",
        "globals.config.synchronize_with_interval=false",
        "globals.config.dedup.window=20m",
        "globals.history.retention=3h",
        "proxies.config.queue.total=1GiB",
    ];
    let rendering = render(&values("default"), &set)?;
    let agent = rendering.settings("fleet-tributary-agent")?;
    assert_eq!(agent["forward_retention"], json!({"time": "7m"}));
    assert_eq!(agent["log_format"], "text");
    let global = rendering.settings("fleet-tributary-global")?;
    assert_eq!(global["synchronize_with_interval"], false);
    assert_eq!(global["history"], json!({"retention": "3h"}));
    assert_eq!(global["max_series"], 1_000_000);
    let on = render(&values("everything"), &[])?.settings("fleet-tributary-global")?;
    assert_eq!(on["history"], json!({}), "{{}} is not nothing");
    for workload in rendering.workloads() {
        settings::check(&rendering, workload)?;
    }
    Ok(())
}

fn checksum(rendering: &Rendering, kind: &str, name: &str) -> String {
    let workload = rendering.get(kind, name).cloned().unwrap_or_default();
    let annotations = &workload["spec"]["template"]["metadata"]["annotations"];
    annotations["checksum/config"].to_string()
}

#[test]
#[cfg_attr(not(feature = "servers"), ignore = "needs Helm: run integration/test")]
fn changed_settings_replace_pods_or_are_read_again() -> Outcome {
    let live = "configReload=live";
    let sinks = "globals.metricSinks[0].kind=debug,globals.metricSinks[0].name=other";
    let series = "globals.maxSeries=7";
    let of = |set: &[&str]| -> Result<String, Box<dyn std::error::Error>> {
        let rendering = render(&values("default"), set)?;
        Ok(checksum(
            &rendering,
            "StatefulSet",
            "fleet-tributary-global",
        ))
    };
    let (restarting, living) = (of(&[])?, of(&[live])?);
    assert_ne!(of(&[sinks])?, restarting, "sinks by a restart");
    assert_eq!(of(&[live, sinks])?, living, "sinks while it runs");
    assert_ne!(
        of(&[live, series])?,
        living,
        "what cannot change needs a restart"
    );
    // The chart's version is no reason to replace a pod.
    let rendering = render(&values("default"), &[])?;
    for pod in rendering.workloads().map(|it| &it["spec"]["template"]) {
        assert!(
            pod["metadata"]["labels"]["helm.sh/chart"].is_null(),
            "{pod}"
        );
    }
    Ok(())
}

#[test]
fn keys_that_are_read_again_are_those_of_the_manual() -> Outcome {
    let names = fs::read_to_string(chart().join("templates/_config.tpl"))?;
    let (_, names) = names
        .split_once(r#"define "tributary.reloadable" -}}"#)
        .ok_or("the list")?;
    let names = chart::yaml(names.split("{{").next().unwrap_or_default())?;
    let manual = fs::read_to_string(root().join("docs/configuration.md"))?;
    let (_, manual) = manual.split_once("On SIGHUP").ok_or("the paragraph")?;
    let (manual, _) = manual
        .split_once("## tributary-aggregator")
        .ok_or("its end")?;
    let (aggregator, proxy) = manual.split_once("A proxy does so").ok_or("the proxy's")?;
    for (program, manual) in [("aggregator", aggregator), ("proxy", proxy)] {
        let named = list(&names[program]);
        assert!(named.len() > 10, "{program}");
        // A proxy's three kinds of addresses are one phrase there.
        let addresses = |key: &str| program == "proxy" && key.contains("forward_address");
        for key in named.iter().filter_map(Value::as_str) {
            let told = manual.contains(&format!("`{key}`")) || addresses(key);
            assert!(told, "{key} of the {program} is not in the manual");
        }
        let told = manual.split('`').skip(1).step_by(2);
        for key in told.filter(|key| *key != "--watch") {
            assert!(
                named.iter().any(|it| *it == key),
                "{key} of the {program} is not in the chart"
            );
        }
    }
    Ok(())
}

#[test]
fn the_chart_carries_the_dashboards_and_the_rules() -> Outcome {
    for (here, there) in [
        ("dashboards", "files/dashboards"),
        ("alerts/tributary.yaml", "files/alerts/tributary.yaml"),
    ] {
        let output = Command::new("diff")
            .args(["-r", "-q"])
            .args([root().join(here), chart().join(there)])
            .stdin(Stdio::null())
            .output()?;
        let how = "copy them: cp dashboards/*.json helm/tributary/files/dashboards/ && cp alerts/tributary.yaml helm/tributary/files/alerts/";
        assert!(output.status.success(), "{}{how}", said(&output));
    }
    Ok(())
}

#[test]
#[cfg_attr(not(feature = "servers"), ignore = "needs Helm: run integration/test")]
fn objects_of_other_projects_say_what_those_expect() -> Outcome {
    let rendering = render(&values("cert-manager-and-monitors"), &[])?;
    let rule = rendering.of_kind("PrometheusRule").next().ok_or("rules")?;
    assert_eq!(rule["apiVersion"], "monitoring.coreos.com/v1");
    assert_eq!(rule["metadata"]["labels"]["release"], "prometheus");
    let alerts = fs::read_to_string(root().join("alerts/tributary.yaml"))?;
    assert_eq!(rule["spec"], chart::yaml(&alerts)?);

    let monitor = rendering.get("ServiceMonitor", "fleet-tributary-proxy");
    let monitor = monitor.ok_or("a ServiceMonitor")?;
    assert_eq!(monitor["apiVersion"], "monitoring.coreos.com/v1");
    let endpoint =
        json!([{"port": "http", "path": "/metrics", "interval": "30s", "scrapeTimeout": "10s"}]);
    assert_eq!(monitor["spec"]["endpoints"], endpoint);
    let rendering_of_pods = render(&values("everything"), &[])?;
    let monitor = rendering_of_pods.get("PodMonitor", "fleet-tributary-agent");
    let monitor = monitor.ok_or("a PodMonitor")?;
    assert_eq!(monitor["apiVersion"], "monitoring.coreos.com/v1");
    assert!(monitor["spec"]["podMetricsEndpoints"][0]["metricRelabelings"].is_array());

    let certificate = rendering.get("Certificate", "fleet-tributary-global");
    let certificate = certificate.ok_or("a certificate")?;
    assert_eq!(certificate["apiVersion"], "cert-manager.io/v1");
    let host = "fleet-tributary-global.metrics.svc";
    let private_key = json!({"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"});
    assert_eq!(
        certificate["spec"],
        json!({
            "secretName": "fleet-tributary-global-tls", "commonName": "fleet-tributary-global", "dnsNames": [host],
            "issuerRef": {"name": "fleet", "kind": "ClusterIssuer", "group": "cert-manager.io"},
            "usages": ["server auth", "client auth"], "duration": "2160h", "renewBefore": "720h", "privateKey": private_key,
        })
    );
    let proxy = rendering.settings("fleet-tributary-proxy")?;
    assert_eq!(proxy["forward_tls"]["server_name"], host);
    assert_eq!(
        proxy["grpc_tls"]["allowed_names"],
        json!(["fleet-tributary-agent.metrics.svc", host])
    );

    let mut dashboards = 0;
    for map in rendering.of_kind("ConfigMap") {
        if map["metadata"]["labels"]["grafana_dashboard"] == "1" {
            assert_eq!(
                map["metadata"]["annotations"]["grafana_folder"],
                "Tributary"
            );
            for (name, text) in map["data"].as_object().into_iter().flatten() {
                let name = name.strip_prefix("tributary-").ok_or("a name")?;
                let ours = fs::read_to_string(root().join("dashboards").join(name))?;
                assert_eq!(
                    text.as_str().map(str::trim_end),
                    Some(ours.trim_end()),
                    "{name}"
                );
                dashboards += 1;
            }
        }
    }
    assert_eq!(dashboards, fs::read_dir(root().join("dashboards"))?.count());
    Ok(())
}

#[test]
#[cfg_attr(not(feature = "servers"), ignore = "needs Helm: run integration/test")]
fn a_package_holds_everything() -> Outcome {
    let directory = TempDir::new()?;
    let to = directory.path().display().to_string();
    let packed = helm(&[
        "package",
        &chart().display().to_string(),
        "--destination",
        &to,
    ])?;
    assert!(packed.status.success(), "{}", said(&packed));
    let package = fs::read_dir(directory.path())?
        .next()
        .ok_or("a package")??
        .path();
    let file = values("everything").display().to_string();
    let from_package = template(&package, &["--values", &file])?;
    assert!(from_package.status.success(), "{}", said(&from_package));
    let from_package = objects(&String::from_utf8(from_package.stdout)?)?;
    let from_files = render(&values("everything"), &[])?.objects;
    let names = |objects: &[Value]| objects.iter().map(called).collect::<Vec<_>>();
    assert_eq!(names(&from_package), names(&from_files));
    assert_eq!(from_package, from_files);
    Ok(())
}

#[test]
#[cfg_attr(not(feature = "servers"), ignore = "needs Helm: run integration/test")]
fn the_values_of_the_documentation_are_right() -> Outcome {
    let page = fs::read_to_string(root().join("docs/kubernetes.md"))?;
    let directory = TempDir::new()?;
    let file = directory.path().join("values.yaml");
    let mut blocks = 0;
    for block in page.split("```yaml\n# values.yaml\n").skip(1) {
        let block = block.split("```").next().ok_or("an end")?;
        fs::write(&file, block)?;
        let rendering = render(&file, &["image.repository=images.example.org/tributary"])?;
        for workload in rendering.workloads() {
            settings::check(&rendering, workload)?;
        }
        references::check(&rendering)?;
        blocks += 1;
    }
    assert_eq!(blocks, 2);
    Ok(())
}
