//! What people do in a world, when the runtime dies in it, and the session that it is about.

use super::World;
use crate::{network::Happening, server::TOOLS};
use rap_core::{Millis, OfferedTool, Rules, ServerCard, Session, Toolbox};
use rap_types::{HttpUrl, ThreadId, ToolName};
use serde_json::Map;

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
        for _ in 0..self.dice.u32(0..5) {
            let crash = self.dice.i64(0..at.max(1) + 60_000);
            self.queue.push(Millis(crash), Happening::Crash);
        }
    }
}

/// A session with the simulated tools, and some more.
pub(crate) fn session(root: &ThreadId, more: &[&str]) -> Session {
    let mut schema = Map::new();
    schema.insert("type".into(), "object".into());
    let tool = |name: &str| OfferedTool {
        name: name.into(),
        operation: ToolName::new(name).expect("bug: a legal name"),
        server: 0,
        description: name.into(),
        input_schema: schema.clone(),
        long_running: name == "build",
        destructive: false,
        display_script: None,
    };
    let url = |text: &str| HttpUrl::new(text).expect("bug: a legal URL");
    let server =
        ServerCard { name: "sim".into(), base: url("http://sim/"), endpoint: url("http://sim/invoke") };
    Session {
        id: root.clone(),
        owner: None,
        user: None,
        created_at: Millis(0),
        model: None,
        system: "You are simulated.".into(),
        toolbox: Toolbox {
            tools: TOOLS.iter().chain(more).map(|name| tool(name)).collect(),
            servers: vec![server],
            ..Toolbox::default()
        },
        rules: Rules::default(),
    }
}
