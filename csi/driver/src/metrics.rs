//! Counts and times of the requests, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tonic::Code;

/// The upper bounds of the histogram's buckets, in seconds.
const BOUNDS: [f64; 9] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0];

#[derive(Debug, Default)]
struct Durations {
    counts: [u64; BOUNDS.len()],
    total: u64,
    seconds: f64,
}

/// Requests by their methods and outcomes, and how long they take.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: AtomicU64,
    outcomes: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    durations: Mutex<BTreeMap<&'static str, Durations>>,
}

impl Metrics {
    /// Returns the number of the next request.
    pub(crate) fn number(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Counts a request that has ended.
    pub(crate) fn count(&self, method: &'static str, code: Code, took: Duration) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        *outcomes.entry((method, name(code))).or_default() += 1;
        drop(outcomes);
        let mut durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        let durations = durations.entry(method).or_default();
        let seconds = took.as_secs_f64();
        for (count, bound) in durations.counts.iter_mut().zip(BOUNDS) {
            *count += u64::from(seconds <= bound);
        }
        durations.total += 1;
        durations.seconds += seconds;
    }

    /// Returns all metrics as text.
    pub fn text(&self) -> String {
        let mut text = String::from(
            "# HELP rbd_csi_requests_total Requests that have ended.\n\
             # TYPE rbd_csi_requests_total counter\n",
        );
        // Writing to a string cannot fail.
        for ((method, code), count) in &*self.outcomes.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(text, "rbd_csi_requests_total{{method=\"{method}\",code=\"{code}\"}} {count}");
        }
        text += "# HELP rbd_csi_request_seconds How long requests took.\n\
                 # TYPE rbd_csi_request_seconds histogram\n";
        for (method, durations) in &*self.durations.lock().unwrap_or_else(PoisonError::into_inner) {
            for (count, bound) in durations.counts.iter().zip(BOUNDS) {
                let _ = writeln!(
                    text,
                    "rbd_csi_request_seconds_bucket{{method=\"{method}\",le=\"{bound}\"}} {count}"
                );
            }
            let Durations { total, seconds, .. } = durations;
            let _ =
                writeln!(text, "rbd_csi_request_seconds_bucket{{method=\"{method}\",le=\"+Inf\"}} {total}");
            let _ = writeln!(text, "rbd_csi_request_seconds_sum{{method=\"{method}\"}} {seconds}");
            let _ = writeln!(text, "rbd_csi_request_seconds_count{{method=\"{method}\"}} {total}");
        }
        text
    }
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
        Code::Unknown => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_counted() {
        let metrics = Metrics::default();
        metrics.count("Probe", Code::Ok, Duration::from_millis(20));
        metrics.count("Probe", Code::Aborted, Duration::from_secs(90));
        let text = metrics.text();
        for line in [
            r#"rbd_csi_requests_total{method="Probe",code="ABORTED"} 1"#,
            r#"rbd_csi_request_seconds_bucket{method="Probe",le="0.01"} 0"#,
            r#"rbd_csi_request_seconds_bucket{method="Probe",le="60"} 1"#,
            r#"rbd_csi_request_seconds_bucket{method="Probe",le="+Inf"} 2"#,
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        assert_eq!((metrics.number(), metrics.number()), (1, 2));
    }
}
