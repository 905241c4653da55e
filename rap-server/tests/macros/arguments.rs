//! What the compiler finds in arguments and futures: types that cannot be read, futures that cannot travel.

use rap_server::{Args, ToolServer, tool};
use std::sync::Mutex;

struct Place;

/// An argument without the derives.
#[tool]
async fn plain(_place: Place) {}

/// A struct of arguments without the derives.
#[tool]
async fn whole(Args(_place): Args<Place>) {}

/// Holds a lock while it waits.
#[tool]
async fn locked(minutes: u64) -> u64 {
    let lock = Mutex::new(minutes);
    let guard = lock.lock().unwrap();
    std::future::ready(()).await;
    *guard
}

struct Notes(Mutex<Vec<String>>);

impl Notes {
    /// Holds a lock while it waits.
    #[tool]
    async fn add(&self, text: String) -> usize {
        let mut notes = self.0.lock().unwrap();
        notes.push(text);
        std::future::ready(()).await;
        notes.len()
    }
}

fn main() {
    let _ = ToolServer::new("x").state(Notes(Mutex::default())).tool(Notes::add);
}
