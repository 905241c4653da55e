//! The sender of the outbox, and what becomes of requests on their way.

use super::World;
use crate::{
    Fault,
    checks::{Checked, broken},
    model::dice,
    network::{Answer, Happening},
    server::{self, Received},
};
use rap_core::{Delivery, DeliveryKind, InputBody, InputId, NewInput, Settlement};
use rap_types::CallId;
use serde_json::Value;

/// How long an invocation is tried.
const WINDOW_MS: i64 = 120_000;

impl World {
    /// Takes what is due from the outbox and gives it to the network.
    pub(super) fn take(&mut self) -> bool {
        let taken = self.store.take(self.clock(), 4);
        for delivery in &taken {
            // Right before the first byte: a cancel may have taken it back in between.
            if !self.is(Fault::SendWithoutBeginning) && !self.store.begin(delivery.id) {
                continue;
            }
            let d = self.dice.u64(..);
            let there = (d % 400) as i64;
            let (id, life) = (delivery.id, self.life);
            match delivery.kind {
                DeliveryKind::Invocation => {
                    let given_up =
                        delivery.first_attempt.is_some_and(|first| self.clock() - first > WINDOW_MS);
                    let tool = delivery.body["operation"].as_str().unwrap_or_default();
                    let answer = match tool {
                        _ if given_up => None,
                        "refused" => Some(Answer::Refused),
                        "deaf" => Some(Answer::Silence),
                        _ => None,
                    };
                    if let Some(answer) = answer {
                        self.queue.push(self.now + there, Happening::Answer { delivery: id, life, answer });
                    } else if given_up {
                        let may_have_arrived = !self.is(Fault::RefuseWhatMayHaveArrived);
                        self.give_up(id, delivery, may_have_arrived);
                    } else if d.is_multiple_of(11) {
                        // Lost on the way.
                        let answer = Happening::Answer { delivery: id, life, answer: Answer::Silence };
                        self.queue.push(self.now + 1_000, answer);
                    } else {
                        let mut body = delivery.body.clone();
                        if self.is(Fault::ResendSomethingElse) {
                            body["arguments"]["try"] = delivery.attempts.into();
                        }
                        self.queue.push(self.now + there, Happening::Invocation { delivery: id, life, body });
                    }
                }
                DeliveryKind::CancelToolCall => {
                    if let Some(call) = delivery.call.clone() {
                        self.queue.push(self.now + there, Happening::Cancel { call });
                    }
                    self.settle(id, Settlement::Delivered);
                }
                DeliveryKind::CloseThread => {
                    if !self.is(Fault::CloseWithoutNotice) {
                        let thread = delivery.thread.clone();
                        self.queue.push(self.now + there, Happening::ThreadClosed { thread });
                    }
                    self.settle(id, Settlement::Delivered);
                }
                DeliveryKind::ChoiceAnswer => {
                    let lost = d.is_multiple_of(11);
                    let selected = delivery.body["selected"].as_u64().unwrap_or_default();
                    let happening = match delivery.call.clone() {
                        Some(call) if !lost => Happening::Chosen { delivery: id, life, call, selected },
                        _ => Happening::Answer { delivery: id, life, answer: Answer::Silence },
                    };
                    self.queue.push(self.now + there, happening);
                }
                DeliveryKind::Refresh => {
                    let asked_at = delivery.body["asked_at"].as_i64().unwrap_or_default();
                    self.queue
                        .push(self.now + there, Happening::LookedAgain { delivery: id, life, asked_at });
                }
                _ => self.settle(id, Settlement::Delivered),
            }
        }
        !taken.is_empty()
    }

    fn give_up(&mut self, id: i64, delivery: &Delivery, may_have_arrived: bool) {
        let input = delivery.call.clone().map(|call| {
            let reason = "the server cannot be reached".to_owned();
            Box::new(NewInput {
                thread: delivery.thread.clone(),
                id: InputId::undelivered(&call),
                source: "runtime".into(),
                body: InputBody::Undelivered { call, may_have_arrived, reason },
                traceparent: None,
            })
        });
        self.settle(id, Settlement::GaveUp { reason: "gave up".into(), input });
    }

    pub(super) fn invoked(&mut self, delivery: i64, life: u32, body: &Value) -> Checked {
        let id = body["id"].as_str().unwrap_or_default();
        let tool = body["operation"].as_str().unwrap_or_default();
        self.checks.received(id, tool, &self.store)?;
        match self.servers.receive(body) {
            Received::New(call) => {
                if tool == server::ASKING {
                    if let Some(question) = self.servers.question(&call) {
                        self.post(question);
                    }
                    self.acknowledged(delivery, life, id);
                    return Ok(());
                }
                let takes = server::duration(tool, dice(self.seed, (call.as_str(), "work")));
                self.queue.push(self.now + takes, Happening::WorkDone { call });
            }
            Received::Again => {}
            Received::Changed => {
                return Err(broken("P6", format!("the call {id} came again with another content")));
            }
        }
        self.acknowledged(delivery, life, id);
        Ok(())
    }

    /// The acknowledgement may get lost on its way back.
    fn acknowledged(&mut self, delivery: i64, life: u32, id: &str) {
        let lost = dice(self.seed, (id, delivery, life)).is_multiple_of(7);
        let answer = if lost { Answer::Silence } else { Answer::Taken };
        self.queue.push(self.now + 5, Happening::Answer { delivery, life, answer });
    }

    /// The answer to a question reaches its server, which begins to work.
    pub(super) fn chosen(&mut self, delivery: i64, life: u32, call: CallId, selected: u64) -> Checked {
        match self.servers.choose(&call, selected) {
            Ok(true) => self.queue.push(self.now + 500, Happening::WorkDone { call: call.clone() }),
            Ok(false) => {}
            Err(before) => {
                let message = format!("{call} was answered {before}, and then {selected}");
                return Err(broken("P2", message));
            }
        }
        self.acknowledged(delivery, life, call.as_str());
        Ok(())
    }

    pub(super) fn answered(&mut self, delivery: i64, life: u32, answer: Answer) {
        if life != self.life || !self.up {
            return; // Whoever waited for it is gone; the outbox sends it again.
        }
        match answer {
            Answer::Taken => self.settle(delivery, Settlement::Delivered),
            Answer::Silence => {
                let again = self.clock() + 2_000 + self.dice.i64(0..10_000);
                self.settle(delivery, Settlement::RetryAt(again));
            }
            Answer::Refused => {
                if let Some(row) = self.store.delivery(delivery) {
                    self.give_up(delivery, &row, false);
                }
            }
        }
    }
}
