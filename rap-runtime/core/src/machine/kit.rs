//! What follows from a session alone and is needed by every slice of it: the tools as a model is told of them,
//! and their compiled schemas. Worked out once per session and operating-system thread, and kept for the few
//! sessions that were needed last. A session never changes behind its `Arc`, so a kit that is found is right.

use super::record::Hashing;
use crate::{Session, ToolForModel};
use rap_types::validate::CompiledSchema;
use serde_json::{Map, Value};
use std::{
    cell::{OnceCell, RefCell},
    rc::Rc,
    sync::{Arc, Weak},
};

/// Sessions whose kits a thread keeps at most.
const KEPT: usize = 16;

thread_local! {
    /// The newest last.
    static KITS: RefCell<Vec<(Weak<Session>, Rc<Kit>)>> = const { RefCell::new(Vec::new()) };
}

pub(crate) struct Kit {
    /// The session that it was made for.
    of: Arc<Session>,
    pub(crate) system: Arc<str>,
    pub(crate) tools: Arc<[ToolForModel]>,
    /// The model that the session began with.
    pub(super) model: Option<String>,
    /// The hash of a request, as far as it is the same for all requests of the session.
    pub(super) hash: Hashing,
    /// [`Toolbox::fingerprint`](crate::Toolbox::fingerprint).
    pub(crate) fingerprint: String,
    /// Of the program's own tools, then of the servers'.
    schemas: Vec<OnceCell<Result<CompiledSchema, String>>>,
}

/// The kit of a session.
pub(crate) fn of(session: &Arc<Session>) -> Rc<Kit> {
    KITS.with_borrow_mut(|kits| {
        let known = kits.iter().position(|(of, _)| std::ptr::eq(of.as_ptr(), Arc::as_ptr(session)));
        if let Some(at) = known {
            return kits[at].1.clone();
        }
        // Sessions of one agent often differ in nothing that matters here.
        let alike = kits.iter().rev().find(|(_, kit)| are_alike(&kit.of, session));
        let kit = alike.map_or_else(|| Rc::new(Kit::new(session)), |(_, kit)| kit.clone());
        if kits.len() >= KEPT {
            kits.remove(0);
        }
        kits.push((Arc::downgrade(session), kit.clone()));
        kit
    })
}

/// Whether all that a kit is made of is the same.
fn are_alike(one: &Session, other: &Session) -> bool {
    let (a, b) = (&one.toolbox, &other.toolbox);
    (&one.model, &one.system, &a.without, &a.servers, &a.tools)
        == (&other.model, &other.system, &b.without, &b.servers, &b.tools)
}

impl Kit {
    fn new(session: &Arc<Session>) -> Self {
        let tools: Arc<[ToolForModel]> = session.toolbox.for_model().into();
        let mut hash = Hashing::default();
        hash.add(&(&session.model, &session.system));
        tools.iter().for_each(|tool| hash.add(tool));
        Self {
            of: session.clone(),
            system: Arc::from(session.system.as_str()),
            tools,
            model: session.model.clone(),
            hash,
            fingerprint: session.toolbox.fingerprint(),
            schemas: vec![OnceCell::new(); session.toolbox.own.len() + session.toolbox.tools.len()],
        }
    }

    /// The compiled schema of the session's nth tool, the program's own first, or what is wrong with it.
    pub(crate) fn schema(&self, n: usize, schema: &Map<String, Value>) -> Result<CompiledSchema, String> {
        let compile = || CompiledSchema::new(schema).map_err(|fault| fault.to_string());
        self.schemas.get(n).map_or_else(compile, |schema| schema.get_or_init(compile).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Millis, Rules, Toolbox};
    use rap_types::ThreadId;

    fn session(id: &str, system: &str) -> Arc<Session> {
        Arc::new(Session {
            id: ThreadId::new(id).unwrap(),
            owner: None,
            user: None,
            created_at: Millis(1),
            model: None,
            system: system.into(),
            toolbox: Toolbox::default(),
            rules: Rules::default(),
        })
    }

    /// What is worked out once is found again, shared by sessions that are alike, and by no others.
    #[test]
    fn kits_are_shared_where_sessions_are_alike() {
        let (one, alike, other) =
            (session("one", "be kind"), session("two", "be kind"), session("three", "be brief"));
        let without = Toolbox { without: vec!["sleep".into()], ..Toolbox::default() };
        let fewer = Arc::new(Session { toolbox: without, ..(*one).clone() });
        let first = of(&one);
        assert!(Rc::ptr_eq(&first, &of(&alike)) && Rc::ptr_eq(&first, &of(&one)));
        for different in [&other, &fewer] {
            let kit = of(different);
            assert!(!Rc::ptr_eq(&first, &kit) && Rc::ptr_eq(&kit, &of(different)));
        }
        for n in 0..2 * KEPT {
            of(&session(&format!("passing-{n}"), &format!("{n}")));
        }
        assert_eq!(of(&one).fingerprint, first.fingerprint);
    }
}
