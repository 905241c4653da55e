//! How the messages of a call leave: one after the other, results and questions before events, events only
//! when the call's life says so and not faster than their rate.

use crate::{
    call::{CallInner, Core, Queue, What},
    engine::Engine,
    life::{Act, Input},
    outbox::Delivered,
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};
use tracing::Instrument;

impl Engine {
    /// There may be something to deliver. From any thread: a tool's own may know nothing of tokio.
    pub(crate) fn wake(self: &Arc<Self>, call: &Arc<CallInner>) {
        if start_pump(call) {
            call.runtime.spawn(pump(call.clone()).instrument(call.span.clone()));
        }
    }

    /// What came of a delivery, for the life of the call.
    fn settle(&self, call: &Arc<CallInner>, what: &What, delivered: Delivered) {
        use Delivered as D;
        let gone = matches!(delivered, D::Gone);
        let mut core = call.core();
        core.waiting = None;
        core.attempts = 0;
        let parcel = match core.sending.take() {
            Some(Queue::Urgent) => core.urgent.pop_front(),
            Some(Queue::Events) => core.events.pop_front(),
            // It was thrown away or handed out meanwhile.
            None => None,
        };
        if delivered == D::GaveWay {
            core.urgent.extend(parcel);
            core.views_last();
            return;
        }
        core.gone |= gone;
        let input = match what {
            What::Result if delivered == D::Taken => Some(Input::ResultTaken),
            What::Result => Some(Input::ResultLost),
            What::Event { .. } if gone => Some(Input::UrlGone),
            What::Event { last: true } => Some(Input::LastSettled),
            What::Event { .. } => None,
            What::View { view_type, number } => {
                self.forget_view(&call.thread, view_type, *number);
                gone.then_some(Input::UrlGone)
            }
            What::Question { token } => {
                if delivered != D::Taken {
                    self.questions.lost(token);
                }
                None
            }
        };
        if let Some(Act::DropEvents) = input.map(|input| core.life.input(input)) {
            call.drop_events(&mut core);
        }
    }
}

impl Core {
    /// What goes next. It stays in its queue until it is settled, so that a shutdown finds it.
    fn next(&mut self) -> Option<(What, Bytes)> {
        let (queue, parcel) = match self.urgent.front() {
            Some(parcel) => (Queue::Urgent, parcel),
            None if self.life.may_send_events() => (Queue::Events, self.events.front()?),
            None => return None,
        };
        self.sending = Some(queue);
        Some((parcel.what.clone(), parcel.body.clone()))
    }
}

/// Whether the caller is to pump: nobody else does.
pub(crate) fn start_pump(call: &CallInner) -> bool {
    let mut core = call.core();
    !std::mem::replace(&mut core.pumping, true)
}

/// Delivers what a call has to say, in order, until there is nothing more.
pub(crate) fn pump(call: Arc<CallInner>) -> impl Future<Output = ()> + Send {
    let pumping = Pumping(Some(call));
    async move {
        let Some(call) = &pumping.0 else { return };
        let engine = &call.engine;
        loop {
            let (what, body) = {
                let mut core = call.core();
                match core.next() {
                    Some(next) => next,
                    None => {
                        core.pumping = false;
                        break;
                    }
                }
            };
            if matches!(what, What::Event { .. }) {
                wait_for_slot(call).await;
            }
            let delivered = engine.outbox.deliver(call, &what, &body).await;
            engine.settle(call, &what, delivered);
        }
        engine.tidy(call);
        pumping.disarm();
    }
}

/// Somebody pumps; dropped before the end, with the runtime that it ran on, nobody does.
struct Pumping(Option<Arc<CallInner>>);

impl Pumping {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Pumping {
    fn drop(&mut self) {
        let Some(call) = self.0.take() else { return };
        let mut core = call.core();
        core.pumping = false;
        core.sending = None;
        core.waiting = None;
    }
}

/// The rate limit of events (SUB-11): so many a second, so many at once.
async fn wait_for_slot(call: &CallInner) {
    let settings = &call.engine.settings;
    let step = Duration::from_secs(1) / settings.events_per_second.max(1);
    let burst = step * settings.event_burst.saturating_sub(1);
    let slot = {
        let now = Instant::now();
        let mut core = call.core();
        let slot = core.event_slot.map_or(now, |slot| slot.max(now));
        core.event_slot = Some(slot + step);
        slot
    };
    let Some(at) = slot.checked_sub(burst) else { return };
    tokio::select! {
        () = sleep_until(at) => {}
        () = call.stopping.given() => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Call, Subscribed, Tool, ToolError, ToolServer,
        engine::{Came, Engine},
        outbox::Courier,
    };
    use futures_util::future::BoxFuture;
    use http::HeaderMap;
    use rap_http::Attempt;
    use rap_types::HttpUrl;
    use serde_json::{Value, json};
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };
    use tokio::{sync::mpsc, time::Instant};

    /// A runtime that answers some types of message with an error, or after half a minute only, and tells what it was
    /// sent and what it took.
    #[derive(Clone)]
    struct Choosy {
        refused: Arc<Mutex<Vec<&'static str>>>,
        hangs: bool,
        sent: mpsc::UnboundedSender<(Value, bool)>,
    }

    impl Courier for Choosy {
        fn post<'a>(&'a self, _: &'a HttpUrl, body: bytes::Bytes, _: HeaderMap) -> BoxFuture<'a, Attempt> {
            Box::pin(async move {
                tokio::task::yield_now().await;
                let message: Value = serde_json::from_slice(&body).unwrap();
                let refused = self.refused.lock().unwrap().iter().any(|kind| message["type"] == **kind);
                self.sent.send((message, !refused)).unwrap();
                if refused && self.hangs {
                    tokio::time::sleep(30 * SECOND).await;
                    return Attempt::TimedOut;
                }
                Attempt::status(if refused { 500 } else { 200 })
            })
        }
    }

    struct World {
        engine: Arc<Engine>,
        refused: Arc<Mutex<Vec<&'static str>>>,
        sent: mpsc::UnboundedReceiver<(Value, bool)>,
    }

    impl World {
        /// A server of one tool, in front of a runtime that refuses these types of message.
        fn new(tool: Tool, refused: &[&'static str]) -> Self {
            Self::of(tool, refused, false)
        }

        /// In front of one that does not answer them.
        fn hanging(tool: Tool, unanswered: &[&'static str]) -> Self {
            Self::of(tool, unanswered, true)
        }

        fn of(tool: Tool, refused: &[&'static str], hangs: bool) -> Self {
            let refused = Arc::new(Mutex::new(refused.to_vec()));
            let (sender, sent) = mpsc::unbounded_channel();
            let courier = Choosy { refused: refused.clone(), hangs, sent: sender };
            let base = HttpUrl::new("http://127.0.0.1:3001").ok();
            let server = ToolServer::new("t").tool(tool).time_limit(Duration::from_secs(600));
            let (engine, _) = server.start(base, true, Some(Box::new(courier)), Vec::new()).unwrap();
            let invocation = json!({"operation": "tool", "arguments": {}, "id": "c", "group_id": "t",
                "callback_url": "http://127.0.0.1:4000/"});
            engine.invoke(serde_json::from_value(invocation).unwrap(), Came::default()).unwrap();
            Self { engine, refused, sent }
        }

        /// The next message that is taken; how often each other was sent before it.
        async fn taken(&mut self, within: Duration) -> (Value, usize) {
            let mut refused = 0;
            let taken = tokio::time::timeout(within, async {
                loop {
                    let (message, taken) = self.sent.recv().await.unwrap();
                    if taken {
                        return message;
                    }
                    refused += 1;
                }
            });
            (taken.await.expect("a message"), refused)
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn views() -> Tool {
        Tool::new("tool", "d", async |call: Call| -> Result<String, ToolError> {
            for name in ["a", "b", "c"] {
                call.view(name, json!({"n": 1}))?;
            }
            tokio::time::sleep(Duration::from_secs(100)).await;
            call.view("d", json!({"n": 1}))?;
            Ok("done".into())
        })
    }

    /// INV-07, TRN-05: a runtime that refuses views gets the result at once all the same; afterwards each view is tried
    /// once more, and no longer.
    #[tokio::test(start_paused = true)]
    async fn a_result_does_not_wait_for_views() {
        let mut world = World::new(views(), &["view_update"]);
        let start = Instant::now();
        let (result, refused) = world.taken(Duration::from_secs(101)).await;
        assert_eq!((&result["type"], &result["text"]), (&json!("tool_result"), &json!("done")));
        assert!(start.elapsed() < Duration::from_secs(101) && refused >= 4, "{refused}");
        while world.engine.open_calls() > 0 {
            tokio::time::sleep(SECOND).await;
        }
        assert!(start.elapsed() < Duration::from_secs(105), "{:?}", start.elapsed());
        let mut late = Vec::new();
        while let Ok((message, _)) = world.sent.try_recv() {
            late.push(message["view_type"].as_str().unwrap().to_owned());
        }
        late.sort();
        assert_eq!(late, ["a", "b", "c", "d"]);
        assert!(world.engine.outbox.letters.list().is_empty(), "nobody misses them");
    }

    /// VIW-01: a view that failed and was overtaken by the result still arrives when the runtime takes views again.
    #[tokio::test(start_paused = true)]
    async fn a_view_comes_after_the_result_it_let_go_first() {
        let mut world = World::new(views(), &["view_update"]);
        tokio::time::sleep(Duration::from_secs(99)).await;
        world.refused.lock().unwrap().push("tool_result");
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.refused.lock().unwrap().clear();
        let mut kinds = Vec::new();
        for _ in 0..5 {
            let (message, _) = world.taken(Duration::from_secs(10)).await;
            kinds.push(message["type"].as_str().unwrap().to_owned());
        }
        assert_eq!(kinds[0], "tool_result");
        assert!(kinds[1..].iter().all(|kind| kind == "view_update"), "{kinds:?}");
    }

    fn asks(seconds: u64) -> Tool {
        Tool::new("tool", "d", move |call: Call| async move {
            let asking = call.choose("Which?", ["a"], 0);
            match tokio::time::timeout(Duration::from_secs(seconds), asking).await {
                Ok(picked) => picked.map_or_else(|e| e.to_string(), |pick| pick.text),
                Err(_) => "nobody answered".into(),
            }
        })
    }

    /// CHO-03, CAN-02, INV-07: a question whose call was cancelled, or whose tool waits no longer, is not sent any more,
    /// however long the pause that it was in, and holds no result up.
    #[tokio::test(start_paused = true)]
    async fn a_question_that_nobody_awaits_is_not_asked() {
        for cancel in [true, false] {
            let mut world = World::new(asks(if cancel { 500 } else { 100 }), &["user_choice"]);
            let start = Instant::now();
            tokio::time::sleep(Duration::from_secs(100)).await;
            if cancel {
                world.engine.stop(&"t".parse().unwrap(), Some(&"c".parse().unwrap()));
            }
            world.refused.lock().unwrap().clear();
            let (message, refused) = world.taken(Duration::from_secs(10)).await;
            assert_eq!(message["type"], "tool_result", "{message}");
            let text = if cancel { "the call was cancelled" } else { "nobody answered" };
            assert!(message["text"].as_str().unwrap().ends_with(text), "{message}");
            assert!(refused > 3 && start.elapsed() < Duration::from_secs(101), "{:?}", start.elapsed());
            tokio::time::sleep(Duration::from_secs(100 * 3600)).await;
            assert!(world.sent.try_recv().is_err(), "nothing more");
            assert_eq!((world.engine.open_calls(), world.engine.questions.open_count()), (0, 0));
        }
    }

    /// CHO-01: a question that waits behind a view which nobody takes is asked at once, and one whose tool gave up
    /// meanwhile is not asked at all.
    #[tokio::test(start_paused = true)]
    async fn questions_behind_a_view() {
        let tool = Tool::new("tool", "d", async |call: Call| -> Result<String, ToolError> {
            call.view("a", json!({"n": 1}))?;
            // Before the way out had a turn.
            let given_up = tokio::time::timeout(Duration::ZERO, call.choose("First?", ["a"], 0)).await;
            assert!(given_up.is_err());
            call.choose("Second?", ["a"], 0).await.map(|pick| pick.text)
        });
        let mut world = World::new(tool, &["view_update"]);
        let (question, _) = world.taken(SECOND).await;
        assert_eq!(question["prompt"], "Second?");
        let token = question["response_url"].as_str().unwrap().rsplit('/').next().unwrap();
        world.engine.questions.answer(token, "c", Some(0));
        assert_eq!(world.taken(SECOND).await.0["text"], "a");
    }

    /// INV-07: a runtime that does not answer views gets the result soon all the same, however many views there are, and
    /// the views after it.
    #[tokio::test(start_paused = true)]
    async fn a_result_does_not_wait_for_views_that_hang() {
        let tool = Tool::new("tool", "d", async |call: Call| -> Result<String, ToolError> {
            for name in ["a", "b", "c"] {
                call.view(name, json!({"n": 1}))?;
            }
            tokio::time::sleep(SECOND * 10).await;
            Ok("done".into())
        });
        let start = Instant::now();
        let mut world = World::hanging(tool, &["view_update"]);
        let (result, unanswered) = world.taken(SECOND * 100).await;
        assert_eq!((&result["text"], unanswered, start.elapsed().as_secs()), (&json!("done"), 1, 15));
        world.refused.lock().unwrap().clear();
        let mut views = Vec::new();
        for _ in 0..3 {
            views.push(world.taken(SECOND * 100).await.0["view_type"].clone());
        }
        assert_eq!(views, ["b", "c", "a"]);
        while world.engine.open_calls() > 0 {
            tokio::time::sleep(SECOND).await;
        }
        assert!(world.sent.try_recv().is_err(), "nothing more");
    }

    /// VIW-01: a view on its way is not sent twice because of a question that is taken back while it waits behind it.
    #[tokio::test(start_paused = true)]
    async fn nothing_waits_any_more() {
        let tool = Tool::new("tool", "d", async |call: Call| -> Result<String, ToolError> {
            call.view("a", json!({"n": 1}))?;
            tokio::time::sleep(SECOND).await;
            let asking = tokio::time::timeout(SECOND * 2, call.choose("Which?", ["x"], 0)).await;
            assert!(asking.is_err(), "it waits behind the view");
            tokio::time::sleep(SECOND * 20).await;
            Ok("done".into())
        });
        let mut world = World::hanging(tool, &["view_update"]);
        let (result, unanswered) = world.taken(SECOND * 100).await;
        assert_eq!((&result["text"], unanswered), (&json!("done"), 1));
    }

    /// INV-07, SUB-01: a question that hangs gives way to what the function returned: a result after it waited no longer,
    /// a confirmation while another task still asks.
    #[tokio::test(start_paused = true)]
    async fn nothing_waits_for_a_question_that_hangs() {
        let start = Instant::now();
        let tool = Tool::new("tool", "d", async |call: Call| -> Result<Subscribed, ToolError> {
            let asking = call.clone();
            tokio::spawn(async move { asking.choose("Which?", ["a"], 0).await.map(drop) });
            tokio::time::sleep(SECOND * 10).await;
            let (subscribed, events) = call.subscribe().confirm("watching");
            tokio::spawn(async move { events.finish("over").await });
            Ok(subscribed)
        });
        let mut world = World::hanging(tool, &["user_choice"]);
        let (confirmed, unanswered) = world.taken(SECOND * 100).await;
        assert_eq!((&confirmed["text"], unanswered, start.elapsed().as_secs()), (&json!("watching"), 1, 15));
        let start = Instant::now();
        let mut world = World::hanging(asks(10), &["user_choice"]);
        let (result, unanswered) = world.taken(SECOND * 100).await;
        let expected = (&json!("nobody answered"), 1, 15);
        assert_eq!((&result["text"], unanswered, start.elapsed().as_secs()), expected);
        assert_eq!(world.engine.questions.open_count(), 0);
        tokio::time::sleep(SECOND * 1000).await;
        assert!(world.sent.try_recv().is_err(), "it is not asked any more");
        assert_eq!(world.engine.open_calls(), 0);
    }

    /// SUB-01: a subscription goes on behind a view which nobody takes only as far as the view's schedule says, and
    /// its confirmation is not held up.
    #[tokio::test(start_paused = true)]
    async fn a_confirmation_does_not_wait_for_views() {
        let tool = Tool::new("tool", "d", async |call: Call| -> Result<Subscribed, ToolError> {
            call.view("a", json!({"n": 1}))?;
            tokio::time::sleep(Duration::from_secs(100)).await;
            let (subscribed, events) = call.subscribe().confirm("watching");
            tokio::spawn(async move { events.finish("over").await });
            Ok(subscribed)
        });
        let mut world = World::new(tool, &["view_update"]);
        let (confirmed, _) = world.taken(Duration::from_secs(101)).await;
        assert_eq!(confirmed["subscription"], true);
    }
}
