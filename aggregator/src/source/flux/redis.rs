//! Marks in Redis, under Flux's own keys, so that several instances share them.
//!
//! `flux.last.METRIC` holds `[timestamp, value]`. A mark is moved by a script on the server, so that of two instances the newer one wins.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Script};

use super::marks::Moved;
use super::outbox::{Changes, Keep};

const PREFIX: &str = "flux.last.";

/// How long Redis may take, to connect and for each answer: a request waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Marks that go in one call.
const AT_ONCE: usize = 1000;

/// Sets each key to its arguments (a time and a value) unless its time is as new already.
const MOVE: &str = r"
for i = 1, #KEYS do
  local known = redis.call('GET', KEYS[i])
  local last = known and tonumber(string.match(known, '%-?%d+'))
  local time = ARGV[2 * i - 1]
  if not last or last < tonumber(time) then
    redis.call('SET', KEYS[i], '[' .. time .. ', ' .. ARGV[2 * i] .. ']')
  end
end";

/// How long a Redis that did not answer is not asked again: not each request is to wait for it.
const PAUSE: Duration = Duration::from_secs(5);

/// A Redis that may come and go.
pub(super) struct Shared {
    connection: ConnectionManager,
    script: Script,
    /// Until when it is not asked.
    pause: Mutex<Option<Instant>>,
}

impl Shared {
    /// Connects when it is needed first.
    pub(super) fn new(url: &str) -> Result<Self, String> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE))
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_millis(100));
        let client = client(url)?;
        let connection = ConnectionManager::new_lazy_with_config(client, config)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            connection,
            script: Script::new(MOVE),
            pause: Mutex::default(),
        })
    }

    /// The marks of metrics, of those that have one. None for a while after it did not answer.
    pub(super) async fn marks(&self, names: &[&str]) -> Result<Vec<Moved>, String> {
        if self
            .pause
            .lock()
            .is_some_and(|until| Instant::now() < until)
        {
            return Ok(Vec::new());
        }
        let marks = self.ask(names).await;
        *self.pause.lock() = marks.is_err().then(|| Instant::now() + PAUSE);
        marks
    }

    async fn ask(&self, names: &[&str]) -> Result<Vec<Moved>, String> {
        let mut found = Vec::new();
        for names in names.chunks(AT_ONCE) {
            let mut ask = redis::cmd("MGET");
            for name in names {
                ask.arg(format!("{PREFIX}{name}"));
            }
            let mut connection = self.connection.clone();
            let asking = ask.query_async::<Vec<Option<Vec<u8>>>>(&mut connection);
            let answers = in_time(asking).await?;
            for (name, answer) in names.iter().zip(answers) {
                let mark = answer.as_deref().and_then(parse);
                found.extend(mark.map(|(seconds, value)| (Arc::from(*name), seconds, value)));
            }
        }
        Ok(found)
    }

    async fn move_marks(&self, changes: &Changes) -> Result<(), String> {
        let marks: Vec<_> = changes.marks.iter().collect();
        for marks in marks.chunks(AT_ONCE) {
            let mut call = self.script.prepare_invoke();
            for (name, (seconds, value)) in marks {
                call.key(format!("{PREFIX}{name}"));
                // As Python writes a float: 1.0.
                call.arg(*seconds).arg(format!("{value:?}"));
            }
            let mut connection = self.connection.clone();
            in_time(call.invoke_async::<()>(&mut connection)).await?;
        }
        Ok(())
    }
}

/// Whether a text is an address of a Redis.
pub(super) fn client(url: &str) -> Result<Client, String> {
    // Its own words may quote the address, and with it a password.
    Client::open(url).map_err(|_| "is no address such as redis://127.0.0.1:6379/0".to_owned())
}

async fn in_time<T>(call: impl Future<Output = redis::RedisResult<T>>) -> Result<T, String> {
    match tokio::time::timeout(2 * PATIENCE, call).await {
        Ok(answer) => answer.map_err(|error| format!("Redis: {error}")),
        Err(_) => Err("Redis does not answer".to_owned()),
    }
}

/// `[timestamp, value]`; what is no such thing is no mark.
fn parse(text: &[u8]) -> Option<(i64, f64)> {
    let (seconds, value) = serde_json::from_slice::<(f64, f64)>(text).ok()?;
    Some((seconds as i64, value))
}

#[async_trait]
impl Keep for Shared {
    const CAUSE: &'static str = "redis";

    async fn keep(&self, changes: &Arc<Changes>) -> Result<(), String> {
        self.move_marks(changes).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_flux_writes_them() {
        assert_eq!(parse(b"[1795177685, 1.0]"), Some((1_795_177_685, 1.0)));
        assert_eq!(parse(b"[1795177685, 2]"), Some((1_795_177_685, 2.0)));
        for bad in ["", "[]", "5", "[1, 2, 3]", "(1, 2)"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_bad_address_is_not_quoted() {
        let problem = client("redis//:hunter2@host").unwrap_err();
        assert!(!problem.contains("hunter2"), "{problem}");
        assert!(client("redis://:hunter2@host:6379/1").is_ok());
    }
}
