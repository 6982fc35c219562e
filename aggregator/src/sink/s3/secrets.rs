//! Credentials from the settings, or from files that may change.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tributary_node::config::Secret;

use crate::secret_file;

/// In the error of a file that cannot be read.
pub(super) const UNREADABLE: &str = "cannot read";

/// A text, or the file that it is in.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Text(Secret),
    File(PathBuf),
}

/// Credentials that are read for each request, so that new ones in files need no restart.
#[derive(Debug)]
pub(super) struct Secrets {
    pub(super) id: Source,
    pub(super) secret: Source,
    pub(super) token: Option<Source>,
}

impl Source {
    async fn read(&self) -> object_store::Result<String> {
        let path = match self {
            Self::Text(text) => return Ok(text.expose().to_owned()),
            Self::File(path) => path,
        };
        let read = secret_file::read(path).await;
        let text = read.map(|secret| secret.expose().to_owned());
        text.map_err(|error| object_store::Error::Generic {
            store: "S3",
            source: format!("{UNREADABLE} `{}`: {error}", path.display()).into(),
        })
    }
}

#[async_trait]
impl CredentialProvider for Secrets {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let token = match &self.token {
            Some(token) => Some(token.read().await?),
            None => None,
        };
        Ok(Arc::new(AwsCredential {
            key_id: self.id.read().await?,
            secret_key: self.secret.read().await?,
            token,
        }))
    }
}
