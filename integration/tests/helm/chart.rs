//! The chart as Helm renders it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use tributary_integration::consul::fetched;

pub(crate) type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The namespace that releases go to.
pub(crate) const NAMESPACE: &str = "metrics";

/// The file in each tier's ConfigMap.
pub(crate) const SETTINGS: &str = "config.yaml";

/// The version of Kubernetes that templates are told of.
const KUBERNETES: &str = "1.37.0";

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn chart() -> PathBuf {
    root().join("helm/tributary")
}

/// What a set of values makes of the chart.
pub(crate) struct Rendering {
    /// The name of the set's file, without its ending.
    pub(crate) name: String,
    pub(crate) objects: Vec<Value>,
}

/// The sets of values in `ci/`, by name.
pub(crate) fn value_sets() -> std::io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(chart().join("ci"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    files.sort();
    Ok(files)
}

/// Runs Helm, which writes nothing outside a directory of its own.
pub(crate) fn helm(arguments: &[&str]) -> std::io::Result<Output> {
    let home = TempDir::new()?;
    let mut helm = Command::new(fetched("TEST_HELM")?);
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        helm.env(variable, home.path());
    }
    helm.args(arguments).output()
}

/// What Helm says of the chart with these arguments behind `template`.
pub(crate) fn template(chart: &Path, arguments: &[&str]) -> std::io::Result<Output> {
    let chart = chart.display().to_string();
    let mut all = vec!["template", "fleet", &chart, "--namespace", NAMESPACE];
    all.extend(["--kube-version", KUBERNETES]);
    all.extend(arguments);
    helm(&all)
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// The objects that come of a file of values and `--set`s.
pub(crate) fn render(
    values: &Path,
    sets: &[&str],
) -> Result<Rendering, Box<dyn std::error::Error>> {
    let file = values.display().to_string();
    let mut arguments = vec!["--values", &file];
    for set in sets {
        arguments.extend(["--set", set]);
    }
    let output = template(&chart(), &arguments)?;
    if !output.status.success() {
        return Err(format!("{file}: {}", said(&output)).into());
    }
    let name = values.file_stem().unwrap_or_default();
    Ok(Rendering {
        name: name.to_string_lossy().into_owned(),
        objects: objects(&String::from_utf8(output.stdout)?)?,
    })
}

/// All of them, one for each set of values.
pub(crate) fn render_all() -> Result<Vec<Rendering>, Box<dyn std::error::Error>> {
    value_sets()?
        .iter()
        .map(|values| render(values, &[]))
        .collect()
}

/// The documents of a text, without empty ones. A key that stands twice is an error.
pub(crate) fn objects(text: &str) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let mut objects = Vec::new();
    for document in format!("\n{text}").split("\n---") {
        let value = yaml(document).map_err(|error| format!("{error} in\n{document}"))?;
        if !value.is_null() {
            objects.push(value);
        }
    }
    Ok(objects)
}

pub(crate) fn yaml(text: &str) -> Result<Value, Box<dyn std::error::Error>> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        with_snippet: false,
    };
    Ok(serde_saphyr::from_str_with_options(text, options)?)
}

impl Rendering {
    pub(crate) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |it| it["kind"] == kind)
    }

    /// The object of this kind and name.
    pub(crate) fn get(&self, kind: &str, name: &str) -> Option<&Value> {
        let mut all = self.objects.iter();
        all.find(|it| it["kind"] == kind && it["metadata"]["name"] == name)
    }

    /// What runs pods for as long as the release is there.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(|it| {
            let kind = it["kind"].as_str();
            matches!(kind, Some("DaemonSet" | "Deployment" | "StatefulSet"))
        })
    }

    /// Metadata and spec of every pod, the test's among them.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &Value> {
        let templates = self.workloads().map(|it| &it["spec"]["template"]);
        templates.chain(self.of_kind("Pod"))
    }

    /// A tier's settings.
    pub(crate) fn settings(&self, name: &str) -> Result<Value, Box<dyn std::error::Error>> {
        let map = self.get("ConfigMap", name).ok_or("no such ConfigMap")?;
        yaml(map["data"][SETTINGS].as_str().ok_or("no settings in it")?)
    }
}

/// What a list holds, or nothing.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Kind and name, for messages.
pub(crate) fn called(object: &Value) -> String {
    format!("{} {}", object["kind"], object["metadata"]["name"])
}

/// Whether labels are all that a selector's `matchLabels` wants.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.as_object();
    wanted.is_some_and(|wanted| {
        !wanted.is_empty() && wanted.iter().all(|(key, value)| &labels[key] == value)
    })
}
