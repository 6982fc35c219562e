//! What is known of an upload.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::request::Request;

/// Names and values, as `/api?upload_status` shows them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Status(Map<String, Value>);

/// Where an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Pending,
    Complete,
    Failed,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Complete => "complete",
            Self::Failed => "failed",
        }
    }
}

impl Status {
    /// That of a new upload.
    pub(super) fn new(
        request: &Request,
        upload_id: &str,
        data_file: &str,
        info_file: Option<&str>,
    ) -> Self {
        let mut status = Self::default();
        // The words that they are in requests.
        fn word<T: Serialize>(value: &T) -> Value {
            serde_json::to_value(value).unwrap_or_default()
        }
        status.set("parent_metric_namespace", &*request.parent);
        status.set("timezone", &*request.timezone);
        status.set("upload_id", upload_id);
        status.set("format", word(&request.format));
        status.set("archive", word(&request.archive));
        status.set("data_filename", data_file);
        status.set("info_filename", info_file.map_or(Value::Null, Value::from));
        status.set("header_row", request.header_row);
        status.set("skip_rows", request.skip_rows);
        status.set("info_file_in_archive", request.info_file_in_archive);
        status.set("resample_method", word(&request.resample));
        status.set("ignore_submitted_timestamps", request.ignore_submitted);
        status.set_state(State::Pending);
        status
    }

    /// Sets a value.
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Sets what became of a file. Its name is a client's, and must not pass for one of ours.
    pub(super) fn set_file(&mut self, name: &str, said: String) {
        const OURS: [&str; 17] = [
            "parent_metric_namespace",
            "timezone",
            "upload_id",
            "format",
            "archive",
            "data_filename",
            "info_filename",
            "header_row",
            "skip_rows",
            "info_file_in_archive",
            "resample_method",
            "ignore_submitted_timestamps",
            "status",
            "error",
            "processing_time",
            "processing started at",
            "processing completed at",
        ];
        match OURS.contains(&name) {
            true => self.set(&format!("{name} (file)"), said),
            false => self.set(name, said),
        }
    }

    pub(super) fn set_state(&mut self, state: State) {
        self.set("status", state.as_str());
    }

    /// Whether there is work left.
    pub(super) fn is_pending(&self) -> bool {
        self.0.get("status").and_then(Value::as_str) == Some(State::Pending.as_str())
    }

    /// A value by its name.
    #[cfg(test)]
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}
