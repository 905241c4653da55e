//! One line on a terminal that moves while the program waits, and goes away when something is written.

use super::lock;
use std::{
    io::{IsTerminal, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

const FRAMES: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const FRAME: Duration = Duration::from_millis(90);

#[derive(Debug)]
pub(crate) struct Progress {
    shared: Option<Arc<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    text: Option<(String, Instant)>,
    drawn: bool,
    painter: bool,
}

/// While it lives, the progress line is shown.
#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a Progress);

impl Progress {
    pub(crate) fn new(silent: bool) -> Self {
        let terminal =
            std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb");
        Self { shared: (terminal && !silent).then(Arc::default) }
    }

    pub(crate) fn show(&self, text: String) -> Waiting<'_> {
        if let Some(shared) = &self.shared {
            let mut state = lock(&shared.state);
            state.text = Some((text, Instant::now()));
            if !std::mem::replace(&mut state.painter, true) {
                let shared = shared.clone();
                std::thread::spawn(move || shared.paint());
            }
            shared.changed.notify_all();
        }
        Waiting(self)
    }

    /// Takes the line off; it is drawn again after the guard is dropped.
    pub(crate) fn pause(&self) -> Option<MutexGuard<'_, State>> {
        let mut state = lock(&self.shared.as_ref()?.state);
        state.wipe();
        Some(state)
    }
}

impl Shared {
    fn paint(&self) {
        let mut frame = 0;
        let mut state = lock(&self.state);
        loop {
            match &state.text {
                Some((text, since)) => {
                    let mut err = std::io::stderr().lock();
                    let seconds = since.elapsed().as_secs();
                    let _ = write!(err, "\r\x1b[K {} {text} {seconds} s", FRAMES[frame % FRAMES.len()]);
                    let _ = err.flush();
                    state.drawn = true;
                    frame += 1;
                    state = self
                        .changed
                        .wait_timeout(state, FRAME)
                        .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
                }
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl State {
    fn wipe(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "\r\x1b[K");
            let _ = err.flush();
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(shared) = &self.0.shared {
            let mut state = lock(&shared.state);
            state.text = None;
            state.wipe();
        }
    }
}
