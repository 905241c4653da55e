//! One line on a terminal that moves while the program waits, and goes away when something is written.

use super::lock;
use std::{
    io::{IsTerminal, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

const FRAMES: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/// What is over sooner is not worth a line.
const DELAY: Duration = Duration::from_millis(200);
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
                Some((_, since)) if since.elapsed() < DELAY => {
                    let rest = DELAY.saturating_sub(since.elapsed());
                    state = self.wait(state, rest);
                }
                Some((text, since)) => {
                    let seconds = since.elapsed().as_secs();
                    draw(&format!(" {} {text} {seconds} s", FRAMES[frame % FRAMES.len()]));
                    state.drawn = true;
                    frame += 1;
                    state = self.wait(state, FRAME);
                }
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Shared {
    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, time);
        waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state)
    }
}

impl State {
    fn wipe(&mut self) {
        if std::mem::take(&mut self.drawn) {
            draw("");
        }
    }
}

/// Writes over the line. Stderr is locked here alone, never while anything is waited for.
fn draw(line: &str) {
    let mut err = std::io::stderr().lock();
    let _ = write!(err, "\r\x1b[K{line}");
    let _ = err.flush();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The painter once kept stderr locked while it slept, and whoever took the line off waited for ever.
    #[test]
    fn the_line_can_be_taken_off_while_it_moves() {
        let (done, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let progress = Progress { shared: Some(Arc::default()) };
            let is_drawn = || progress.shared.as_ref().is_some_and(|shared| lock(&shared.state).drawn);
            for _ in 0..3 {
                let waiting = progress.show("something".to_owned());
                while !is_drawn() {
                    std::thread::yield_now();
                }
                drop(progress.pause());
                drop(waiting);
                assert!(!is_drawn());
            }
            done.send(()).unwrap();
        });
        wait.recv_timeout(Duration::from_secs(60)).expect("the line is taken off");
    }
}
