//! What people do in a world, when the runtime dies in it, and the session that it is about.

use super::World;
use crate::{
    model::dice,
    network::Happening,
    server::{DESTRUCTIVE, TOOLS},
};
use rap_core::{DestructivePolicy, Millis, OfferedTool, Rules, ServerCard, Session, Toolbox};
use rap_types::{HttpUrl, ThreadId, ToolName};
use serde_json::Map;

const HOUR: i64 = 3_600_000;

impl World {
    /// What people do, and when the runtime dies.
    pub(super) fn script(&mut self) {
        let mut at = 0;
        for n in 0..self.dice.u32(2..6) {
            self.queue.push(Millis(at), Happening::Message { n });
            at += self.dice.i64(0..120_000);
        }
        if self.dice.u8(0..4) == 0 {
            let stop = self.dice.i64(0..at.max(1));
            self.queue.push(Millis(stop), Happening::Stop);
            self.queue.push(Millis(at + 300_000), Happening::Message { n: 99 });
        }
        if self.dice.u8(0..4) == 0 {
            let wish = self.dice.i64(0..at.max(1));
            self.queue.push(Millis(wish), Happening::Compact);
        }
        for _ in 0..self.dice.u32(0..3) / 2 {
            let change = self.dice.i64(0..at.max(1));
            self.queue.push(Millis(change), Happening::Refresh);
        }
        for _ in 0..self.dice.u32(0..12).saturating_sub(9) {
            let jump = self.dice.i64(0..at.max(1) + 60_000);
            let by = self.dice.i64(-2 * HOUR..2 * HOUR);
            self.queue.push(Millis(jump), Happening::ClockJumps { by });
        }
        if self.dice.u8(0..30) == 0 {
            let begins = self.dice.i64(0..at.max(1) + 60_000);
            let ms = self.dice.i64(0..72 * HOUR);
            self.queue.push(Millis(begins), Happening::Outage { ms });
        }
        // By dice of its own, so that what else happens in a world stays what it was.
        for n in 0..u32::try_from(dice(self.seed, "choices") % 4).unwrap_or(0).saturating_sub(1) {
            let when = dice(self.seed, ("choice", n)) % at.max(1).unsigned_abs();
            self.queue.push(Millis(when as i64), Happening::Choose { n });
        }
        if dice(self.seed, "looks").is_multiple_of(4) {
            let when = dice(self.seed, "when a look is wanted") % at.max(1).unsigned_abs();
            self.queue.push(Millis(when as i64), Happening::LookAgain);
        }
        for _ in 0..self.dice.u32(0..5) {
            let crash = self.dice.i64(0..at.max(1) + 60_000);
            self.queue.push(Millis(crash), Happening::Crash);
        }
    }
}

/// A session with the simulated tools.
pub(crate) fn session(root: &ThreadId) -> Session {
    let mut schema = Map::new();
    schema.insert("type".into(), "object".into());
    let tool = |name: &str| OfferedTool {
        name: name.into(),
        operation: ToolName::new(name).expect("bug: a legal name"),
        server: 0,
        description: name.into(),
        input_schema: schema.clone(),
        long_running: name == "build",
        destructive: name == DESTRUCTIVE,
        display_script: None,
    };
    let url = |text: &str| HttpUrl::new(text).expect("bug: a legal URL");
    let server =
        ServerCard { name: "sim".into(), base: url("http://sim/"), endpoint: url("http://sim/invoke") };
    let mut rules = Rules::default();
    rules.destructive = DestructivePolicy::Ask;
    Session {
        id: root.clone(),
        owner: None,
        user: None,
        created_at: Millis(0),
        model: None,
        system: "You are simulated.".into(),
        toolbox: Toolbox {
            tools: TOOLS.iter().map(|name| tool(name)).collect(),
            servers: vec![server],
            ..Toolbox::default()
        },
        rules,
    }
}

/// A toolbox whose server has moved for the nth time, and which has one more tool.
pub(crate) fn moved(toolbox: &Toolbox, n: u64) -> Toolbox {
    let mut moved = toolbox.clone();
    for server in &mut moved.servers {
        server.endpoint = HttpUrl::new(format!("http://sim/invoke/{n}")).expect("bug: a legal URL");
    }
    if let Some(tool) = moved.tools.first().cloned() {
        moved.tools.push(OfferedTool { name: format!("more_{n}"), ..tool });
    }
    moved
}
