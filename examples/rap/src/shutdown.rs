//! When to stop: Ctrl-C, SIGTERM, a closed terminal, or the end of stdin where a parent asked for that.

use crate::failure::Failure;

/// Done on SIGINT, SIGTERM or SIGHUP (Ctrl-C elsewhere). Listens from the moment this returns.
pub(crate) fn signals() -> Result<impl Future<Output = ()> + Send, Failure> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let on = |kind| signal(kind).map_err(|e| Failure::new(format!("cannot listen for signals: {e}")));
        let mut interrupt = on(SignalKind::interrupt())?;
        let mut terminate = on(SignalKind::terminate())?;
        let mut hangup = on(SignalKind::hangup())?;
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

/// Done when stdin ends. The thread that reads it cannot be called off and does not keep the program alive.
pub(crate) async fn stdin_ends() {
    let (held, ended) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(held);
    });
    let _ = ended.await;
}

/// [`signals`], and [`stdin_ends`] where asked for.
pub(crate) fn asked_to_stop(with_stdin: bool) -> Result<impl Future<Output = ()> + Send, Failure> {
    let signals = signals()?;
    Ok(async move {
        tokio::select! {
            () = signals => {}
            () = stdin_ends(), if with_stdin => {}
        }
    })
}
