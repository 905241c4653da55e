//! Questions of tools to the person at the terminal: a choice is asked for, an authorization's address shown.

use crate::{
    failure::Failure,
    output::{DIM, NAME, Out, paint},
};
use rap_runtime::{
    AgentHost,
    core::{APPROVAL_CHOICES, Interaction, Surface},
};
use rap_types::{CallId, ThreadId};
use std::{collections::VecDeque, io::IsTerminal};
use tokio::sync::mpsc;

/// Whether somebody is there to be asked.
pub(crate) fn somebody_is_there(out: &Out) -> bool {
    !out.is_json() && std::io::stdin().is_terminal()
}

/// A question that waits for its answer.
struct Open {
    call: CallId,
    choices: Vec<String>,
    default: u64,
}

/// The questions that were asked and not answered.
pub(crate) struct Questions<'a> {
    out: &'a Out,
    ask: bool,
    open: VecDeque<Open>,
    lines: Option<mpsc::UnboundedReceiver<String>>,
}

impl<'a> Questions<'a> {
    pub(crate) fn new(out: &'a Out, ask: bool) -> Self {
        Self { out, ask, open: VecDeque::new(), lines: None }
    }

    /// Nobody is being asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Puts a question to the person, if this is one.
    pub(crate) async fn put(
        &mut self,
        what: &Surface,
        agent: &dyn AgentHost,
        session: &ThreadId,
    ) -> Result<(), Failure> {
        match what {
            Surface::Choice { prompt, choices, default, call } => {
                self.out.line(format_args!("{} {prompt}", paint(NAME, "    asks")));
                for (n, choice) in choices.iter().enumerate() {
                    let usual = if n as u64 == *default { " (default)" } else { "" };
                    self.out.line(format_args!("{:>8}. {choice}{usual}", n + 1));
                }
                if self.ask {
                    self.open.push_back(Open {
                        call: call.clone(),
                        choices: choices.clone(),
                        default: *default,
                    });
                    self.prompt();
                } else {
                    self.out.line(paint(DIM, "         nobody is there to answer: the default is picked"));
                }
            }
            Surface::Approval { call, name, arguments } => {
                self.out.line(format_args!("{} may {name} run with {arguments}?", paint(NAME, "    asks")));
                for (n, choice) in APPROVAL_CHOICES.iter().enumerate() {
                    let usual = if n == 0 { " (default)" } else { "" };
                    self.out.line(format_args!("{:>8}. {choice}{usual}", n + 1));
                }
                if self.ask {
                    let choices = APPROVAL_CHOICES.iter().map(ToString::to_string).collect();
                    self.open.push_back(Open { call: call.clone(), choices, default: 0 });
                    self.prompt();
                }
            }
            // Whoever else may answer has done so.
            Surface::Approved { call, .. } | Surface::Result { call, .. } => {
                self.open.retain(|open| open.call != *call)
            }
            Surface::Authorize { call } => {
                let asked = agent.open_questions(session).await.map_err(Failure::of)?;
                for question in asked {
                    if let Interaction::Authorize { call: its, url } = question.interaction
                        && its == *call
                    {
                        self.out.line(format_args!(
                            "{} open {} to go on",
                            paint(NAME, "    asks"),
                            url.as_str()
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The next answer: of which call, and the index picked. Never, while nobody is asked. An empty line, and
    /// the end of stdin, dismiss the question: the default is picked (CHO-01).
    pub(crate) async fn answered(&mut self) -> (CallId, u64) {
        loop {
            if self.open.is_empty() {
                return std::future::pending().await;
            }
            let line = self.next_line().await;
            let Some(open) = self.open.front() else { continue };
            match line.as_deref().map_or(Some(open.default), |line| picked(line, &open.choices, open.default))
            {
                Some(index) => {
                    let call = open.call.clone();
                    self.open.pop_front();
                    return (call, index);
                }
                None => self.prompt(),
            }
        }
    }

    fn prompt(&self) {
        if let Some(open) = self.open.front() {
            self.out.note(format_args!(
                "type a number from 1 to {} and press Enter; Enter alone picks {}",
                open.choices.len(),
                open.default.saturating_add(1)
            ));
        }
    }

    /// Stdin is read only once somebody is asked, by a thread that does not keep the program alive.
    /// None: it has ended.
    async fn next_line(&mut self) -> Option<String> {
        let lines = self.lines.get_or_insert_with(|| {
            let (send, receive) = mpsc::unbounded_channel();
            std::thread::spawn(move || {
                for line in std::io::stdin().lines().map_while(Result::ok) {
                    if send.send(line).is_err() {
                        break;
                    }
                }
            });
            receive
        });
        lines.recv().await
    }
}

/// The choice that a person means: by number or by its own text; by nothing, the default.
fn picked(line: &str, choices: &[String], default: u64) -> Option<u64> {
    let line = line.trim();
    if line.is_empty() {
        return Some(default);
    }
    let index = match line.parse::<usize>() {
        Ok(number) => number.checked_sub(1).filter(|index| *index < choices.len()),
        Err(_) => choices.iter().position(|choice| choice.eq_ignore_ascii_case(line)),
    };
    index.map(|index| index as u64)
}

#[cfg(test)]
mod tests {
    use super::picked;

    #[test]
    fn a_choice_is_picked_by_number_or_text() {
        let choices = ["yes".to_owned(), "no".to_owned()];
        for (line, index) in
            [("1", Some(0)), (" 2 ", Some(1)), ("No", Some(1)), ("0", None), ("3", None), ("", Some(1))]
        {
            assert_eq!(picked(line, &choices, 1), index, "{line:?}");
        }
    }
}
