//! Messages as the firehose nozzle writes them, each with a time of its own.

use serde_json::json;

/// Applications that the Cloud Controller knows.
pub(crate) const WEB: &str = "be268fe2-00cc-41c6-8b7f-0fdb65e25060";
pub(crate) const API_SERVER: &str = "3356a5c7-e86c-442a-b14f-ce5cc4f80ed1";

/// The time of the first, in nanoseconds.
pub(crate) const START: u64 = 1_700_000_000_000_000_000;

/// A line of an application's log.
pub(crate) fn log(app: &str, number: u64) -> String {
    let at = START + number;
    format!(
        r#"{{"origin":"rep","eventType":5,"timestamp":{at},"deployment":"cf","job":"cell","index":"7","ip":"10.0.16.7","logMessage":{{"message":"aGVsbG8=","message_type":1,"timestamp":{at},"app_id":"{app}","source_type":"APP/PROC/WEB","source_instance":"0"}}}}"#
    )
}

/// What a container uses.
pub(crate) fn container(app: &str, number: u64) -> String {
    let metric = json!({"applicationId": app, "instanceIndex": 1, "cpuPercentage": 1.5, "memoryBytes": number, "diskBytes": 1000,
        "memoryBytesQuota": 1_000_000, "diskBytesQuota": 4000});
    json!({"origin": "rep", "eventType": 9, "timestamp": START + number, "containerMetric": metric})
        .to_string()
}

/// A request to [`API_SERVER`].
pub(crate) fn request(number: u64) -> String {
    let start = START + number;
    let app = json!({"low": 3_045_678_995_047_011_891_u64, "high": 15_064_251_325_855_190_961_u64});
    let request = json!({"startTimestamp": start, "stopTimestamp": start + 1_500_000, "peerType": 1, "method": 1, "uri": "/",
        "statusCode": 200, "contentLength": number, "applicationId": app, "instanceIndex": 0});
    json!({"origin": "gorouter", "eventType": 4, "timestamp": start, "httpStartStop": request})
        .to_string()
}
