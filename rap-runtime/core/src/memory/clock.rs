//! A clock that was set back while nobody ran.

use super::Memory;
use crate::{InputBody, InputId, Millis, NewInput};
use rap_types::ThreadId;

/// What clocks differ by without having been set.
const UNSTEADY_MS: i64 = 1_000;

impl Memory {
    /// See [`Store::clock_starts`](crate::Store::clock_starts).
    pub fn clock_starts(&mut self, now: Millis) -> Option<i64> {
        let newest = self.accepted_at.max(self.surface.last().map(|(_, event)| event.at))?;
        let by = newest - now;
        if by < UNSTEADY_MS {
            return None;
        }
        for row in self.outbox.values_mut().filter(|row| row.due_at > now) {
            row.due_at = row.due_at + -by;
        }
        let waits = self
            .threads
            .values()
            .filter(|thread| !thread.row.closed && (thread.due_at.is_some() || thread.row.paused));
        let mut waits: Vec<(i64, ThreadId)> =
            waits.map(|thread| (thread.order, thread.row.id.clone())).collect();
        waits.sort();
        for (_, thread) in waits {
            let id = InputId::clock_set_back(newest);
            let body = InputBody::ClockSetBack { by };
            self.accept(NewInput { thread, id, source: "clock".into(), body, traceparent: None }, now);
        }
        Some(by)
    }
}
