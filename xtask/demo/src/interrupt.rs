//! What ends a demo before its time.

use anyhow::{Context, Result};

/// Ctrl-C, a terminal that is closed, or a polite request to end: the signal's number.
pub(crate) async fn interrupted() -> Result<u8> {
    const INTERRUPT: u8 = 2;
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let mut hang_up = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
        tokio::select! {
            interrupt = tokio::signal::ctrl_c() => interrupt.context("listening for Ctrl-C").map(|()| INTERRUPT),
            _ = terminate.recv() => Ok(15),
            _ = hang_up.recv() => Ok(1),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.context("listening for Ctrl-C").map(|()| INTERRUPT)
}
