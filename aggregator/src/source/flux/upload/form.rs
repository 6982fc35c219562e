//! Reading the form that an upload is posted as (RFC 7578).

use bytes::Bytes;
use futures_util::Stream;
use multer::{Constraints, Multipart, SizeLimit};

use super::request::Variables;
use super::store::Posted;

/// A form in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) variables: Variables,
    pub(crate) data: Option<Posted>,
    pub(crate) info: Option<Posted>,
}

/// What a form may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// All of it, in bytes.
    pub(crate) body: u64,
}

/// Why a form was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormError {
    /// The `Content-Type` is not that of one.
    #[error("not multipart/form-data")]
    NotAForm,
    /// It is longer than the limit.
    #[error("the upload is too large")]
    TooLarge,
    /// It ends early, or is no form.
    #[error("the form cannot be read: {0}")]
    Broken(multer::Error),
}

/// A form has about twenty fields.
const MAX_FIELDS: usize = 100;
/// A value that is no file.
const MAX_VALUE: u64 = 64 << 10;

const DATA: &str = "data_file";
const INFO: &str = "info_file";

impl Form {
    /// Reads a form to its end. The caller bounds the time.
    pub(crate) async fn read<S, E>(
        content_type: Option<&str>,
        body: S,
        limits: Limits,
    ) -> Result<Self, FormError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let boundary = multer::parse_boundary(content_type.unwrap_or_default())
            .map_err(|_| FormError::NotAForm)?;
        let sizes = SizeLimit::new()
            .whole_stream(limits.body)
            .per_field(MAX_VALUE)
            .for_field(DATA, limits.body)
            .for_field(INFO, limits.body);
        let constraints = Constraints::new().size_limit(sizes);
        let mut multipart = Multipart::with_constraints(body, boundary, constraints);
        let mut form = Self::default();
        let mut fields = 0;
        while let Some(field) = multipart.next_field().await.map_err(FormError::of)? {
            fields += 1;
            if fields > MAX_FIELDS {
                return Err(FormError::TooLarge);
            }
            let Some(name) = field.name().map(str::to_owned) else {
                continue;
            };
            let file_name = field.file_name().unwrap_or_default().to_owned();
            let bytes = field.bytes().await.map_err(FormError::of)?;
            let posted = || Posted {
                name: file_name,
                bytes: bytes.to_vec(),
            };
            match name.as_str() {
                DATA => form.data = Some(posted()),
                // Browsers send an empty one where no file was chosen.
                INFO if bytes.is_empty() => {}
                INFO => form.info = Some(posted()),
                _ => {
                    let value = String::from_utf8_lossy(&bytes).into_owned();
                    form.variables.insert(name, value);
                }
            }
        }
        Ok(form)
    }
}

impl FormError {
    fn of(error: multer::Error) -> Self {
        match error {
            multer::Error::StreamSizeExceeded { .. } | multer::Error::FieldSizeExceeded { .. } => {
                Self::TooLarge
            }
            other => Self::Broken(other),
        }
    }
}
