//! What can be set. The fields' documentation is the manual.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::RetryConfig;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tributary_node::config::{Duration, Problems, Secret, Size};
use tributary_node::tls::ClientTls;

use super::S3;
use super::encode::Encoder;
use super::key::Template;
use super::net::Net;
use super::secrets::{Secrets, Source};
use crate::endpoint;
use crate::sink::{Sink, http, registry};

/// Writes points as objects to a bucket of Amazon S3, or of what speaks like it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct S3Config {
    /// The bucket, which has to exist. Veneur's `s3_bucket` is the same key. Required.
    #[serde(alias = "s3_bucket")]
    pub bucket: String,

    /// The region of the bucket. Default: what `AWS_REGION` or `AWS_DEFAULT_REGION` says, or else `us-east-1`.
    pub region: Option<String>,

    /// For another place than Amazon's: the server's address, as `https://host:port`. Default: what `AWS_ENDPOINT_URL` says, or else Amazon's for the
    /// region.
    pub endpoint: Option<String>,

    /// Whether the bucket stands in front of the host, `bucket.host`, and not in the path. Needs a certificate for such names; the `endpoint`, where one is
    /// set, then names the bucket too: `https://bucket.host`. Default: false.
    pub virtual_hosted_style: bool,

    /// The id of the access key. Without it, credentials come from where Amazon's programs find theirs, in this order: the variables `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`; `AWS_WEB_IDENTITY_TOKEN_FILE` with `AWS_ROLE_ARN` (Kubernetes' service accounts); the container's
    /// (`AWS_CONTAINER_CREDENTIALS_…`, ECS and EKS); the instance's (EC2). Profiles in `~/.aws` are not read.
    pub access_key_id: Secret,

    /// A file with the id, in place of `access_key_id`; read for each object, so that a new key needs no restart.
    #[serde(deserialize_with = "crate::options::given_path")]
    pub access_key_id_file: Option<PathBuf>,

    /// The secret of the access key.
    pub secret_access_key: Secret,

    /// A file with the secret, in place of `secret_access_key`; read for each object.
    #[serde(deserialize_with = "crate::options::given_path")]
    pub secret_access_key_file: Option<PathBuf>,

    /// A file with the session token of temporary credentials; read for each object. Default: none.
    #[serde(deserialize_with = "crate::options::given_path")]
    pub session_token_file: Option<PathBuf>,

    /// What stands in front of the objects' names: with `{year}`, `{month}`, `{day}`, `{hour}`, `{minute}` of their newest point in UTC, `{hostname}` and
    /// `{sink}`. After it comes `TIME-START-SEQUENCE.tsv.gz`: the Unix time of the newest point, a number for each start of the sink, and one for each
    /// write. Default: `{year}/{month}/{day}/{hostname}/`, as Veneur has it.
    pub prefix: String,

    /// What is in an object. `tsv` (the default): Veneur's columns, for tables that are filled from those: name, tags in braces, `rate` or `gauge`, hostname,
    /// interval, time, value, day; a counter's value is by the second; service checks and events are skipped. `csv`: with a header, name, type, value, timestamp,
    /// tags, hostname, interval, message; a counter's value is the interval's total; events are skipped. `jsonl`: an object a line, as the sink `localfile` writes
    /// them, with events.
    pub format: Format,

    /// `gzip` (the default) or `none`.
    pub compression: Packing,

    /// How long points are gathered into one object. Longer makes fewer requests, which Amazon counts, and loses more when the host dies. `0s` writes each flush, and what a
    /// source hands over, by itself. Default: 1m.
    pub flush_interval: Duration,

    /// An object is written earlier once so many points wait. Default: 500,000.
    pub flush_points: usize,

    /// An object that becomes longer than this, as it is stored, is closed, and the rest goes into others: between 64KiB and 1GiB. It is sent in one request, from memory.
    /// Default: 64MiB.
    pub max_object_bytes: Size,

    /// How long one request may take with its answer. Default: 1m.
    pub timeout: Duration,

    /// The wait before what failed is sent again; it doubles with each failure up to `max_backoff`, and each wait is somewhere between half of that and all of
    /// it. Default: 1s.
    pub backoff: Duration,

    /// The longest of those waits, and the one after a refusal. Default: 1m.
    pub max_backoff: Duration,

    /// TLS. Default: the CAs that this system trusts, and no certificate of our own.
    pub tls: ClientTls,
}

/// What is in an object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Veneur's columns.
    #[default]
    Tsv,
    /// Columns with a header.
    Csv,
    /// JSON lines.
    Jsonl,
}

/// How an object is compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// As gzip.
    #[default]
    Gzip,
    /// Not at all.
    None,
}

impl Default for S3Config {
    fn default() -> Self {
        Self {
            bucket: String::new(),
            region: None,
            endpoint: None,
            virtual_hosted_style: false,
            access_key_id: Secret::default(),
            access_key_id_file: None,
            secret_access_key: Secret::default(),
            secret_access_key_file: None,
            session_token_file: None,
            prefix: "{year}/{month}/{day}/{hostname}/".to_owned(),
            format: Format::default(),
            compression: Packing::default(),
            flush_interval: Duration::seconds(60),
            flush_points: 500_000,
            max_object_bytes: Size::mib(64),
            timeout: Duration::seconds(60),
            backoff: Duration::seconds(1),
            max_backoff: Duration::seconds(60),
            tls: ClientTls::default(),
        }
    }
}

const SMALLEST: u64 = 64 << 10;
const LARGEST: u64 = 1 << 30;
const LIKE: &str = "https://s3.example.org";

impl S3Config {
    pub(super) fn template(&self, sink: &str) -> Result<Template, String> {
        Template::new(&self.prefix, sink).map_err(|what| format!("prefix: {what}"))
    }

    pub(super) fn encoder(&self) -> Encoder {
        Encoder {
            format: self.format,
            packing: self.compression,
            longest: self.max_object_bytes.as_usize(),
        }
    }

    /// The client of the bucket.
    pub(super) fn store(&self) -> Result<AmazonS3, String> {
        let secrets = self.secrets()?;
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&self.bucket)
            .with_virtual_hosted_style_request(self.virtual_hosted_style)
            // The queue tries again, with everything that a program's end and a change of its settings ask for.
            .with_retry(RetryConfig {
                max_retries: 0,
                ..RetryConfig::default()
            });
        let mut secure = true;
        if let Some(region) = &self.region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = &self.endpoint {
            let plain = endpoint.starts_with("http://");
            builder = builder.with_endpoint(endpoint).with_allow_http(plain);
            // Where credentials are asked for elsewhere, that is by TLS.
            secure = !plain || secrets.is_none();
        }
        if let Some(secrets) = secrets {
            builder = builder.with_credentials(Arc::new(secrets));
        }
        let tls = secure.then_some(&self.tls);
        let client = http::pooled(tls, "s3_tls", self.timeout.get())
            .map_err(|error| format!("tls.{error}"))?;
        let built = builder.with_http_connector(Net(client)).build();
        built.map_err(|error| format!("bucket: {error}"))
    }

    /// The credentials that are configured, if any are.
    fn secrets(&self) -> Result<Option<Secrets>, String> {
        let id = source(
            "access_key_id",
            &self.access_key_id,
            &self.access_key_id_file,
        )?;
        let secret = source(
            "secret_access_key",
            &self.secret_access_key,
            &self.secret_access_key_file,
        )?;
        match (id, secret) {
            (Some(id), Some(secret)) => Ok(Some(Secrets {
                id,
                secret,
                token: self.session_token_file.clone().map(Source::File),
            })),
            (None, None) if self.session_token_file.is_some() => {
                Err("session_token_file: needs `access_key_id` and `secret_access_key`".to_owned())
            }
            (None, None) => Ok(None),
            (Some(_), None) => Err("secret_access_key: is missing for `access_key_id`".to_owned()),
            (None, Some(_)) => Err("access_key_id: is missing for `secret_access_key`".to_owned()),
        }
    }
}

fn source(key: &str, text: &Secret, file: &Option<PathBuf>) -> Result<Option<Source>, String> {
    match (text.is_empty(), file) {
        (true, None) => Ok(None),
        (false, None) => Ok(Some(Source::Text(text.clone()))),
        (true, Some(file)) => Ok(Some(Source::File(file.clone()))),
        (false, Some(_)) => Err(format!("{key}: is set, and `{key}_file` as well")),
    }
}

impl registry::Build for S3Config {
    const EXAMPLE: &'static str = "\
- kind: s3
  config:
    bucket: metrics
    region: eu-central-1
    prefix: tributary/
";
    const GUIDE: &'static str = "s3.md";

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if self.bucket.is_empty() {
            problems.push("bucket: is empty".to_owned());
        } else if !self.bucket.bytes().all(fine) {
            problems.push(format!("bucket: `{}` is no bucket's name", self.bucket));
        }
        if let Some(endpoint) = &self.endpoint {
            let checked = endpoint::parse_base(endpoint, &self.tls, LIKE, "access_key_id");
            problems.extend(checked.err().map(|what| format!("endpoint: {what}")));
        }
        problems.extend(self.secrets().err());
        problems.extend(self.template("").err());
        if self.prefix.starts_with('/') {
            problems.push("prefix: starts with a slash, which objects' names do not".to_owned());
        }
        if self.flush_points == 0 {
            problems.push("flush_points: has to be 1 at least".to_owned());
        }
        if !(SMALLEST..=LARGEST).contains(&self.max_object_bytes.get()) {
            problems.push(format!(
                "max_object_bytes: {} is not between 64KiB and 1GiB",
                self.max_object_bytes
            ));
        }
        for (key, value) in [("timeout", self.timeout), ("backoff", self.backoff)] {
            if value.is_zero() {
                problems.push(format!("{key}: is zero"));
            }
        }
        if self.max_backoff < self.backoff {
            problems.push("max_backoff: is shorter than `backoff`".to_owned());
        }
        let mut tls = Problems::new("");
        self.tls.check("tls", &mut tls);
        problems.extend(
            tls.iter()
                .map(|problem| format!("{}: {}", problem.key, problem.what)),
        );
        problems
    }

    fn build(self, name: &str) -> Result<Box<dyn Sink>, String> {
        Ok(Box::new(S3::new(&self, name)?))
    }
}
