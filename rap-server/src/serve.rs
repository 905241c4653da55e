//! Listening, spawned mode, and a clean end: stop taking work, tell the functions, deliver what is owed,
//! hand out what could not be.

use crate::{DeadLetter, ServerHandle, StartError, ToolServer, ToolService, server::EXPOSED};
use rap_http::{Listener, Serving};
use std::{io::Write, net::SocketAddr, time::Duration};

/// How a program of tools is served: what `weather --port 0` and a parent process ask for.
///
/// ```
/// use rap_server::{ServeOptions, StartError, ToolServer, tool};
///
/// /// Says hello.
/// #[tool]
/// async fn hello() -> &'static str {
///     "hello"
/// }
///
/// async fn serve() -> Result<(), StartError> {
///     let mut options = ServeOptions::new("127.0.0.1:0");
///     options.announce = true; // `{"port":N}` first
///     ToolServer::new("greeter").tool(hello).serve_with(options).await
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServeOptions {
    /// Where to listen, e.g. `127.0.0.1:3001`; port 0 picks a free one.
    pub address: String,
    /// Print `{"port":N}` as the first line on stdout.
    pub announce: bool,
    /// Stop when stdin ends.
    pub stop_on_stdin_end: bool,
}

impl ServeOptions {
    /// Listens there, says nothing, and takes no notice of stdin.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), announce: false, stop_on_stdin_end: false }
    }

    /// What the program was started with: `RAP_EMBEDDED=1` in the environment asks for a free loopback port
    /// and its announcement on stdout, and so does the argument `--port N` for that port;
    /// `--exit-on-stdin-eof` asks for an end with stdin. Otherwise `address`.
    ///
    /// # Errors
    /// An argument that is none of these, or a port that is none.
    pub fn from_env(address: impl Into<String>) -> Result<Self, StartError> {
        let embedded = std::env::var_os("RAP_EMBEDDED").is_some_and(|v| v == "1");
        Self::of(address.into(), embedded, std::env::args().skip(1))
    }

    fn of(
        address: String,
        embedded: bool,
        arguments: impl Iterator<Item = String>,
    ) -> Result<Self, StartError> {
        let mut options = Self::new(address);
        if embedded {
            options.address = "127.0.0.1:0".to_owned();
            options.announce = true;
        }
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let port = match argument.as_str() {
                "--exit-on-stdin-eof" => {
                    options.stop_on_stdin_end = true;
                    continue;
                }
                "--port" => arguments.next().unwrap_or_default(),
                other => match other.strip_prefix("--port=") {
                    Some(port) => port.to_owned(),
                    None => {
                        return Err(StartError::new(vec![format!(
                            "unknown argument {other:?}; there are --port N and --exit-on-stdin-eof"
                        )]));
                    }
                },
            };
            let port: u16 = port.parse().map_err(|_| {
                StartError::new(vec![format!("--port {port:?}: a port is a number from 0 to 65535")])
            })?;
            options.address = format!("127.0.0.1:{port}");
            options.announce = true;
        }
        Ok(options)
    }
}

/// What was owed when a server ended: callbacks that did not arrive, dead letters included, those of one call in the
/// order in which they were to arrive. Empty when all is well. What nobody would want any more is left out: an older
/// content of a view, a question whose answer could not be taken.
///
/// ```
/// use rap_server::{Bound, Undelivered};
///
/// /// Serves, and keeps what is still owed at the end: a URL, which is a secret, and what is to be POSTed there.
/// async fn serve(bound: Bound, stop: impl Future<Output = ()> + Send) -> std::io::Result<()> {
///     let Undelivered(owed) = bound.run_until(stop).await;
///     for letter in &owed {
///         std::fs::write(format!("owed-{}.url", letter.number()), letter.url().as_str())?;
///         std::fs::write(format!("owed-{}.json", letter.number()), letter.body())?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug, Default)]
#[must_use = "what was not delivered is lost unless it is kept"]
pub struct Undelivered(pub Vec<DeadLetter>);

/// A server that listens but does not answer yet.
///
/// ```
/// use rap_server::{ToolServer, tool};
///
/// /// Says hello.
/// #[tool]
/// async fn hello() -> &'static str {
///     "hello"
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bound = ToolServer::new("greeter").tool(hello).bind("127.0.0.1:0").await?;
/// println!("listening on {}", bound.local_addr());
/// let owed = bound.run_until(std::future::ready(())).await; // in earnest: a signal, or the end of a test
/// assert!(owed.0.is_empty(), "everything was delivered");
/// # Ok::<(), rap_server::StartError>(())
/// # }).unwrap();
/// ```
pub struct Bound {
    listener: Listener,
    service: ToolService,
    drain: Duration,
}

impl ToolServer {
    /// Is given what [`serve`](Self::serve), [`serve_with`](Self::serve_with) and
    /// [`serve_from_env`](Self::serve_from_env) could not deliver before their end, to keep it: after the time for a
    /// shutdown, or at once at a second signal. Not called when nothing is owed. Without it each letter is a line in
    /// the log, which tells what is lost but not its contents.
    ///
    /// ```no_run
    /// use rap_server::{StartError, ToolServer, tool};
    ///
    /// /// Says hello.
    /// #[tool]
    /// async fn hello() -> &'static str {
    ///     "hello"
    /// }
    ///
    /// # async fn serve() -> Result<(), StartError> {
    /// ToolServer::new("greeter")
    ///     .tool(hello)
    ///     .on_undelivered(|owed| {
    ///         for letter in owed.0 {
    ///             let body = String::from_utf8_lossy(letter.body());
    ///             eprintln!("not delivered: {} of {}: {body}", letter.kind(), letter.call());
    ///         }
    ///     })
    ///     .serve("127.0.0.1:3001")
    ///     .await
    /// # }
    /// ```
    pub fn on_undelivered(mut self, keep: impl FnOnce(Undelivered) + Send + 'static) -> Self {
        self.undelivered = Some(Box::new(keep));
        self
    }

    /// Serves until SIGINT or SIGTERM, then ends cleanly: functions are told, results delivered, for at most
    /// [`drain`](Self::drain). A second signal ends it at once. What could not be delivered is for
    /// [`on_undelivered`](Self::on_undelivered).
    ///
    /// # Errors
    /// Everything that keeps it from starting, at once.
    pub async fn serve(self, address: &str) -> Result<(), StartError> {
        self.serve_with(ServeOptions::new(address)).await
    }

    /// Serves as the environment and the program's arguments say ([`ServeOptions::from_env`]).
    ///
    /// # Errors
    /// Everything that keeps it from starting, at once.
    pub async fn serve_from_env(self, address: &str) -> Result<(), StartError> {
        self.serve_with(ServeOptions::from_env(address)?).await
    }

    /// Serves with options until SIGINT or SIGTERM, or the end of stdin where that is asked for.
    ///
    /// # Errors
    /// Everything that keeps it from starting, at once.
    pub async fn serve_with(mut self, options: ServeOptions) -> Result<(), StartError> {
        let keep = self.undelivered.take();
        let bound = self.bind(&options.address).await?;
        let mut signals = Signals::new()?;
        if options.announce {
            announce(bound.local_addr()).map_err(|e| StartError::io("cannot write the port to stdout", e))?;
        }
        tracing::info!(address = %bound.local_addr(), "serving tools");
        let (drain, handle, engine) = (bound.drain, bound.handle(), bound.service.engine().clone());
        let (stopping, stopped) = tokio::sync::oneshot::channel::<Signals>();
        let impatient = async {
            // Whoever asks twice means it.
            let Ok(mut signals) = stopped.await else { return std::future::pending().await };
            signals.next().await;
        };
        let stop = async move {
            tokio::select! {
                () = signals.next() => {}
                () = stdin_end(), if options.stop_on_stdin_end => {}
            }
            tracing::info!(
                open_calls = handle.open_calls(), limit = ?drain,
                "ending: what is owed is delivered first; a second signal ends it at once"
            );
            let _ = stopping.send(signals);
        };
        let owed = tokio::select! {
            Undelivered(owed) = bound.run_until(stop) => owed,
            () = impatient => {
                tracing::error!("ended at once by a second signal; what is owed is not delivered");
                engine.hand_out()
            }
        };
        match keep {
            Some(_) if owed.is_empty() => {}
            Some(keep) => keep(Undelivered(owed)),
            None => {
                for letter in owed {
                    tracing::error!(
                        ?letter,
                        bytes = letter.body().len(),
                        "a callback is lost: it was not delivered before the end, and no .on_undelivered(..) keeps it"
                    );
                }
            }
        }
        Ok(())
    }

    /// Listens on an address, e.g. `127.0.0.1:0`. The toolset is ready before the first request is taken
    /// (TLS-01).
    ///
    /// # Errors
    /// Everything that keeps it from starting, at once: faults of tools, a taken port, an address that other
    /// machines reach without authentication.
    pub async fn bind(self, address: &str) -> Result<Bound, StartError> {
        let listener = match Listener::bind(address, self.auth.clone()).await {
            Ok(listener) => listener,
            Err(e) => {
                let mut faults = vec![e.to_string()];
                let wanted = address.parse().ok();
                let base = self.base(wanted, &mut faults);
                self.check(base.as_ref(), true, &mut faults);
                return Err(StartError::new(faults));
            }
        };
        let mut faults = Vec::new();
        let loopback = listener.is_loopback();
        if !loopback && !self.auth.is_configured() {
            faults.push(EXPOSED.to_owned());
        }
        let base = self.base(Some(listener.local_addr()), &mut faults);
        let (engine, server) = self.start(base, loopback, None, faults)?;
        let service = ToolService::new(engine, &server, loopback);
        Ok(Bound { listener, service, drain: server.drain })
    }
}

impl Bound {
    /// Where it listens, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// A look into the server.
    pub fn handle(&self) -> ServerHandle {
        self.service.handle()
    }

    /// Serves until the future is done, then ends cleanly and hands out what could not be delivered.
    pub async fn run_until(self, stop: impl Future<Output = ()> + Send) -> Undelivered {
        let engine = self.service.engine().clone();
        let closing = tokio_util::sync::CancellationToken::new();
        let stopped = closing.clone().cancelled_owned();
        let serving = tokio::spawn(Serving::new().answers_at_once().run(
            self.listener.into_tcp(),
            self.service,
            stopped,
        ));
        stop.await;
        // Questions and notices are still answered while the calls end; then the door is closed.
        let owed = engine.shut_down(self.drain).await;
        closing.cancel();
        let abort = serving.abort_handle();
        if tokio::time::timeout(Duration::from_secs(1), serving).await.is_err() {
            abort.abort();
        }
        Undelivered(owed)
    }
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("local_addr", &self.local_addr()).finish_non_exhaustive()
    }
}

/// The first line on stdout; a parent that has closed the pipe afterwards is no trouble.
fn announce(address: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{{\"port\":{}}}", address.port())?;
    out.flush()
}

/// SIGINT and SIGTERM (Ctrl-C elsewhere), taken from the moment this is made.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Result<Self, StartError> {
        use tokio::signal::unix::{SignalKind, signal};
        let take = |kind| signal(kind).map_err(|e| StartError::io("cannot wait for signals", e));
        Ok(Self { interrupt: take(SignalKind::interrupt())?, terminate: take(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Result<Self, StartError> {
        Ok(Self)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// Done when stdin ends. On a thread of its own: a read of stdin cannot be called off, and must not keep the
/// program from ending.
async fn stdin_end() {
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(ended);
    });
    let _ = end.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the environment and the arguments ask for, and what they cannot.
    #[test]
    fn options() {
        let of = |embedded, arguments: &[&str]| {
            let arguments = arguments.iter().map(|argument| (*argument).to_owned());
            ServeOptions::of("0.0.0.0:80".into(), embedded, arguments)
                .map(|o| (o.address, o.announce, o.stop_on_stdin_end))
                .map_err(|e| e.to_string())
        };
        let asked = |address: &str, announce, stdin| Ok((address.to_owned(), announce, stdin));
        assert_eq!(of(false, &[]), asked("0.0.0.0:80", false, false));
        assert_eq!(of(true, &[]), asked("127.0.0.1:0", true, false));
        assert_eq!(of(true, &["--exit-on-stdin-eof"]), asked("127.0.0.1:0", true, true));
        assert_eq!(of(false, &["--port", "0"]), asked("127.0.0.1:0", true, false));
        assert_eq!(of(true, &["--port=4001", "--exit-on-stdin-eof"]), asked("127.0.0.1:4001", true, true));
        for wrong in [
            &["--port"][..],
            &["--port", "x"],
            &["--port=65536"],
            &["--port=-1"],
            &["4000"],
            &["--prot", "1"],
        ] {
            let error = of(false, wrong).unwrap_err();
            assert!(error.contains("--port"), "{wrong:?}: {error}");
        }
    }
}
