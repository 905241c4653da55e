//! Any status and `Retry-After` of a peer: a verdict without panic, and never a pause beyond the longest one.
//! The input is a digit or two for the status, then the header.
#![no_main]

use http::{HeaderMap, HeaderValue, StatusCode, header};
use libfuzzer_sys::fuzz_target;
use rap_http::{
    Origins, Reply, Traffic, Verdict,
    delivery::{RETRY_AFTER_MAX, Start},
    judge,
};
use std::time::Duration;

fuzz_target!(|input: (u16, u8, u64, &[u8])| {
    let (status, made, seed, value) = input;
    let Ok(status) = StatusCode::from_u16(200 + status % 400) else { return };
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    let headers = HeaderMap::from_iter([(header::RETRY_AFTER, value)]);
    let attempt = Reply { status, headers, body: Default::default() }.attempt();
    for traffic in [Traffic::Callback, Traffic::Answer, Traffic::Invocation, Traffic::Notice] {
        let since = Duration::from_millis(seed % 200_000);
        if let Verdict::Retry { after, .. } = judge(traffic, u32::from(made), since, &attempt, seed) {
            assert!(after <= RETRY_AFTER_MAX.mul_f64(1.2), "{after:?}");
        }
    }
    let mut origins = Origins::new();
    let now = seed % (1 << 50);
    if let Start::Now(permit) = origins.may_start("http://h", now) {
        origins.finished("http://h", now, permit, &attempt);
    }
    if let Start::WaitUntil(until) = origins.may_start("http://h", now) {
        assert!(until - now <= 24 * 3_600_000, "{until}");
    }
});
